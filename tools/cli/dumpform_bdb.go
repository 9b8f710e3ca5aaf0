package cli

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
)

// bdbForm is the flat text of Berkeley DB's db_dump and db_load, which LMDB's mdb_dump and mdb_load speak too: header lines NAME=VALUE up
// to HEADER=END, then key and value by turns, each a line that begins with a space, up to DATA=END. It is
// described in db_dump's reference page. Written are bytes in hexadecimal (format=bytevalue); read is also the form for people
// (format=print), in which \hh is a byte and \\ a backslash.
type bdbForm struct {
	mapSize uint64 // bytes of the LMDB environment that mdb_load makes; 0: its default, a mebibyte. db_load knows no such line
}

func (f bdbForm) appendHeader(dst []byte) []byte {
	dst = append(dst, "VERSION=3\nformat=bytevalue\ntype=btree\n"...)
	if f.mapSize > 0 {
		dst = append(strconv.AppendUint(append(dst, "mapsize="...), f.mapSize, 10), '\n')
	}
	return append(dst, "HEADER=END\n"...)
}

func (bdbForm) appendEntry(dst, key, value []byte) []byte {
	dst = append(hex.AppendEncode(append(dst, ' '), key), '\n')
	return append(hex.AppendEncode(append(dst, ' '), value), '\n')
}

func (bdbForm) appendFooter(dst []byte) []byte { return append(dst, "DATA=END\n"...) }

func (bdbForm) reader() dumpReader { return &bdbReader{} }

// bdbReader is the state of reading a dump.
type bdbReader struct {
	inData, done bool
	print        bool
	key          []byte
	haveKey      bool
}

func (r *bdbReader) line(text []byte) (key, value []byte, ok bool, err error) {
	text = bytes.TrimSuffix(text, []byte("\r"))
	switch {
	case r.done && len(text) == 0:
		return nil, nil, false, nil
	case r.done:
		return nil, nil, false, errors.New("more than one database in the dump")
	case !r.inData:
		return nil, nil, false, r.header(text)
	case string(text) == "DATA=END":
		if r.haveKey {
			return nil, nil, false, errors.New("a key without a value before DATA=END")
		}
		r.done = true
		return nil, nil, false, nil
	case len(text) == 0 || text[0] != ' ':
		return nil, nil, false, errors.New("want a line that begins with a space, or DATA=END")
	}
	b, err := r.decode(text[1:])
	if err != nil {
		return nil, nil, false, err
	}
	if r.haveKey = !r.haveKey; r.haveKey {
		r.key = b
		return nil, nil, false, nil
	}
	return r.key, b, true, nil
}

// header takes a header line. What says nothing of the entries is passed over.
func (r *bdbReader) header(text []byte) error {
	name, value, ok := bytes.Cut(text, []byte("="))
	if !ok {
		return errors.New("want a header line NAME=VALUE up to HEADER=END")
	}
	good := true
	switch string(name) {
	case "VERSION":
		good = string(value) == "2" || string(value) == "3"
	case "format":
		r.print = string(value) == "print"
		good = r.print || string(value) == "bytevalue"
	case "type":
		good = string(value) == "btree" || string(value) == "hash"
	case "keys":
		good = string(value) == "1"
	case "duplicates", "dupsort":
		good = string(value) == "0" // a map has one value a key
	case "HEADER":
		r.inData = true
	}
	if !good {
		return fmt.Errorf("%s=%s: such a dump is no map", name, value)
	}
	return nil
}

func (r *bdbReader) decode(text []byte) ([]byte, error) {
	if !r.print {
		b := make([]byte, hex.DecodedLen(len(text)))
		_, err := hex.Decode(b, text)
		return b, err
	}
	b := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] != '\\':
			b = append(b, text[i])
		case i+1 < len(text) && text[i+1] == '\\':
			b, i = append(b, '\\'), i+1
		case i+2 < len(text):
			x, err := strconv.ParseUint(string(text[i+1:i+3]), 16, 8)
			if err != nil {
				return nil, fmt.Errorf("%q is no byte", text[i:i+3])
			}
			b, i = append(b, byte(x)), i+2
		default:
			return nil, errors.New("a backslash at the end of a line")
		}
	}
	return b, nil
}

func (r *bdbReader) end() error {
	if !r.done {
		return errors.New("the dump is cut short: no DATA=END")
	}
	return nil
}
