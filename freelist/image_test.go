package freelist

import (
	"math/rand/v2"
	"testing"

	"github.com/mapfile-db/mapfile/pager"
	"github.com/stretchr/testify/require"
)

// sample is a file of 10 units of 8 pages: unit 0 with two free pages, an arena partly
// free, a full one with pages of two epochs retired, a segment of two units, a
// retired one, and free units.
func sample() *Allocator {
	a := New(geometry(8, 2), 80)
	a.MarkUsed(Run{4, 2})
	a.MarkUsed(Run{9, 3})
	a.AllocRun(8)
	a.MarkUsed(Run{24, 16})
	a.MarkUsed(Run{48, 8})
	a.Retire(Entry{Run: Run{17, 1}, Epoch: 6, Generation: 3}, 5)
	a.Retire(Entry{Run: Run{16, 1}, Epoch: 6, Generation: 4}, 5)
	a.Retire(Entry{Run: Run{18, 2}, Epoch: 7, Generation: 5}, 5)
	a.Retire(Entry{Run: Run{48, 8}, Kind: KindSegment, Epoch: 7, EndLSN: 1000, Generation: 6}, 2)
	a.Retire(Entry{Run: Run{9, 1}, Epoch: 7, Generation: 7}, 7)
	return a
}

var sampleBytes = []byte{
	80,        // pages
	0xc0,      // unit 0: pages 6 and 7 are free
	6,         // runs of units
	1<<2 | 3,  //   1: an arena, partly free
	0xf3,      //      all but pages 10 and 11; 9 was allocated and retired in one epoch
	1<<2 | 2,  //   2: an arena, full
	2<<2 | 1,  //   3, 4: a segment
	1 << 2,    //   5: free
	1<<2 | 1,  //   6: the retired segment
	3 << 2,    //   7 to 9: free
	3,         // retired runs
	16, 4, 12, //   pages 16 and 17, epoch 6
	0, 4, 2, //   pages 18 and 19, epoch 7
	28, 17, 0, //   the segment at page 48, epoch 7
	0xe8, 0x07, //      LSN 1000
}

func TestEncoding(t *testing.T) {
	require.Equal(t, sampleBytes, sample().Snapshot().AppendTo(nil))
}

func TestFromImage(t *testing.T) {
	im, rest, err := DecodeImage(geometry(8, 2), sampleBytes)
	require.NoError(t, err)
	require.Empty(t, rest)
	a := FromImage(geometry(8, 2), im, 96)
	require.Equal(t, uint64(96), a.Pages(), "pages behind the image's are free")
	require.Equal(t, []Run{{40, 8}, {56, 40}}, a.FreeUnitRuns())
	require.Empty(t, a.TakeDue(1), "all is pending until the meta pages are known")
	a.Due(Meta{8, 1000}, Meta{7, 1000})
	require.Equal(t, []Entry{
		{Run: Run{16, 2}, Epoch: 6},
		{Run: Run{48, 8}, Kind: KindSegment, Epoch: 7, EndLSN: 1000},
	}, a.TakeDue(1))
	require.Equal(t, uint64(2), a.Stats().Pending)
	require.Equal(t, sampleBytes, im.AppendTo(nil), "the image stays as it is")
}

func TestSnapshotIsOfItsMoment(t *testing.T) {
	a := sample()
	im := a.Snapshot()
	takePages(a, 30)
	a.MarkUsed(Run{18, 1})
	a.Retire(Entry{Run: Run{24, 16}, Kind: KindSegment, Epoch: 7, EndLSN: 2000}, 1)
	a.Due(Meta{9, 0}, Meta{8, 0})
	for _, e := range a.TakeDue(100) {
		a.Free(e.Run)
	}
	a.Shrink(a.CutEnd())
	require.Equal(t, sampleBytes, im.AppendTo(nil))
}

func TestImageMarkUsed(t *testing.T) {
	rows := []struct {
		name    string
		r       Run
		pages   uint64
		free    uint64 // of sample's image: 2 + 6 + 8 + 24
		retired uint64 // of sample's image: 4 + 8
	}{
		{"in an arena", Run{12, 3}, 80, 37, 12},
		{"whole units", Run{56, 16}, 80, 24, 12},
		{"behind the end", Run{96, 3}, 104, 40 + 16 + 5, 12},
		{"across the end", Run{72, 12}, 88, 40 - 8 + 4, 12},
		{"a page that was due and is free since", Run{16, 1}, 80, 41, 10},
		{"a part of a segment that was due and is free since", Run{49, 2}, 80, 46, 4},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			im := sample().Snapshot()
			im.MarkUsed(row.r)
			require.Equal(t, row.pages, im.Pages())
			back, _, err := DecodeImage(geometry(8, 2), im.AppendTo(nil))
			require.NoError(t, err)
			a := FromImage(geometry(8, 2), back, row.pages)
			st := a.Stats()
			require.Equal(t, [2]uint64{row.free, row.retired}, [2]uint64{st.Free, st.Pending})
			require.Zero(t, a.MarkUsed(row.r), "its own pages are in use")
		})
	}
}

func TestImageOfAShortFileGrowsByPages(t *testing.T) {
	im := New(geometry(512, 4), 16).Snapshot()
	im.MarkUsed(Run{20, 1})
	require.Equal(t, uint64(21), im.Pages())
	require.Equal(t, uint64(16), FromImage(geometry(512, 4), im, 21).FreePages())
}

