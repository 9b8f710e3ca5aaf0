package cli

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/mapfile-db/mapfile"
)

func (a *app) getCmd() *cobra.Command {
	var form keyForm
	cmd := &cobra.Command{
		Use:   "get FILE KEY",
		Short: "Write the value of a key, and nothing else, to stdout",
		Args:  cobra.ExactArgs(2),
	}
	cmd.RunE = a.onFile(0, func(cmd *cobra.Command, args []string) (err error) {
		key, err := form.parse(cmd, args[1])
		if err != nil {
			return err
		}
		db, err := a.openReadOnly(cmd, args[0])
		if err != nil {
			return err
		}
		defer closeInto(&err, db)
		value, err := db.Get(key)
		if err != nil {
			return keyError(args, err)
		}
		_, err = cmd.OutOrStdout().Write(value)
		return err
	})
	form.addFlags(cmd)
	return cmd
}

func (a *app) putCmd() *cobra.Command {
	var form keyForm
	var create bool
	cmd := &cobra.Command{
		Use:   "put FILE KEY VALUE",
		Short: "Set the value of a key; VALUE - reads it from stdin",
		Long:  "Set the value of a key, durably. VALUE is stored as it is, whatever form the key is in; VALUE - reads it from stdin.",
		Args:  cobra.ExactArgs(3),
	}
	cmd.RunE = a.onFile(0, func(cmd *cobra.Command, args []string) error {
		key, err := form.parse(cmd, args[1])
		if err != nil {
			return err
		}
		value := []byte(args[2])
		if args[2] == "-" {
			if value, err = io.ReadAll(interruptible(cmd.Context(), cmd.InOrStdin())); err != nil {
				return fmt.Errorf("stdin: %w", err)
			}
		}
		return a.put(cmd, args, create, key, value)
	})
	cmd.Flags().BoolVar(&create, "create", false, "create the map if there is none")
	form.addFlags(cmd)
	return cmd
}

func (a *app) put(cmd *cobra.Command, args []string, create bool, key, value []byte) (err error) {
	if create {
		t, err := a.openTarget(cmd, args[0])
		if err != nil {
			return err
		}
		return keyError(args, t.close(t.put(key, value)))
	}
	db, err := a.openExisting(cmd, args[0])
	if err != nil {
		return err
	}
	defer closeInto(&err, db)
	return keyError(args, db.Put(key, value))
}

func (a *app) deleteCmd() *cobra.Command {
	var form keyForm
	cmd := &cobra.Command{
		Use:   "delete FILE KEY",
		Short: "Delete a key, durably; exit code 1 if it is not there",
		Args:  cobra.ExactArgs(2),
	}
	cmd.RunE = a.onFile(0, func(cmd *cobra.Command, args []string) (err error) {
		key, err := form.parse(cmd, args[1])
		if err != nil {
			return err
		}
		db, err := a.openExisting(cmd, args[0])
		if err != nil {
			return err
		}
		defer closeInto(&err, db)
		return keyError(args, db.Update(func(tx *mapfile.Tx) error { return deletePresent(tx, key) }))
	})
	form.addFlags(cmd)
	return cmd
}

// deletePresent deletes a key that is there; otherwise ErrNotFound.
func deletePresent(tx *mapfile.Tx, key []byte) error {
	found, err := tx.Has(key)
	if err == nil && !found {
		err = mapfile.ErrNotFound
	}
	if err != nil {
		return err
	}
	return tx.Delete(key)
}

// keyError adds map and key, as they were given, to an error about a key, whose
// sentinel knows neither.
func keyError(args []string, err error) error {
	for _, bare := range []error{mapfile.ErrNotFound, mapfile.ErrKeyTooLarge, mapfile.ErrValueTooLarge} {
		if errors.Is(err, bare) {
			return fmt.Errorf("mapfile: %s: key %s: %w", args[0], shorten(args[1]), unprefixed{bare})
		}
	}
	return err
}

// shorten quotes a key and cuts it to what fits in a message.
func shorten(key string) string {
	const most = 60
	if len(key) > most {
		return fmt.Sprintf("%q… (%d bytes)", key[:most], len(key))
	}
	return fmt.Sprintf("%q", key)
}

// closeInto closes db and keeps its error unless there is one already.
func closeInto(err *error, db *mapfile.DB) {
	if cerr := db.Close(); *err == nil {
		*err = cerr
	}
}
