package freelist

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/internal/debug"
	"github.com/mapfile-db/mapfile/pager"
)

// FuzzFreelist works with the allocator of any image that decodes, three bytes an operation, with runs as a damaged index or log
// could name them: nothing panics, no page that is fixed or behind the end is handed out, and the image of what is left decodes again.
func FuzzFreelist(f *testing.F) {
	f.Add(sampleBytes, []byte("\x00\x00\x00\x01\x03\x00\x02\x01\x00\x03\x10\x02\x04\x10\x01\x05\x00\x00\x06\x00\x00"))
	f.Add(sampleBytes, []byte("\x03\x18\x10\x03\x18\x10\x05\x00\x00\x04\x18\x10\x04\x00\xff\x07\x20\x00"))
	f.Add(New(geometry(8, 2), 6).Snapshot().AppendTo(nil), []byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x08\x20\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, image, ops []byte) {
		defer time.AfterFunc(10*time.Second, func() { panic("no input may take so long") }).Stop()
		defer forgiven()
		g := geometry(8, 2)
		im, _, err := DecodeImage(g, image)
		if err != nil || im.Pages() > 1<<12 {
			return
		}
		w := wild{t, FromImage(g, im, im.Pages()), 1}
		for ; len(ops) >= 3; ops = ops[3:] {
			w.step(ops[0], pager.PageNo(ops[1]), uint32(ops[2]))
		}
		again, rest, err := DecodeImage(g, w.a.Snapshot().AppendTo(nil))
		if err == nil { // pages retired twice make an image that is refused, as it should be
			require.Empty(t, rest)
			require.Equal(t, w.a.Pages(), again.Pages())
		}
	})
}

// forgiven lets the assertions of builds that check invariants pass: freeing what is free is a mistake that damage makes.
func forgiven() {
	if r := recover(); r != nil && !debug.On {
		panic(r)
	}
}

// wild is an allocator that is told anything.
type wild struct {
	t     *testing.T
	a     *Allocator
	epoch uint32
}

// got holds what every run that is handed out must be.
func (w *wild) got(p pager.PageNo, n uint32, ok bool) {
	if ok {
		require.GreaterOrEqual(w.t, p, pager.FirstPage)
		require.LessOrEqual(w.t, uint64(p)+uint64(n), w.a.Pages())
	}
}

func (w *wild) step(what byte, page pager.PageNo, n uint32) {
	r := Run{page, n}
	switch what % 10 {
	case 0:
		p, ok := w.a.AllocPage()
		w.got(p, 1, ok)
	case 1:
		p, ok := w.a.AllocRun(n%40 + 1)
		w.got(p, n%40+1, ok)
	case 2:
		k := 2 * (n%4 + 1)
		if n%3 == 0 {
			k = 8 * (n%3 + 1)
		}
		p, ok := w.a.AllocSegment(k)
		w.got(p, k, ok)
	case 3:
		w.epoch++
		w.a.Retire(Entry{Run: r, Kind: Kind(what / 10 % 2), Epoch: w.epoch, Generation: uint64(w.epoch)}, w.epoch-uint32(what/20%2))
	case 4:
		w.a.MarkUsed(r)
	case 5:
		w.a.Due(Meta{w.epoch + 1, 1 << 40}, Meta{w.epoch, 1 << 40})
		for _, e := range w.a.TakeDue(^uint64(0)) {
			w.a.Free(e.Run)
		}
	case 6:
		w.a.Shrink(w.a.CutEnd())
	case 7:
		w.a.Extend(min(uint64(binary.LittleEndian.Uint16([]byte{byte(page), byte(n % 8)})), 1<<12))
	case 8:
		w.a.EmptiestArenas(int(n%100), uint64(page))
		w.a.Stats()
	case 9:
		w.a.SparseArenas(-1)
		w.a.AvoidCurrent()
		w.a.FreeUnitRuns()
	}
}
