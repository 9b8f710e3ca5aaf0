package cli

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// tsvForm is a line for each entry: key, tab, value. A tab, a line feed, a carriage return and a backslash in them are
// written \t, \n, \r and \\, a zero byte \x00; every other byte stands for itself.
type tsvForm struct{}

func (tsvForm) appendHeader(dst []byte) []byte { return dst }
func (tsvForm) appendFooter(dst []byte) []byte { return dst }
func (tsvForm) reader() dumpReader             { return tsvForm{} }
func (tsvForm) end() error                     { return nil }

func (tsvForm) appendEntry(dst, key, value []byte) []byte {
	dst = append(appendEscaped(dst, key), '\t')
	return append(appendEscaped(dst, value), '\n')
}

func appendEscaped(dst, b []byte) []byte {
	for _, c := range b {
		switch c {
		case '\t':
			dst = append(dst, `\t`...)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\\':
			dst = append(dst, `\\`...)
		case 0:
			dst = append(dst, `\x00`...)
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

func (tsvForm) line(text []byte) (key, value []byte, ok bool, err error) {
	text = bytes.TrimSuffix(text, []byte("\r"))
	k, v, found := bytes.Cut(text, []byte("\t"))
	if !found || bytes.IndexByte(v, '\t') >= 0 {
		return nil, nil, false, errors.New("want key, tab, value")
	}
	if key, err = unescape(k); err != nil {
		return nil, nil, false, err
	}
	if value, err = unescape(v); err != nil {
		return nil, nil, false, err
	}
	return key, value, true, nil
}

// unescape reads what appendEscaped writes, and \x with any two digits.
func unescape(text []byte) ([]byte, error) {
	b := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			b = append(b, text[i])
			continue
		}
		if i++; i == len(text) {
			return nil, errors.New("a backslash at the end of a field")
		}
		switch text[i] {
		case 't':
			b = append(b, '\t')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case '\\':
			b = append(b, '\\')
		case 'x':
			x, err := strconv.ParseUint(string(text[i+1:min(i+3, len(text))]), 16, 8)
			if err != nil || i+3 > len(text) {
				return nil, errors.New(`\x wants two digits`)
			}
			b, i = append(b, byte(x)), i+2
		default:
			return nil, fmt.Errorf(`\%c: want \t, \n, \r, \\ or \x and two digits`, text[i])
		}
	}
	return b, nil
}
