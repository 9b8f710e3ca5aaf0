package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mapfile-db/mapfile"
)

// differ compares two maps. Its heap holds one entry at a time: each key of one map is looked up in the other.
type differ struct {
	a, b    *mapfile.DB
	w       *bufio.Writer
	form    keyForm
	asJSON  bool
	buf     []byte
	missing uint64 // in a alone
	added   uint64 // in b alone
	changed uint64
}

// diffLine is a difference with --json.
type diffLine struct {
	Change string `json:"change"` // missing, added, or changed
	Key    []byte `json:"key"`    // in base64
}

func (a *app) diffCmd() *cobra.Command {
	var form keyForm
	cmd := &cobra.Command{
		Use:   "diff A B",
		Short: "List the keys missing, added and changed in B; exit code 1 on a difference",
		Long: "List the keys of A that are missing in B (-), those that B has besides (+), and those\n" +
			"whose values differ (~), one a line, in no order. Exit code 0: the maps hold the same,\n" +
			"1: they do not.",
		Args: cobra.ExactArgs(2),
	}
	asJSON := cmd.Flags().Bool("json", false, `print each difference as a line {"change":"…","key":"base64"}`)
	form.addFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		arg, err := a.diff(cmd, args, &differ{form: form, asJSON: *asJSON, w: bufio.NewWriterSize(cmd.OutOrStdout(), 1<<16)})
		return a.onFile(arg, func(*cobra.Command, []string) error { return err })(cmd, args)
	}
	return cmd
}

// diff answers, beside its error, to which of the two maps it happened.
func (a *app) diff(cmd *cobra.Command, args []string, d *differ) (arg int, err error) {
	if d.a, err = a.openReadOnly(cmd, args[0]); err != nil {
		return 0, err
	}
	defer closeInto(&err, d.a)
	if d.b, err = a.openReadOnly(cmd, args[1]); err != nil {
		return 1, err
	}
	defer closeInto(&err, d.b)
	err = a.forEach(cmd, d.a, "comparing", d.lookUp)
	if err == nil {
		err = a.forEach(cmd, d.b, "looking for added keys", d.lookBack)
	}
	var damage *mapfile.CorruptError
	if errors.As(err, &damage) && damage.Path == d.b.Path() {
		arg = 1
	}
	if err = first(err, d.w.Flush()); err == nil && d.missing+d.added+d.changed > 0 {
		err = fmt.Errorf("mapfile: %s and %s: %w: %s missing, %s added, %s changed", args[0], args[1], errDiffers,
			formatCount(d.missing), formatCount(d.added), formatCount(d.changed))
	}
	return arg, err
}

// lookUp compares an entry of a with b.
func (d *differ) lookUp(key, value []byte) error {
	same := false
	err := d.b.GetFunc(key, func(other []byte) error {
		same = bytes.Equal(value, other)
		return nil
	})
	switch {
	case errors.Is(err, mapfile.ErrNotFound):
		d.missing++
		return d.tell("missing", '-', key)
	case err != nil || same:
		return err
	}
	d.changed++
	return d.tell("changed", '~', key)
}

// lookBack looks an entry of b up in a.
func (d *differ) lookBack(key, _ []byte) error {
	found, err := d.a.Has(key)
	if err != nil || found {
		return err
	}
	d.added++
	return d.tell("added", '+', key)
}

func (d *differ) tell(change string, sign byte, key []byte) (err error) {
	d.buf = d.form.appendTo(append(d.buf[:0], sign, ' '), key)
	if d.asJSON {
		if d.buf, err = json.Marshal(diffLine{change, key}); err != nil {
			return err
		}
	}
	_, err = d.w.Write(append(d.buf, '\n'))
	return err
}