// TestMaxSize marks what the allocator hands out after a snapshot, in any state of the file.
func TestMaxSize(t *testing.T) {
	for seed := range uint64(300) {
		m := newModel(t, seed, geometry(8, 2), 8+8*(seed%12))
		for range 150 {
			m.step()
		}
		im := m.a.Snapshot()
		m.takeDue()
		m.free()
		limit := im.MaxSize()
		n := 1 + m.rng.Uint32N(20)
		p, ok := m.a.AllocRun(n)
		for !ok {
			m.a.Extend((m.a.Pages()/8 + 1 + m.rng.Uint64N(1<<20)) * 8)
			p, ok = m.a.AllocRun(n)
		}
		im.MarkUsed(Run{p, n})
		b := im.AppendTo(nil)
		require.LessOrEqual(t, len(b), limit, "seed %d", seed)
		_, _, err := DecodeImage(m.g, b)
		require.NoError(t, err, "seed %d", seed)
	}
}

func TestDecodeImageRefuses(t *testing.T) {
	edit := func(at int, b ...byte) []byte {
		out := append([]byte(nil), sampleBytes...)
		copy(out[at:], b)
		return out
	}
	rows := []struct {
		name   string
		b      []byte
		reason string
	}{
		{"nothing", nil, "it ends too early"},
		{"fewer pages than the fixed ones", edit(0, 3), "a file of 3 pages"},
		{"half a unit at the end", edit(0, 79), "a file of 79 pages"},
		{"more pages than a file may have", []byte{0xff, 0xff, 0xff, 0xff, 0x7f}, "pages: a number out of range"},
		{"a number without end", []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, "pages: a number out of range"},
		{"a free fixed page", edit(1, 0xc8), "a fixed page is free"},
		{"bits behind a short file", []byte{6, 0x70, 0, 0}, "a bitmap has bits behind its end"},
		{"more runs than bytes", edit(2, 100), "runs of units: a number out of range"},
		{"an empty run of units", edit(3, 3), "a run of units is empty"},
		{"a run of the same class again", edit(5, 1<<2|3), "of the class before it"},
		{"an arena without a free page", edit(4, 0), "has 0 free pages"},
		{"an arena that is all free", edit(4, 0xff), "has 8 free pages"},
		{"units missing", edit(9, 2<<2), "1 units are missing"},
		{"units too many", edit(9, 4<<2), "run of units: a number out of range"},
		{"a retired fixed page", edit(11, 3), "a retired run of 2 pages at page 3"},
		{"a retired run of no page", edit(12, 0), "a retired run of 0 pages"},
		{"an epoch below zero", edit(13, 11), "epoch -6"},
		{"a retired run behind the end", edit(17, 60), "at page 80 of 80"},
		{"a page free and retired", edit(11, 12), "page 12 is free and retired"},
		{"a unit free and retired", edit(17, 27), "page 47 is free and retired"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			_, _, err := DecodeImage(geometry(8, 2), row.b)
			require.ErrorContains(t, err, "image of free space: ")
			require.ErrorContains(t, err, row.reason)
		})
	}
	for n := range sampleBytes {
		_, _, err := DecodeImage(geometry(8, 2), sampleBytes[:n])
		require.Error(t, err, "cut to %d bytes", n)
	}
}

func TestDecodeImageTakesLittleMemory(t *testing.T) {
	b := []byte{0xf8, 0xff, 0xff, 0xff, 0x0f, 0xf0, 1, 0xf8, 0xff, 0xff, 0xff, 0x07, 0} // 2^32 - 8 pages, all free
	perRun := testing.AllocsPerRun(10, func() {
		im, _, err := DecodeImage(geometry(8, 2), b)
		require.NoError(t, err)
		require.Equal(t, uint64(1<<32-8), im.Pages())
	})
	require.Less(t, perRun, 100.0)
}

// checkDecoded holds what is true of every image that was decoded.
func checkDecoded(t *testing.T, g pager.Geometry, im *Image) {
	a := FromImage(g, im, im.Pages())
	at := uint64(0)
	a.Account(func(r Run, _ State) {
		require.Equal(t, at, uint64(r.Start))
		at = r.end()
	})
	require.Equal(t, im.Pages(), at)
	b := im.AppendTo(nil)
	again, rest, err := DecodeImage(g, b)
	require.NoError(t, err)
	require.Empty(t, rest)
	require.Equal(t, b, again.AppendTo(nil))
	for range 20 { // and it can be worked with
		p, ok := a.AllocPage()
		if ok {
			a.Retire(Entry{Run: Run{p, 1}, Epoch: 1}, 1)
		}
	}
}

func FuzzDecodeImage(f *testing.F) {
	f.Add(sampleBytes)
	f.Add(New(geometry(8, 2), 6).Snapshot().AppendTo(nil))
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		b := append([]byte(nil), sampleBytes...)
		b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		g := geometry(8, 2)
		im, rest, err := DecodeImage(g, b)
		if err != nil {
			return
		}
		require.LessOrEqual(t, len(rest), len(b))
		if im.Pages() <= 1<<14 {
			checkDecoded(t, g, im)
		}
	})
}
