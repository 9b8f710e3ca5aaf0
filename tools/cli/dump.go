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
		return a.writeEntries(cmd, args[0], keysForm{&form, end})
	})
	form.addFlags(cmd)
	cmd.Flags().BoolVarP(&null, "null", "0", false, "end each key with a zero byte instead of a line feed")
	return cmd
}

// keysForm writes the keys alone.
type keysForm struct {
	form *keyForm
	end  byte
}

func (keysForm) appendHeader(dst []byte) []byte { return dst }
func (keysForm) appendFooter(dst []byte) []byte { return dst }
func (f keysForm) appendEntry(dst, key, _ []byte) []byte {
	return append(f.form.appendTo(dst, key), f.end)
}

func (a *app) dumpCmd() *cobra.Command {
	var flags formFlags
	cmd := &cobra.Command{
		Use:   "dump FILE",
		Short: "Write every entry to stdout, as load reads it",
		Long: "Write every entry to stdout, in no order. --format says how:\n\n" +
			"  ndjson  a line {\"key\":\"base64\",\"value\":\"base64\"} for each\n" +
			"  bdb     as db_dump and mdb_dump write it, for db_load and mdb_load\n" +
			"  tsv     a line key, tab, value for each, with \\t \\n \\r \\\\ and \\x00 for those bytes",
		Args: cobra.ExactArgs(1),
	}
	cmd.RunE = a.onFile(0, func(cmd *cobra.Command, args []string) error {
		form, err := flags.form(cmd)
		if err != nil {
			return err
		}
		return a.writeEntries(cmd, args[0], form)
	})
	flags.addFlags(cmd)
	cmd.Flags().Uint64Var(&flags.mapSize, "mapsize", 0, "with bdb: `bytes` of the environment that mdb_load is to make; without it mdb_load makes one of 1 MiB, and db_load does not know the line")
	return cmd
}

// entryWriter gives entries their form.
type entryWriter interface {
	appendHeader(dst []byte) []byte
	appendEntry(dst, key, value []byte) []byte
	appendFooter(dst []byte) []byte
}

// writeEntries writes each entry of the map at path to stdout.
func (a *app) writeEntries(cmd *cobra.Command, path string, form entryWriter) (err error) {
	db, err := a.openReadOnly(cmd, path)
	if err != nil {
		return err
	}
	defer closeInto(&err, db)
	w := bufio.NewWriterSize(cmd.OutOrStdout(), 1<<16)
	buf := form.appendHeader(nil)
	if _, err := w.Write(buf); err != nil {
		return err
	}
	err = a.forEach(cmd, db, cmd.Name(), func(key, value []byte) error {
		buf = form.appendEntry(buf[:0], key, value)
		_, err := w.Write(buf)
		return err
	})
	if err == nil { // without its end a dump is known to be cut short
		_, err = w.Write(form.appendFooter(buf[:0]))
	}
	// What was read before an error is good data.
	return first(err, w.Flush())
}
