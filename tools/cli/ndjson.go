package cli

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strings"
)

// entry is one line of a dump, with the bytes in base64. A pointer tells a field
// that is missing from one that is empty.
type entry struct {
	Key   *[]byte `json:"key"`
	Value *[]byte `json:"value"`
}

var errEntry = errors.New(`want {"key":"base64","value":"base64"}`)

// parseEntry reads one line of a dump.
func parseEntry(text []byte) (key, value []byte, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var e entry
	if err := d.Decode(&e); err != nil {
		return nil, nil, errors.New(strings.TrimPrefix(err.Error(), "json: ") + ", " + errEntry.Error())
	}
	if _, err := d.Token(); e.Key == nil || e.Value == nil || err != io.EOF {
		return nil, nil, errEntry
	}
	return *e.Key, *e.Value, nil
}

// appendEntry appends the line that parseEntry reads.
func appendEntry(dst, key, value []byte) []byte {
	dst = append(dst, `{"key":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, key)
	dst = append(dst, `","value":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, value)
	return append(dst, "\"}\n"...)
}

// readLine gives the next line of r without its end, or io.EOF; size is how many
// bytes it took. The line may be of any length.
func readLine(r *bufio.Reader) (text []byte, size int, err error) {
	text, err = r.ReadBytes('\n')
	if err == io.EOF && len(text) > 0 {
		err = nil
	}
	return bytes.TrimSuffix(text, []byte("\n")), len(text), err
}
