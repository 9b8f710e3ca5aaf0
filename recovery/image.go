package recovery

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/mapfile-db/mapfile/freelist"
	"github.com/mapfile-db/mapfile/index"
	"github.com/mapfile-db/mapfile/internal/sabotage"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// The images of free space, segment table and history lie behind one another in one run of
// pages, with the common header of index pages before them and one sum over all.

// images is the content of all.
type images struct {
	free     *freelist.Image
	segments []tail.Entry
	history  historyImage
	flips    []pager.Flip // a bit that had to be taken back, in the file it is still wrong
}

// pagesNeeded is the number of pages that the images take, at most.
func (im *images) pagesNeeded() uint32 {
	n := index.HeaderBytes + im.free.MaxSize() + tail.EntriesSize(len(im.segments)) + im.history.size()
	return uint32((n + pager.PageSize - 1) / pager.PageSize)
}

// encode gives the bytes of the images in the run of n pages that begins at page: all of it, zeros behind what is
// needed, for the length says which pages are the images'.
func (im *images) encode(page pager.PageNo, n, epoch uint32, fileSalt uint64) []byte {
	b := make([]byte, index.HeaderBytes, int(n)*pager.PageSize)
	index.SetHeader(b, index.TypeImage, page, epoch)
	b = im.free.AppendTo(b)
	b = tail.AppendEntries(b, im.segments)
	b = im.history.appendTo(b)
	b = b[:cap(b)]
	binary.LittleEndian.PutUint64(b[index.OffLength:], uint64(len(b)))
	binary.LittleEndian.PutUint64(b, index.Sum(b, fileSalt, page, epoch))
	return b
}

// unread is the error of a call that failed: what it should have read is unknown, and no damage.
type unread struct{ error }

func (e *unread) Unwrap() error { return e.error }

// unreadable tells a read that failed from one that met the end of the file.
func unreadable(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return &unread{err}
}

// maxImageBytes bounds what opening a file reads at once: at worst some 16 bytes for each page of a
// file of 256 GiB, in practice kilobytes.
const maxImageBytes = 1 << 30

// maxMendImages is the length of images, in bytes, up to which a flipped bit in them is looked for: the time it takes grows with
// the square, to a second or two here. Longer ones are left for those of the other meta page.
const maxMendImages = 32 * pager.PageSize

// readImages reads and verifies the images that a meta page names. The error is the reason.
func readImages(f pager.File, m *pager.Meta) (*images, error) {
	if m.ImageBytes < index.HeaderBytes || m.ImageBytes > maxImageBytes {
		return nil, fmt.Errorf("images of %d bytes", m.ImageBytes)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, &unread{err}
	}
	if end := uint64(m.Image.Page)*pager.PageSize + m.ImageBytes; end > uint64(info.Size) {
		return nil, fmt.Errorf("the images end at %d, behind the file's end at %d", end, info.Size)
	}
	b := make([]byte, m.ImageBytes)
	if _, err := f.ReadAt(b, int64(m.Image.Page)*pager.PageSize); err != nil {
		return nil, unreadable(err)
	}
	expected := func() bool {
		return index.HeaderNames(b, index.TypeImage, m.Image.Page, m.Image.Epoch) && binary.LittleEndian.Uint64(b[index.OffLength:]) == m.ImageBytes
	}
	var flips []pager.Flip
	if !expected() || binary.LittleEndian.Uint64(b) != index.Sum(b, m.FileSalt, m.Image.Page, m.Image.Epoch) && !sabotage.Is(sabotage.ImageSumUnchecked) {
		if len(b) > maxMendImages {
			return nil, fmt.Errorf("the sum of the images does not hold")
		}
		bit, ok := index.Flipped(b, m.FileSalt, m.Image.Page, expected)
		if !ok {
			return nil, fmt.Errorf("the sum of the images does not hold")
		}
		flips = append(flips, pager.NewFlip(b, bit, uint64(m.Image.Page)*pager.PageSize, "images"))
	}
	free, rest, err := freelist.DecodeImage(m.Geometry(pager.Geometry{}), b[index.HeaderBytes:])
	if err != nil {
		return nil, err
	}
	if free.Pages() > m.Pages {
		return nil, fmt.Errorf("image of %d pages of a file of %d", free.Pages(), m.Pages)
	}
	segments, err := tail.ReadEntries(rest, min(free.Pages(), uint64(info.Size)/pager.PageSize))
	if err != nil {
		return nil, err
	}
	history, err := readHistory(rest[tail.EntriesSize(len(segments)):])
	if err != nil {
		return nil, err
	}
	return &images{free, segments, history, flips}, nil
}
