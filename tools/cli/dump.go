package cli

import (
	"bufio"

	"github.com/spf13/cobra"
)

func (a *app) keysCmd() *cobra.Command {
	var form keyForm
	var null bool
	cmd := &cobra.Command{
		Use:   "keys FILE",
		Short: "Write every key to stdout, one a line, in no order",
		Args:  cobra.ExactArgs(1),
	}
	cmd.RunE = a.onFile(0, func(cmd *cobra.Command, args []string) error {
		end := byte('\n')
		if null {
			end = 0
		}
		return a.writeEntries(cmd, args[0], func(dst, key, _ []byte) []byte {
			return append(form.appendTo(dst, key), end)
		})
	})
	form.addFlags(cmd)
	cmd.Flags().BoolVarP(&null, "null", "0", false, "end each key with a zero byte instead of a line feed")
	return cmd
}

func (a *app) dumpCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dump FILE",
		Short: "Write every entry to stdout, as load reads it",
		Long:  `Write every entry to stdout as a line {"key":"base64","value":"base64"}, in no order.`,
		Args:  cobra.ExactArgs(1),
	}
	cmd.RunE = a.onFile(0, func(cmd *cobra.Command, args []string) error {
		return a.writeEntries(cmd, args[0], appendEntry)
	})
	return cmd
}

// writeEntries writes each entry of the map at path to stdout in the form that
// appendTo gives it.
func (a *app) writeEntries(cmd *cobra.Command, path string, appendTo func(dst, key, value []byte) []byte) (err error) {
	db, err := a.openReadOnly(cmd, path)
	if err != nil {
		return err
	}
	defer closeInto(&err, db)
	w := bufio.NewWriterSize(cmd.OutOrStdout(), 1<<16)
	var buf []byte
	err = a.forEach(cmd, db, cmd.Name(), func(key, value []byte) error {
		buf = appendTo(buf[:0], key, value)
		_, err := w.Write(buf)
		return err
	})
	// What was read before an error is good data.
	return first(err, w.Flush())
}
