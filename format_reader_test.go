package mapfile

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/freelist"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// docReader reads a map with what FORMAT.md says, and with nothing else.
type docReader struct {
	t     *testing.T
	file  []byte
	pages map[string]uint64 // page types, slot words, kinds, flags, constants by name
	meta, header, directory,
	bucket, slot, segment, entry, record layout

	m        []byte // the newer meta page
	floor    uint64
	cleared  uint64
	lives    [][]byte
	segments [][]byte
	free     map[uint64]bool
	retired  map[uint64]bool
	buckets  map[uint64]bool
}

func newDocReader(t *testing.T, file []byte) *docReader {
	r := &docReader{
		t: t, file: file, pages: map[string]uint64{},
		meta: readLayout(t, "Meta page", "offset"), header: readLayout(t, "Index page header", "offset"),
		directory: readLayout(t, "Directory page", "offset"), bucket: readLayout(t, "Bucket page", "offset"),
		slot: readLayout(t, "Bucket page", "bits of a slot word"), segment: readLayout(t, "Segment header", "offset"),
		entry: readLayout(t, "Images", "offset"), record: readLayout(t, "Record", "offset"), buckets: map[uint64]bool{},
	}
	for _, table := range formatTables() {
		for _, row := range table.rows {
			if len(row) > 1 && len(table.head) > 1 && table.head[1] == "value" {
				r.pages[row[0]] = number(t, row[1])
			}
		}
	}
	page := r.pages["pager.PageSize"]
	r.m = file[:page]
	if other := file[page : 2*page]; r.meta.get(other, "number") > r.meta.get(r.m, "number") {
		r.m = other
	}
	r.images()
	return r
}

func (r *docReader) page(n uint64) []byte {
	size := r.pages["pager.PageSize"]
	return r.file[n*size : (n+1)*size]
}

// indexPage reads a directory or bucket and checks its header and sum.
func (r *docReader) indexPage(n uint64) []byte {
	b := r.page(n)
	require.Equal(r.t, n, r.header.get(b, "page"))
	r.header.zeros(r.t, b)
	stored, sum := docSum(r.t, "index page", b)
	require.Equal(r.t, stored, sum^docMix(docMix(r.meta.get(r.m, "file salt"), n), r.header.get(b, "epoch")))
	return b
}

// images reads free space and the segment table.
func (r *docReader) images() {
	t, first := r.t, r.meta.get(r.m, "image page")
	b := r.file[first*r.pages["pager.PageSize"]:][:r.meta.get(r.m, "image bytes")]
	require.Equal(t, r.pages["index.TypeImage"], r.header.get(b, "type"))
	require.Equal(t, first, r.header.get(b, "page"))
	require.Equal(t, r.meta.get(r.m, "image epoch"), r.header.get(b, "epoch"))
	require.EqualValues(t, len(b), r.header.get(b, "length"))
	r.header.zeros(t, b)
	salted := docMix(docMix(r.meta.get(r.m, "file salt"), first), r.header.get(b, "epoch"))
	require.Equal(t, r.header.get(b, "sum"), xxhash.Sum64(b[r.header.fields[1].off:])^salted)
	rest := r.freeSpace(b[r.header.size():])
	n := binary.LittleEndian.Uint64(rest)
	end := 8 + n*r.entry.size()
	require.Zero(t, uint64(len(b))%r.pages["pager.PageSize"], "the images are whole pages")
	r.historyOf(rest[end:])
	for at := uint64(8); at < end; at += r.entry.size() {
		e := rest[at : at+r.entry.size()]
		r.entry.zeros(t, e)
		r.segments = append(r.segments, e)
		r.segmentHeader(e)
	}
}

// freeSpace reads the image of free space and returns what is behind it.
func (r *docReader) freeSpace(b []byte) []byte {
	uvarint := func() uint64 {
		v, n := binary.Uvarint(b)
		require.Positive(r.t, n)
		b = b[n:]
		return v
	}
	r.free, r.retired = map[uint64]bool{}, map[uint64]bool{}
	bitmap := func(from, n uint64) {
		for i := range n {
			if b[i/8]>>(i%8)&1 == 1 {
				r.free[from+i] = true
			}
		}
		b = b[(n+7)/8:]
	}
	unit := r.meta.get(r.m, "unit pages")
	pages := uvarint()
	require.Equal(r.t, r.meta.get(r.m, "pages"), pages)
	bitmap(0, min(pages, unit))
	at := unit
	for range uvarint() {
		run := uvarint()
		require.LessOrEqual(r.t, at+run/4*unit, pages)
		for range run / 4 {
			switch run % 4 {
			case r.pages["freelist.tabFree"]:
				for i := range unit {
					r.free[at+i] = true
				}
			case r.pages["freelist.tabPartly"]:
				bitmap(at, unit)
			}
			at += unit
		}
	}
	require.Equal(r.t, max(pages, unit), at)
	end := uint64(0)
	for range uvarint() {
		start := end + uvarint()
		run := uvarint()
		end = start + run/2
		require.LessOrEqual(r.t, end, pages)
		_ = uvarint() // the epoch
		if run%2 == r.pages["freelist.KindSegment"] {
			_ = uvarint() // the end's LSN
		}
		for p := start; p < end; p++ {
			r.retired[p] = true
		}
	}
	return b
}

