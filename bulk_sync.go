package mapfile

import (
	"sync"

	"github.com/mapfile-db/mapfile/tail"
)

// earlySync makes segments durable that a load has filled, while it goes on, so that little is left for the sync at its end. It proves
// nothing: the mark stays below a commit that is not whole, and the sync at the end goes over all of it again.
type earlySync struct {
	full    chan tail.Segment // nil before the first
	running sync.WaitGroup
}

// earlySegments is how many full segments may wait for the disk. More are left to the sync at the end.
const earlySegments = 64

// sync asks for a segment to be made durable. The turn is held.
func (e *earlySync) sync(db *DB, g *tail.Segment) {
	if db.opts.Sync != SyncAlways || !db.background.enabled || g == nil {
		return
	}
	if e.full == nil {
		e.full = make(chan tail.Segment, earlySegments)
		e.running.Go(func() {
			for g := range e.full {
				if err := db.guarded(func() error { return db.dur.syncEarly(&g) }); err != nil {
					db.log.Error("mapfile: a sync of a load failed", "error", err) // the load meets the failed map
				}
			}
		})
	}
	select {
	case e.full <- *g:
	default:
	}
}

// stop drops what still waits and ends the work.
func (e *earlySync) stop() {
	if e.full == nil {
		return
	}
	for {
		select {
		case <-e.full:
			continue
		default:
		}
		break
	}
	close(e.full)
	e.running.Wait()
	e.full = nil
}

// syncEarly makes a segment durable of which no commit has ended. The kernel tells an error of a write once per description: the sync mutex is held, so that the
// map has failed before another sync could take it for durable.
func (d *durability) syncEarly(g *tail.Segment) error {
	d.syncMu.Lock()
	defer d.syncMu.Unlock()
	if err := d.s.P.Failed(); err != nil {
		return err
	}
	if err := d.s.P.SyncRange(g.Base(), g.Used); err != nil {
		return d.fail(err)
	}
	return nil
}
