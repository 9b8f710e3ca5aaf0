package index

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/mapfile-db/mapfile/pager"
)

// fuzzedPages are the pages of an index in a good state, each kind of shape, to be changed and put back.
type fuzzedPages struct {
	x     *testIndex
	whole []byte // of the file
	pages []pager.PageNo
	root  pager.Ref
	epoch uint32
	next  pager.PageNo

	buckets, directories uint32
}

// newFuzzedPages makes an index of a shape and notes its pages of one kind.
func newFuzzedPages(t testing.TB, s shape, directory bool) *fuzzedPages {
	x, _ := damagedIndex(t, s)
	f := &fuzzedPages{x: x, root: x.Root, epoch: x.Epoch, next: x.page, buckets: x.Buckets, directories: x.Directories}
	for page := pager.FirstPage; page < x.page; page++ {
		if is, ok := x.pages(x.Root)[page]; ok && is == directory {
			f.pages = append(f.pages, page)
		}
	}
	f.whole = append([]byte(nil), x.p.View().Bytes(0, x.p.Pages()*pager.PageSize)...)
	return f
}

// forge takes three bytes for an edit: a place, four bytes apart, and a value; sets page numbers too; and makes the sums hold.
func (f *fuzzedPages) forge(which uint8, edits []byte) {
	page := f.pages[int(which)%len(f.pages)]
	b := f.x.p.View().WritablePage(page)
	for ; len(edits) >= 4; edits = edits[4:] {
		at := 8 + int(binary.LittleEndian.Uint16(edits))%(pager.PageSize-12)
		switch edits[2] % 4 {
		case 0:
			b[at] = edits[3]
		case 1: // an entry that leads to another page of the index, tag and all
			child := pager.FirstPage + pager.PageNo(edits[3])%(f.next-pager.FirstPage)
			i := at % 8
			binary.LittleEndian.PutUint32(b[offChildren+4*i:], uint32(child))
			binary.LittleEndian.PutUint16(b[offTags+2*i:], uint16(pageEpoch(f.x.p.View().Page(child))))
		case 2: // level, depth, width, type
			b[8+at%4] = edits[3] % 80
		case 3: // a slot that is empty, dead or full
			i := at % f.x.slots
			words := []uint64{wordEmpty, wordDead, slotWord(b, i) ^ 1<<(edits[3]%64), uint64(edits[3])}
			setSlot(b, i, words[edits[3]%4], uint64(edits[3]))
		}
	}
	binary.LittleEndian.PutUint64(b, Sum(b, testSalt, page, pageEpoch(b)))
}

// try calls everything on the forged page, for reading and for writing, and puts the index back.
func (f *fuzzedPages) try(t *testing.T, which uint8, edits []byte) {
	watch := time.AfterFunc(20*time.Second, func() { panic("no input may take so long") })
	defer watch.Stop()
	x := f.x
	f.forge(which, edits)
	x.forget()
	x.everything(t, aKey(1))
	for i := range 12 {
		key := aKey(i * 3)
		if _, found, err := x.Lookup(x.shape.hash(key), []byte(key)); err == nil && found && i%4 == 0 {
			_ = x.Drop() // what comes of it is no matter
		} else if err == nil {
			_ = x.Set(1<<30 + 8*uint64(i))
		}
	}
	n := 0
	for at, end := (Path{}), false; !end && n < 1000; n++ {
		var err error
		if at, end, err = x.Evacuate(at, func(p pager.PageNo) bool { return p%3 == 0 }); err != nil {
			break
		}
	}
	n = 0
	for at, end := (Path{}), false; !end && n < 1000; n++ {
		pages, after, last := x.Sparse(at)
		if at, end = after, last; pages > 0 && x.Merge() != nil {
			break
		}
	}
	x.everything(t, aKey(2))
	copy(x.p.View().Writable(0, uint64(len(f.whole))), f.whole)
	for page := range pager.PageNo(x.p.Pages()) {
		x.p.SetVerified(page, 0)
	}
	x.attach(x.p, f.root, f.epoch, f.buckets, f.directories)
	x.page, x.free, x.retired = f.next, nil, nil
}

// fuzzPages fuzzes the pages of one kind in every shape.
func fuzzPages(f *testing.F, directory bool) {
	var all []*fuzzedPages
	for i, s := range damageShapes {
		all = append(all, newFuzzedPages(f, s, directory))
		f.Add(uint8(i), uint8(0), []byte("\x00\x00\x01\x05\x01\x00\x01\x06"))
		f.Add(uint8(i), uint8(1), []byte("\x02\x00\x02\x40"))
		f.Add(uint8(i), uint8(2), []byte("\x03\x00\x02\x09\x0c\x00\x00\x08"))
		f.Add(uint8(i), uint8(0), []byte("\x00\x00\x03\x03\x01\x00\x03\x07\x02\x00\x03\x01"))
		f.Add(uint8(i), uint8(0), []byte("\x00\x00\x01\x00\x01\x00\x01\x00\x02\x00\x01\x00\x03\x00\x01\x00"))
	}
	f.Fuzz(func(t *testing.T, shape, which uint8, edits []byte) { all[int(shape)%len(all)].try(t, which, edits) })
}

// FuzzBucket changes a bucket page and makes its sum hold: nothing panics, hangs or reads outside the file.
func FuzzBucket(f *testing.F) { fuzzPages(f, false) }

// FuzzDirectory does so with a directory page.
func FuzzDirectory(f *testing.F) { fuzzPages(f, true) }