// segmentHeader compares a segment's own header with its entry in the table.
func (r *docReader) segmentHeader(e []byte) {
	base := r.entry.get(e, "first page") * r.pages["pager.PageSize"]
	for copyAt := range uint64(2) {
		h := r.file[base+copyAt*r.pages["pager.SectorSize"]:][:r.segment.size()]
		stored, sum := docSum(r.t, "segment header", h)
		require.Equal(r.t, stored, sum)
		require.Equal(r.t, "segment\n", string(r.segment.bytes(h, "magic")))
		require.Equal(r.t, r.meta.bytes(r.m, "uuid"), r.segment.bytes(h, "uuid"))
		for _, name := range []string{"first page", "pages", "salt", "life", "first lsn", "first sequence"} {
			require.Equal(r.t, r.entry.get(e, name), r.segment.get(h, name), name)
		}
		r.segment.zeros(r.t, h)
	}
}

// docRecord is a record as FORMAT.md reads it.
type docRecord struct {
	kind, flags, sequence, previous, extra, size uint64
	key, value                                   []byte
}

// at reads the record at a position.
func (r *docReader) at(position uint64) (d docRecord) {
	var salt uint64
	for _, e := range r.segments {
		base := r.entry.get(e, "first page") * r.pages["pager.PageSize"]
		if position >= base && position < base+r.entry.get(e, "used") {
			salt = r.entry.get(e, "salt")
		}
	}
	require.NotZero(r.t, salt, "no segment holds position %d", position)
	b, l := r.file[position:], r.record
	d.kind, d.flags = l.get(b, "kind"), l.get(b, "flags")
	d.sequence, d.previous = l.get(b, "sequence"), l.get(b, "previous")
	at := l.size()
	if d.flags&(r.pages["tail.FlagMark"]|r.pages["tail.FlagMoved"]) != 0 {
		d.extra = binary.LittleEndian.Uint64(b[at:])
		at += 8
	}
	d.key = b[at : at+l.get(b, "key length")]
	at += uint64(len(d.key))
	h := xxhash.Sum64(b[8:at]) ^ docMix(salt, position)
	d.value = b[at : at+l.get(b, "value length")]
	at += uint64(len(d.value))
	require.Equal(r.t, h&0xffffffff, l.get(b, "header sum"), "record at %d", position)
	require.Equal(r.t, xxhash.Sum64(d.value)&0xffffffff^h>>32, l.get(b, "sum"), "record at %d", position)
	d.size = (at + 7) / 8 * 8
	require.Equal(r.t, make([]byte, d.size-at), b[at:d.size])
	return d
}

// find looks a key up; nil if it is not there.
func (r *docReader) find(hash uint64, key []byte) *docRecord {
	t, fan := r.t, r.meta.get(r.m, "fan-out bits")
	n, epoch := r.meta.get(r.m, "root page"), r.meta.get(r.m, "root epoch")
	rest, level := hash, uint64(0)
	for {
		b := r.indexPage(n)
		require.Equal(t, epoch&0xffff, r.header.get(b, "epoch")&0xffff)
		if r.header.get(b, "type") == r.pages["index.TypeBucket"] {
			return r.probe(n, hash, key)
		}
		require.Equal(t, r.pages["index.TypeDirectory"], r.header.get(b, "type"))
		require.Equal(t, level, r.header.get(b, "level"))
		r.directory.zeros(t, b)
		if level == r.pages["index.hashBits"]/fan {
			secret := append(append([]byte{}, r.meta.bytes(r.m, "hash key")...), key...)
			sum := sha256.Sum256(secret)
			hash = binary.BigEndian.Uint64(sum[:])
			rest = hash
		}
		width := r.header.get(b, "width")
		i := rest >> (64 - width)
		children, tags := r.directory.bytes(b, "children"), r.directory.bytes(b, "tags")
		r.neighbours(children, level*fan+width, width, i)
		n = uint64(binary.LittleEndian.Uint32(children[4*i:]))
		epoch = uint64(binary.LittleEndian.Uint16(tags[2*i:]))
		rest <<= fan
		level++
	}
}

