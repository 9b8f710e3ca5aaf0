package simdisk

import (
	"bytes"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/pager"
)

const (
	testName     = "/dir/file"
	testCapacity = 64 << 10
)

// sectorsOf makes one sector per byte, filled with it.
func sectorsOf(fill ...byte) []byte {
	var all []byte
	for _, b := range fill {
		all = append(all, bytes.Repeat([]byte{b}, sectorSize)...)
	}
	return all
}

// summary names each sector of content by its first byte.
func summary(content []byte) string {
	var s []byte
	for i := 0; i < len(content); i += sectorSize {
		if content[i] == 0 {
			s = append(s, '.')
		} else {
			s = append(s, content[i])
		}
	}
	return string(s)
}

// loaded makes a disk with one durable file of these sectors, open for writing.
func loaded(t testing.TB, fill ...byte) (*Disk, *file) {
	t.Helper()
	d := New(testCapacity)
	d.Load(testName, sectorsOf(fill...))
	return d, opened(t, d)
}

// opened opens the file for writing.
func opened(t testing.TB, d *Disk) *file {
	t.Helper()
	f, err := d.Open(testName, false)
	require.NoError(t, err)
	return f.(*file)
}

// mapped returns the memory of a shared mapping.
func mapped(t testing.TB, f *file) (pager.Mapping, []byte) {
	t.Helper()
	m, err := f.Map(pager.MapOptions{Reserve: 1 << 40, Least: 1})
	require.NoError(t, err)
	return m, unsafe.Slice((*byte)(m.Write()), m.Size())
}

// allNew chooses the newest version.
func allNew(_ int, s *SectorState) int { return len(s.Versions) - 1 }

// put writes sectors at a sector number.
func put(t testing.TB, f *file, at int64, fill ...byte) {
	t.Helper()
	require.NoError(t, f.WriteAt(sectorsOf(fill...), at*sectorSize))
}

// after returns the summary of the file after a crash with everything old or new.
func after(d *Disk, isNew bool) string {
	choice := allNew
	if !isNew {
		choice = nil
	}
	img := d.Crash(choice, nil, isNew, isNew)
	defer img.Release()
	if img.lookup(testName) == nil {
		return "none"
	}
	return summary(img.Bytes(testName))
}
