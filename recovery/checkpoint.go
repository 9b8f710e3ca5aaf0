package recovery

import (
	"errors"
	"fmt"
	"slices"

	"github.com/mapfile-db/mapfile/freelist"
	"github.com/mapfile-db/mapfile/internal/errs"
	"github.com/mapfile-db/mapfile/internal/sabotage"
	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// Checkpoint is a checkpoint in progress. There is one at a time.
//
// Seal runs under the writer's turn; the other steps run beside writers, in order:
// Store, Sync, and then, under the sync mutex and with the mark advanced to LSN, WriteMeta.
type Checkpoint struct {
	s      *State
	meta   pager.Meta
	images *images
	dry    []freelist.Run
	run    freelist.Run // of the images, once they have pages
	needs  uint64       // pages that the file must have for it
	merged uint64       // pages merged away before the seal
	done   bool         // the meta page is written
}

// LSN is the end of the log at the seal: a mark once Sync has returned nil.
func (c *Checkpoint) LSN() uint64 { return c.meta.LSN }

// Sequence is that of the last commit before the seal.
func (c *Checkpoint) Sequence() uint64 { return c.meta.Sequence }

// MaySeal refuses more seals when many in a row could not be made durable (for want of room): a life keeps its
// epochs below those of the life after it.
func (s *State) MaySeal() error {
	if s.Index.Epoch-s.meta.Epoch >= maxEpochs {
		return errs.Join(errs.ErrFull, errors.New("too many checkpoints have failed: close and reopen"))
	}
	return nil
}

// Seal fixes the content of a checkpoint, between two commits, under the writer's turn.
// It is an instant: what is retired or copied from here on belongs to the next epoch
// and is not reused before this checkpoint, and the next, are durable (hole 8).
func (s *State) Seal() *Checkpoint {
	if s.image.Pages > 0 {
		s.Free.Retire(freelist.Entry{Run: s.image, Kind: freelist.KindPage, Epoch: s.Index.Epoch, Generation: s.Generation.Load()}, 0)
		s.image = freelist.Run{}
	}
	was := s.Index.Epoch
	s.unsum = append(s.unsum, sealed{s.Index.Seal(was + 1), was})
	if sabotage.Is(sabotage.LateEpoch) && s.begun {
		s.Index.Epoch = was
	}
	s.growMu.Lock() // no unit is on its way from the dry ones to the free space
	c := &Checkpoint{s: s, images: &images{free: s.Free.Snapshot(), segments: s.Tail.Entries(), history: s.history.image()}, dry: slices.Clone(s.dry)}
	s.growMu.Unlock()
	c.merged = s.merged.total
	m := s.meta
	m.Number++
	m.Epoch, m.Life = was+1, s.life
	m.Root = s.Index.Root
	m.LSN, m.Sequence = s.Tail.LSN, s.Tail.Sequence
	m.Keys, m.Tombstones = s.Keys, s.Tombstones
	m.Buckets, m.Directories = s.Index.Buckets, s.Index.Directories
	m.Clean, m.Segment, m.Salt, m.Position = false, 0, 0, 0
	if position, segment := s.Tail.Position(); segment != nil && !(s.begun && sabotage.Is(sabotage.CleanTooEarly)) {
		m.Segment, m.Salt, m.Position = segment.Start, segment.Salt, position
	}
	c.meta = m
	s.sealedLSN = m.LSN
	return c
}

// MarkClean says that nothing will be appended behind this checkpoint in this life: it
// names no segment to replay, and no later life appends to one of an earlier.
func (c *Checkpoint) MarkClean() {
	c.meta.Clean, c.meta.Segment, c.meta.Salt, c.meta.Position = true, 0, 0, 0
}

// Store stores the sums of the sealed pages, and the images. An error leaves the map
// as it was, with this checkpoint not made.
func (c *Checkpoint) Store() error {
	s := c.s
	for _, u := range s.unsum {
		s.Index.StoreSums(u.pages, u.epoch)
	}
	if sabotage.Is(sabotage.ImagesOfPresent) {
		c.images = &images{free: s.Free.Snapshot(), segments: s.Tail.Entries(), history: s.history.image()}
	}
	for _, r := range c.dry {
		c.images.free.MarkFree(r)
	}
	n := c.images.pagesNeeded()
	page, err := s.allocImage(n)
	if err != nil {
		return err
	}
	c.run = freelist.Run{Start: page, Pages: n}
	c.images.free.MarkUsed(c.run)
	c.needs = c.images.free.CutEnd()
	b := c.images.encode(page, n, c.meta.Epoch, c.meta.FileSalt)
	c.meta.Image, c.meta.ImageBytes = pager.Ref{Page: page, Epoch: c.meta.Epoch}, uint64(len(b))
	c.meta.Pages = c.images.free.Pages()
	if err := s.P.WriteAt(b, uint64(page)*pager.PageSize); err != nil {
		c.giveUp()
		err = fmt.Errorf("write the images: %w", err)
		if !pager.IsFull(err) {
			return s.P.Fail(err)
		}
		return errs.At(s.P.Path(), "", errs.Join(errs.ErrFull, err)) // (some file systems take blocks for every write)
	}
	return nil
}

// allocImage gives a run of pages for images, from the reserve if need be.
func (s *State) allocImage(n uint32) (pager.PageNo, error) {
	for {
		if page, ok := s.Free.AllocRun(n); ok {
			return s.prepared(page, n)
		}
		if err := s.Grow(uint64(n)); err != nil {
			return 0, err
		}
	}
}

// giveUp returns the images' pages of a checkpoint that is not made: nothing durable names them.
func (c *Checkpoint) giveUp() {
	if c.run.Pages > 0 {
		s := c.s
		s.Free.Retire(freelist.Entry{Run: c.run, Kind: freelist.KindPage, Epoch: s.Index.Epoch, Generation: s.Generation.Load()}, s.Index.Epoch)
		c.run = freelist.Run{}
	}
}

// Sync makes all that the meta page will name durable, and the whole log before the seal
// (step 4; I3: what the meta page names is durable before the meta page). An error is final.
//
//go:noinline
func (c *Checkpoint) Sync() error {
	if c.s.begun && sabotage.Is(sabotage.DropCheckpointSync) || !c.s.begun && sabotage.Is(sabotage.DropLifeSync) {
		return nil
	}
	return c.s.syncFile()
}

// writeMeta writes a meta page through to the disk, not beside syncFile: see there.
func (s *State) writeMeta(which int, m *pager.Meta) error {
	s.syncMu.Lock()
	defer s.syncMu.Unlock()
	if err := s.P.Failed(); err != nil {
		return err
	}
	if err := s.P.WriteMeta(which, m); err != nil {
		return s.P.Fail(err)
	}
	return nil
}

// syncFile makes the whole file durable. One sync at a time on the checkpoints' description: the kernel tells an error once, and who comes next must find
// the map failed. An error is final.
func (s *State) syncFile() error {
	s.syncMu.Lock()
	defer s.syncMu.Unlock()
	if err := s.P.Failed(); err != nil {
		return err
	}
	err := s.P.SyncFile()
	if err != nil && sabotage.Is(sabotage.RetryFileSync) {
		err = s.P.SyncFile()
	}
	if err != nil && !sabotage.Is(sabotage.SyncErrorIgnored) {
		return s.P.Fail(err)
	}
	return nil
}

// WriteAhead makes durable what the beginning of a life will name, as far as it is there: it takes less time then. Others may use the map
// meanwhile, and the life may begin. An error is final.
func (s *State) WriteAhead() error { return s.syncFile() }

// WriteMeta writes the meta page in the place of the older one (step 5). The sync mutex is held: I7, no meta page
// is written after a sync has failed. An error is final.
func (c *Checkpoint) WriteMeta() error {
	s := c.s
	if err := s.P.Failed(); err != nil {
		return err
	}
	if sabotage.Is(sabotage.SealTakesPresent) {
		c.takePresent()
	}
	write := s.writeMeta
	if s.begun && sabotage.Is(sabotage.DropMetaSync) || !s.begun && sabotage.Is(sabotage.DropLifeMetaSync) {
		write = s.cacheMeta
	}
	if err := write(1-s.slot, &c.meta); err != nil {
		return s.P.Fail(err)
	}
	c.done = true
	return nil
}

// Finish makes the checkpoint the newer one. It runs under the turn; Due and Reclaim follow without it.
func (c *Checkpoint) Finish() {
	s := c.s
	s.older = freelist.Meta{Epoch: s.meta.Epoch, LSN: s.meta.LSN}
	s.slot, s.meta, s.image, s.unsum = 1-s.slot, c.meta, c.run, nil
	s.needed(c.needs)
	s.merged.durable(c.merged)
	s.sums.Store(c.meta.Epoch)
	if sabotage.Is(sabotage.LateEpoch) {
		s.Index.Epoch = c.meta.Epoch
	}
}

// Release hands over what the checkpoint, which is the newer one now, has made due (step 6), beside writers.
func (c *Checkpoint) Release(older freelist.Meta) error {
	c.s.Free.Due(freelist.Meta{Epoch: c.meta.Epoch, LSN: c.meta.LSN}, older)
	return c.s.Reclaim()
}

// Older is what the reclamation rule asks of the older meta page.
func (s *State) Older() freelist.Meta { return s.older }

// Abandon gives a checkpoint up that failed before its meta page was written. It runs under the turn.
func (c *Checkpoint) Abandon() {
	if !c.done {
		c.giveUp()
	}
}

// BeginLife writes the same state into both meta pages before the first append of a
// life, each synced, both naming the same images and a fresh segment (hole 9: what the
// older meta page leads to must be the same life). From here all that is not reachable is free.
// It runs under the turn, with nobody else appending. An error of a sync is final.
func (s *State) BeginLife() error {
	if s.begun {
		return nil
	}
	if err := s.reserveArenas(); err != nil {
		return err
	}
	if err := s.P.SyncName(); err != nil {
		return s.P.Fail(err)
	}
	// Before anything is stored: the cache may hold a meta page that the disk has lost (hole 6).
	loaded := s.meta
	if err := s.writeMeta(s.slot, &loaded); err != nil {
		return s.P.Fail(err)
	}
	if err := s.zeroStale(nil); err != nil {
		return s.P.Fail(err)
	}
	s.life = s.meta.Life + 1
	s.Tail.Life = s.life
	if err := s.Tail.Begin(); err != nil {
		if errors.Is(err, errs.ErrFull) {
			return err
		}
		return s.P.Fail(err)
	}
	_, first := s.Tail.Position()
	forget, sealed := s.history.begin(s.Tail.Sequence+1, first.Salt), s.sealedLSN
	c := s.Seal()
	if err := c.Store(); err != nil {
		if !errors.Is(err, errs.ErrFull) {
			return s.P.Fail(err)
		}
		c.Abandon() // nothing durable knows of the segment
		forget()
		s.sealedLSN = sealed
		g := s.Tail.Unbegin()
		s.Free.Free(freelist.Run{Start: g.Start, Pages: g.Pages})
		if failed := s.Reclaim(); failed != nil { // of the images' pages, which nobody knows: the next try may need them
			return s.P.Fail(failed)
		}
		return err
	}
	if err := c.Sync(); err != nil {
		return err
	}
	for i := range 2 {
		if i == 1 && sabotage.Is(sabotage.OneMeta) {
			break
		}
		if i == 1 && sabotage.Is(sabotage.TwoImages) {
			c = s.secondImages(c)
		}
		if err := c.WriteMeta(); err != nil {
			return err
		}
		s.slot, s.meta = 1-s.slot, c.meta
		s.needed(c.needs)
		c.meta.Number++
	}
	s.image, s.unsum, s.begun, s.unnamed = c.run, nil, true, false
	s.sums.Store(c.meta.Epoch)
	s.merged.durable(c.merged)
	s.merged.durable(c.merged)
	s.older = freelist.Meta{Epoch: s.meta.Epoch, LSN: s.meta.LSN}
	s.Free.Due(s.older, s.older)
	return s.Reclaim()
}

// zeroStale zeroes the headers of segments that an earlier life retired, but for pages that the walked tail
// holds again, so that no salvage takes them for live ones. Neither meta page needs them. It runs before
// anything is allocated, and becomes durable with the next sync of the file.
func (s *State) zeroStale(w *tail.Walk) error {
	if sabotage.Is(sabotage.StaleHeadersKept) {
		s.stale = nil
	}
	for _, run := range s.stale {
		g := tail.Segment{Start: run.Start, Pages: run.Pages}
		for _, r := range s.without(w, &g) {
			step := s.granule(r.Start)
			for at := uint32(r.Start); at < uint32(r.Start)+r.Pages && uint64(at)+uint64(step) <= s.P.Pages(); at += step {
				if err := s.P.WriteAt(make([]byte, tail.SegmentHeader), uint64(at)*pager.PageSize); err != nil {
					return err
				}
			}
		}
	}
	s.stale = nil
	return nil
}

// granule is the number of pages by which segments lie at a page.
func (s *State) granule(page pager.PageNo) uint32 {
	if uint32(page) >= s.P.Geo.UnitPages {
		return s.P.Geo.UnitPages
	}
	return s.P.Geo.SmallPages
}

// Shrink gives the end of the file and the blocks of free units back. For Close, behind its
// last checkpoint: nothing is stored afterwards.
func (s *State) Shrink() error {
	if _, cur := s.Tail.Position(); cur != nil {
		unused := (cur.Base() + cur.Used + pager.PageSize - 1) / pager.PageSize
		if n := cur.End()/pager.PageSize - unused; n > 0 && cur.End()/pager.PageSize > uint64(s.P.Geo.UnitPages) {
			// No life appends to it again: its blocks, not its pages, go.
			if err := s.punch(freelist.Run{Start: pager.PageNo(unused), Pages: uint32(n)}); err != nil {
				return err
			}
		}
	}
	for _, r := range s.dry {
		s.Free.Free(r)
	}
	s.dry = nil
	for _, r := range s.Free.FreeUnitRuns() {
		if err := s.punch(r); err != nil {
			return err
		}
	}
	n := s.Free.CutEnd()
	if n >= s.P.Pages() {
		return nil
	}
	s.Free.Shrink(n)
	return s.P.Cut(n)
}

// punch gives blocks back where the file system can.
func (s *State) punch(r freelist.Run) error {
	if err := s.P.Punch(r.Start, r.Pages); !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

// LastSeal is the LSN of the last seal, durable or not.
func (s *State) LastSeal() uint64 { return s.sealedLSN }

// errDamaged is a reason without a page.
var errDamaged = errors.New("the log does not fit the index")
