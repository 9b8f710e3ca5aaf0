package backup

import (
	"encoding/binary"
	"io"

	"github.com/cespare/xxhash/v2"
)

// Writer writes one stream. After an error it must not be used.
type Writer struct {
	w      io.Writer
	frame  []byte // header and payload of the frame at hand
	number uint64
	sum    xxhash.Digest // of the entries
	end    End
}

// NewWriter begins a stream. Errors: those of w.
func NewWriter(w io.Writer, begin *Begin) (*Writer, error) {
	out := &Writer{w: w, frame: make([]byte, FrameHeader, FrameHeader+MaxPayload)}
	out.sum.Reset()
	out.frame = append(out.frame, begin.encode()...)
	return out, out.flush(KindBegin)
}

// flush writes the frame at hand.
func (w *Writer) flush(kind Kind) error {
	b, le := w.frame, binary.LittleEndian
	copy(b[8:], Magic)
	le.PutUint16(b[16:], Version)
	le.PutUint16(b[18:], uint16(kind))
	le.PutUint32(b[20:], uint32(len(b)-FrameHeader))
	le.PutUint64(b[24:], w.number)
	le.PutUint64(b, xxhash.Sum64(b[8:]))
	if kind == KindEntries {
		_, _ = w.sum.Write(b[FrameHeader:])
	}
	w.number++
	w.frame = b[:FrameHeader]
	_, err := w.w.Write(b)
	return err
}

// Entry adds an entry. Key and value are not kept. Errors: those of the io.Writer.
func (w *Writer) Entry(op Op, key, value []byte) error {
	if len(w.frame)+entryBytes > cap(w.frame) {
		if err := w.flush(KindEntries); err != nil {
			return err
		}
	}
	w.frame = appendEntry(w.frame, op, len(key), uint64(len(value)))
	w.end.count(op, len(key), uint64(len(value)))
	if err := w.add(key); err != nil {
		return err
	}
	return w.add(value)
}

// add puts bytes into as many frames as it takes.
func (w *Writer) add(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), cap(w.frame)-len(w.frame))
		w.frame, b = append(w.frame, b[:n]...), b[n:]
		if len(w.frame) == cap(w.frame) {
			if err := w.flush(KindEntries); err != nil {
				return err
			}
		}
	}
	return nil
}

// End ends the stream, behind which the map has so many keys. Errors: those of the io.Writer.
func (w *Writer) End(keys uint64) error {
	if len(w.frame) > FrameHeader {
		if err := w.flush(KindEntries); err != nil {
			return err
		}
	}
	w.end.Keys, w.end.sum = keys, w.sum.Sum64()
	w.frame = append(w.frame, w.end.encode()...)
	return w.flush(KindEnd)
}
