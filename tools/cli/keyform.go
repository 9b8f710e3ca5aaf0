package cli

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"

	"github.com/spf13/cobra"
)

// keyForm says how keys are written on the command line and in the output of
// keys. The zero value: as they are.
type keyForm struct{ hex, base64 bool }

func (f *keyForm) addFlags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.hex, "hex", false, "keys are written in hexadecimal")
	cmd.Flags().BoolVar(&f.base64, "base64", false, "keys are written in base64")
	cmd.MarkFlagsMutuallyExclusive("hex", "base64")
}

// parse gives the bytes of the key that arg stands for.
func (f *keyForm) parse(cmd *cobra.Command, arg string) ([]byte, error) {
	key, err := []byte(arg), error(nil)
	switch {
	case f.hex:
		key, err = hex.DecodeString(arg)
	case f.base64:
		key, err = base64.StdEncoding.DecodeString(arg)
	}
	if err != nil {
		return nil, usageError(cmd, fmt.Errorf("key %q: %w", arg, err))
	}
	return key, nil
}

// appendTo appends key to dst the way parse reads it.
func (f *keyForm) appendTo(dst, key []byte) []byte {
	switch {
	case f.hex:
		return hex.AppendEncode(dst, key)
	case f.base64:
		return base64.StdEncoding.AppendEncode(dst, key)
	}
	return append(dst, key...)
}
