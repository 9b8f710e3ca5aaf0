package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// dumpForm is a text form of a map's entries, which dump writes and load reads.
type dumpForm interface {
	// appendHeader appends what stands before the first entry.
	appendHeader(dst []byte) []byte
	// appendEntry appends one entry.
	appendEntry(dst, key, value []byte) []byte
	// appendFooter appends what stands behind the last entry.
	appendFooter(dst []byte) []byte
	// reader begins to read a dump.
	reader() dumpReader
}

// dumpReader takes a dump line by line.
type dumpReader interface {
	// line takes the next line, without its end. ok says that an entry is whole; it is the caller's.
	line(text []byte) (key, value []byte, ok bool, err error)
	// end is the error of a dump that ends here, nil if it is whole.
	end() error
}

// The names of the forms.
const (
	formNDJSON = "ndjson"
	formBDB    = "bdb"
	formTSV    = "tsv"
)

var formNames = strings.Join([]string{formNDJSON, formBDB, formTSV}, ", ")

// formFlags are the flags that choose a form.
type formFlags struct {
	name    string
	mapSize uint64
}

func (f *formFlags) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.name, "format", formNDJSON, "form of the text: "+formNames)
}

// form gives the form that was chosen.
func (f *formFlags) form(cmd *cobra.Command) (dumpForm, error) {
	if f.mapSize > 0 && f.name != formBDB {
		return nil, usageError(cmd, errors.New("--mapsize goes with --format bdb"))
	}
	switch f.name {
	case formNDJSON:
		return ndjsonForm{}, nil
	case formBDB:
		return bdbForm{mapSize: f.mapSize}, nil
	case formTSV:
		return tsvForm{}, nil
	}
	return nil, usageError(cmd, fmt.Errorf("format %q: want one of %s", f.name, formNames))
}

// ndjsonForm is a JSON object a line.
type ndjsonForm struct{}

func (ndjsonForm) appendHeader(dst []byte) []byte            { return dst }
func (ndjsonForm) appendFooter(dst []byte) []byte            { return dst }
func (ndjsonForm) appendEntry(dst, key, value []byte) []byte { return appendEntry(dst, key, value) }
func (ndjsonForm) reader() dumpReader                        { return ndjsonForm{} }
func (ndjsonForm) end() error                                { return nil }

func (ndjsonForm) line(text []byte) (key, value []byte, ok bool, err error) {
	if len(strings.TrimSpace(string(text))) == 0 {
		return nil, nil, false, nil
	}
	key, value, err = parseEntry(text)
	return key, value, err == nil, err
}
