package backup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cespare/xxhash/v2"

	"github.com/mapfile-db/mapfile/internal/errs"
)

// Reader reads streams that follow one another. What it has given out was verified, but an End may still say that a stream
// is not what its writer wrote. Errors: ErrBackup for what does not hold, ErrVersion for a form that this program does not know, those of
// the io.Reader. After an error other than io.EOF it must not be used.
type Reader struct {
	r       io.Reader
	frame   []byte
	rest    []byte // of the payload, not yet read
	begun   bool   // a stream was there
	number  uint64 // of the next frame
	entries uint64 // of the stream so far
	sum     xxhash.Digest
	counted End
	key     []byte
	value   []byte

	Begin Begin // of the stream at hand
	End   End   // of the last stream that was read to its end
	Size  int64 // bytes of the stream so far
}

// Entry is one entry. Key and Value are valid until the next call of the Reader.
type Entry struct {
	Op         Op
	Key, Value []byte
}

// NewReader reads from r.
func NewReader(r io.Reader) *Reader {
	return &Reader{r: r, frame: make([]byte, 4<<10)}
}

// Next begins the next stream. It answers io.EOF where there is none; there must be one at least.
func (r *Reader) Next() error {
	r.number, r.entries, r.Size, r.counted = 0, 0, 0, End{}
	r.sum.Reset()
	n, err := io.ReadFull(r.r, r.frame[:FrameHeader])
	if err == io.EOF && n == 0 && r.begun {
		return io.EOF
	}
	r.begun = true
	kind, err := r.read(err)
	if err != nil {
		return err
	}
	if kind != KindBegin {
		return r.damaged(errors.New("it does not begin as a backup does"))
	}
	if r.Begin, err = decodeBegin(r.rest); err != nil {
		return r.damaged(err)
	}
	r.rest = nil
	return nil
}

// damaged says where something does not hold, and what.
func (r *Reader) damaged(reason error) error {
	return errs.Join(errs.ErrBackup, fmt.Errorf("byte %d: %w", r.Size, reason))
}

// cut is the error of an input that ended, or failed, inside a frame.
func (r *Reader) cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return r.damaged(errors.New("it is cut short"))
	}
	return err
}

// nextFrame reads a frame.
func (r *Reader) nextFrame() (Kind, error) {
	_, err := io.ReadFull(r.r, r.frame[:FrameHeader])
	return r.read(err)
}

// read reads the rest of the frame whose header was just read, with an error or without.
func (r *Reader) read(err error) (Kind, error) {
	if err != nil {
		return 0, r.cut(err)
	}
	le, b := binary.LittleEndian, r.frame
	length := le.Uint32(b[20:])
	if string(b[8:16]) != Magic {
		return 0, r.damaged(errors.New("here is no frame of a backup"))
	}
	if length > MaxPayload {
		return 0, r.damaged(fmt.Errorf("a frame of %d bytes", length))
	}
	if n := FrameHeader + int(length); n > len(b) {
		r.frame = append(b, make([]byte, n-len(b))...)
	}
	b = r.frame[:FrameHeader+length]
	if _, err := io.ReadFull(r.r, b[FrameHeader:]); err != nil {
		return 0, r.cut(err)
	}
	if le.Uint64(b) != xxhash.Sum64(b[8:]) {
		return 0, r.damaged(errors.New("the sum of the frame does not hold"))
	}
	if v := le.Uint16(b[16:]); v != Version {
		return 0, errs.Join(errs.ErrVersion, fmt.Errorf("backup of version %d, this program knows %d", v, Version))
	}
	if n := le.Uint64(b[24:]); n != r.number {
		return 0, r.damaged(fmt.Errorf("frame %d where number %d should be", n, r.number))
	}
	r.number++
	r.Size += int64(len(b))
	r.rest = b[FrameHeader:]
	return Kind(le.Uint16(b[18:])), nil
}

// Entry gives the next entry of the stream, and io.EOF at its end, when End is known and what was counted agrees.
func (r *Reader) Entry() (Entry, error) {
	if len(r.rest) == 0 {
		kind, err := r.nextFrame()
		if err != nil {
			return Entry{}, err
		}
		if kind == KindEnd {
			return Entry{}, r.ended()
		}
		if err := r.take(kind); err != nil {
			return Entry{}, err
		}
	}
	var head [entryBytes]byte
	if err := r.fill(head[:]); err != nil {
		return Entry{}, err
	}
	e := Entry{Op: Op(head[0])}
	key, value := int(binary.LittleEndian.Uint16(head[2:])), uint64(binary.LittleEndian.Uint32(head[4:]))
	if err := r.plausible(e.Op, head[1], key, value); err != nil {
		return Entry{}, r.damaged(err)
	}
	var err error
	if r.key, err = r.bytes(r.key[:0], uint64(key)); err != nil {
		return Entry{}, err
	}
	if r.value, err = r.bytes(r.value[:0], value); err != nil {
		return Entry{}, err
	}
	r.entries++
	r.counted.count(e.Op, key, value)
	e.Key, e.Value = r.key, r.value
	return e, nil
}

// plausible refuses what no writer writes.
func (r *Reader) plausible(op Op, zero byte, key int, value uint64) error {
	switch {
	case zero != 0 || op < OpPut || op > OpClear:
		return fmt.Errorf("an entry of kind %d", op)
	case op == OpClear && (r.entries > 0 || key > 0) || op != OpPut && value > 0:
		return fmt.Errorf("an entry of kind %d with a key of %d and a value of %d bytes", op, key, value)
	case op != OpPut && !r.Begin.Increment:
		return errors.New("something is deleted in a stream that is whole")
	}
	return nil
}

// take makes sure that a frame holds entries.
func (r *Reader) take(kind Kind) error {
	if kind != KindEntries || len(r.rest) == 0 {
		return r.damaged(fmt.Errorf("a frame of kind %d with %d bytes among entries", kind, len(r.rest)))
	}
	_, _ = r.sum.Write(r.rest)
	return nil
}

// fill reads bytes of entries, from as many frames as it takes.
func (r *Reader) fill(b []byte) error {
	for {
		n := copy(b, r.rest)
		b, r.rest = b[n:], r.rest[n:]
		if len(b) == 0 {
			return nil
		}
		kind, err := r.nextFrame()
		if err == nil {
			err = r.take(kind)
		}
		if err != nil {
			return err
		}
	}
}

// bytes appends n bytes of entries to b. Memory is taken as they come, not as they are announced.
func (r *Reader) bytes(b []byte, n uint64) ([]byte, error) {
	for n > 0 {
		from := len(b)
		b = append(b, make([]byte, min(n, MaxPayload))...)
		if err := r.fill(b[from:]); err != nil {
			return b, err
		}
		n -= uint64(len(b) - from)
	}
	return b, nil
}

// ended compares the end of a stream with what came before it.
func (r *Reader) ended() error {
	end, err := decodeEnd(r.rest)
	if err != nil {
		return r.damaged(err)
	}
	r.rest = nil
	r.counted.Keys, r.counted.sum = end.Keys, r.sum.Sum64()
	if end != r.counted {
		return r.damaged(errors.New("its end does not agree with its entries"))
	}
	r.End = end
	return io.EOF
}