// neighbours checks how many entries lead to a bucket.
func (r *docReader) neighbours(children []byte, bits, width, i uint64) {
	child := binary.LittleEndian.Uint32(children[4*i:])
	b := r.page(uint64(child))
	if r.header.get(b, "type") != r.pages["index.TypeBucket"] {
		require.Equal(r.t, r.meta.get(r.m, "fan-out bits"), width, "of a directory above a directory")
		return
	}
	many := uint64(1) << (bits - r.header.get(b, "depth"))
	for j := range uint64(1) << width {
		same := binary.LittleEndian.Uint32(children[4*j:]) == child
		require.Equal(r.t, j/many == i/many, same, "entries %d and %d, depth %d", i, j, r.header.get(b, "depth"))
	}
}

// probe looks for a key in a bucket.
func (r *docReader) probe(n, hash uint64, key []byte) *docRecord {
	b := r.indexPage(n)
	r.bucket.zeros(r.t, b)
	words, tops := r.bucket.bytes(b, "words"), r.bucket.bytes(b, "tops")
	lines := r.meta.get(r.m, "bucket lines")
	slots := lines * r.pages["index.lineSlots"]
	position, tag := r.slot.fields[0], r.slot.fields[1]
	s := (hash >> 25 * 0x9E3779B97F4A7C15) >> 32 * lines >> 32 * r.pages["index.lineSlots"]
	for range slots {
		i := s
		s = (s + 1) % slots
		w := binary.LittleEndian.Uint64(words[8*i:])
		if w == r.pages["index.wordEmpty"] {
			return nil
		}
		if w == r.pages["index.wordDead"] || w>>tag.off != hash<<16>>(64-(tag.end-tag.off)) {
			continue
		}
		require.EqualValues(r.t, 64, tag.end)
		d := r.at(w & (1<<position.end - 1) * 8)
		if string(d.key) != string(key) {
			continue
		}
		require.Equal(r.t, hash>>48, uint64(binary.LittleEndian.Uint16(tops[2*i:])))
		if d.kind == r.pages["tail.KindDelete"] {
			return nil
		}
		require.Equal(r.t, r.pages["tail.KindPut"], d.kind)
		return &d
	}
	require.Fail(r.t, "a bucket without an empty slot")
	return nil
}

// visit goes to every page below a directory and counts the directories.
func (r *docReader) visit(dir uint64) (directories uint64) {
	b := r.indexPage(dir)
	children := r.directory.bytes(b, "children")
	last := uint64(0)
	for i := range uint64(1) << r.header.get(b, "width") {
		n := uint64(binary.LittleEndian.Uint32(children[4*i:]))
		switch {
		case n == last:
		case r.header.get(r.page(n), "type") == r.pages["index.TypeDirectory"]:
			directories += r.visit(n)
		default:
			r.buckets[n] = true
		}
		last = n
	}
	return directories + 1
}

// counts adds up the slots, and the dead ones, by the buckets' headers and by their words.
func (r *docReader) counts() (slots, dead uint64) {
	require.Equal(r.t, r.meta.get(r.m, "directories"), r.visit(r.meta.get(r.m, "root page")))
	require.EqualValues(r.t, r.meta.get(r.m, "buckets"), len(r.buckets))
	for n := range r.buckets {
		b, used, gone := r.indexPage(n), uint64(0), uint64(0)
		words := r.bucket.bytes(b, "words")
		for i := 0; i < len(words); i += 8 {
			switch binary.LittleEndian.Uint64(words[i:]) {
			case r.pages["index.wordEmpty"]:
			case r.pages["index.wordDead"]:
				used, gone = used+1, gone+1
			default:
				used++
			}
		}
		require.Equal(r.t, used, r.header.get(b, "slots"))
		require.Equal(r.t, gone, r.header.get(b, "dead"))
		slots, dead = slots+used, dead+gone
	}
	return slots, dead
}

// sameHash is a hash that many keys of the test share.
const sameHash = 0x0123456789abcdef

// TestFormatReader finds every key of real files by the document alone.
func TestFormatReader(t *testing.T) {
	shrunk := tinyGeometry(3)
	shrunk.FanoutBits = 4
	for name, row := range map[string]struct {
		g          pager.Geometry
		keys, same int
	}{
		"production": {pager.DefaultGeometry(), 6000, 900},
		"shrunk":     {shrunk, 500, 60},
	} {
		t.Run(name, func(t *testing.T) {
			db := formatMap(t, row.g)
			model := fillFormat(t, db, row.keys, row.same)
			require.NoError(t, db.Checkpoint())
			r := newDocReader(t, fileOf(t, db))
			for key, want := range model {
				d := r.find(want.hash, []byte(key))
				if want.gone {
					require.Nil(t, d, "%q", key)
					continue
				}
				require.NotNil(t, d, "%q", key)
				require.Equal(t, want.value, string(d.value))
			}
			require.Nil(t, r.find(xxhash.Sum64String("absent"), []byte("absent")))
			slots, dead := r.counts()
			require.EqualValues(t, 1, dead)
			require.Equal(t, r.meta.get(r.m, "keys")+r.meta.get(r.m, "tombstones"), slots-dead)
			checkFreeSpace(t, db, r)
			checkRecords(t, db, r)
		})
	}
}

