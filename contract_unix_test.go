//go:build linux || darwin || freebsd

package mapfile_test

import (
	"fmt"
	"io"
	"syscall"
)

// nobody is a user without rights of its own.
const nobody = 65534

func init() {
	childRoles["no permission"] = func(out io.Writer, args []string) error {
		if err := syscall.Setgid(nobody); err != nil {
			return err
		}
		if err := syscall.Setuid(nobody); err != nil {
			return err
		}
		if err := withoutPermission(args[0], args[1]); err != nil {
			return err
		}
		_, err := fmt.Fprintln(out, "good")
		return err
	}
}