type formatWant struct {
	value string
	hash  uint64
	gone  bool
}

// fillFormat makes a map with splits on both hashes, old versions, tombstones, a commit of several
// records, marks, and one dead slot.
func fillFormat(t *testing.T, db *DB, keys, same int) map[string]formatWant {
	db.opts.Sync = SyncNever
	model := map[string]formatWant{}
	for i := range keys {
		key, value := fmt.Sprintf("key %d", i), fmt.Sprintf("value %d %0*d", i, i%300, 0)
		require.NoError(t, db.Put([]byte(key), []byte("an older version")))
		require.NoError(t, db.Put([]byte(key), []byte(value)))
		model[key] = formatWant{value, xxhash.Sum64String(key), false}
	}
	for i := range same {
		key := fmt.Sprintf("same %d", i)
		_, err := db.appendOne(tail.KindPut, sameHash, []byte(key), []byte(key), &watched{})
		require.NoError(t, err)
		model[key] = formatWant{key, sameHash, false}
	}
	for _, key := range []string{"key 3", "key 4"} {
		require.NoError(t, db.Delete([]byte(key)))
		model[key] = formatWant{"", xxhash.Sum64String(key), true}
	}
	db.opts.Sync = SyncAlways
	require.NoError(t, db.Update(func(tx *Tx) error {
		for _, key := range []string{"a", "b", "c"} {
			model[key] = formatWant{key, xxhash.Sum64String(key), false}
			require.NoError(t, tx.Put([]byte(key), []byte(key)))
		}
		return nil
	}))
	model["marked"] = formatWant{"", xxhash.Sum64String("marked"), false}
	require.NoError(t, db.Put([]byte("marked"), nil)) // carries the mark of the sync before
	// What compaction will do with a DROP record; this map is not replayed.
	_, found, err := db.s.Index.Lookup(xxhash.Sum64String("key 3"), []byte("key 3"))
	require.NoError(t, err)
	require.True(t, found)
	require.NoError(t, db.s.Index.Drop())
	db.s.Tombstones--
	return model
}

// checkFreeSpace compares the image of free space with what the code makes of the same bytes.
func checkFreeSpace(t *testing.T, db *DB, r *docReader) {
	b := r.file[r.meta.get(r.m, "image page")*pager.PageSize:]
	im, _, err := freelist.DecodeImage(db.s.P.Geo, b[r.header.size():])
	require.NoError(t, err)
	freelist.FromImage(db.s.P.Geo, im, im.Pages()).Account(func(run freelist.Run, state freelist.State) {
		for p := uint64(run.Start); p < uint64(run.Start)+uint64(run.Pages); p++ {
			require.Equal(t, state == freelist.StateFree, r.free[p], "page %d is free", p)
			require.Equal(t, state == freelist.StatePending, r.retired[p], "page %d is retired", p)
		}
	})
	require.NotEmpty(t, r.retired)
}

// checkRecords reads every record of every segment in both ways.
func checkRecords(t *testing.T, db *DB, r *docReader) {
	kinds, flags, lsn := map[uint64]int{}, uint64(0), uint64(0)
	for _, e := range r.segments {
		base := r.entry.get(e, "first page") * r.pages["pager.PageSize"]
		end := base + r.entry.get(e, "used")
		lsn = max(lsn, r.entry.get(e, "first lsn")+r.entry.get(e, "used"))
		for at := base + r.pages["tail.SegmentHeader"]; at < end; {
			d := r.at(at)
			var want tail.Record
			require.True(t, tail.ParseHeader(db.s.P.View(), at, r.entry.get(e, "salt"), end, &want))
			require.Equal(t, []uint64{uint64(want.Kind), uint64(want.Flags), want.Sequence, want.Previous, want.Extra, want.Size()},
				[]uint64{d.kind, d.flags, d.sequence, d.previous, d.extra, d.size})
			if want.Kind == tail.KindLink {
				require.Equal(t, r.pages["tail.linkBytes"], d.size)
			}
			kinds[d.kind]++
			flags |= d.flags
			at += d.size
		}
	}
	require.Equal(t, lsn, r.meta.get(r.m, "lsn"))
	require.Equal(t, r.meta.get(r.m, "sequence"), db.s.Tail.Sequence)
	for _, kind := range []string{"tail.KindPut", "tail.KindDelete", "tail.KindLink"} {
		require.NotZero(t, kinds[r.pages[kind]], kind)
	}
	for _, flag := range []string{"tail.FlagFirst", "tail.FlagLast", "tail.FlagNew", "tail.FlagMark"} {
		require.NotZero(t, flags&r.pages[flag], flag)
	}
}
