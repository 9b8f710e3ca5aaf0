package recovery

import (
	"github.com/mapfile-db/mapfile/freelist"
	"github.com/mapfile-db/mapfile/pager"
)

// What the longer of the planted bugs do (internal/sabotage). Nothing of it is in a production build.

// takePresent makes a checkpoint's meta page name the log's end of now, not of the seal.
func (c *Checkpoint) takePresent() {
	s := c.s
	c.meta.LSN, c.meta.Sequence = s.Tail.LSN, s.Tail.Sequence
	if position, segment := s.Tail.Position(); segment != nil && c.meta.Segment != 0 {
		c.meta.Segment, c.meta.Salt, c.meta.Position = segment.Start, segment.Salt, position
	}
}

// cacheMeta writes a meta page without a sync.
func (s *State) cacheMeta(which int, m *pager.Meta) error {
	return s.P.WriteAt(m.Encode(which), uint64(which)*pager.PageSize)
}

// secondImages makes images of its own for the second meta page of a life, whose first names c.
func (s *State) secondImages(c *Checkpoint) *Checkpoint {
	s.image = c.run
	second := s.Seal()
	if second.Store() != nil || second.Sync() != nil {
		return c
	}
	return second
}

// giveUntaken leaves what is punched to the allocator.
func (s *State) giveUntaken(units uint64) (more bool, err error) {
	_, err = s.punchDry(units)
	for _, r := range s.dry {
		s.Free.Free(r)
	}
	s.dry = nil
	return false, err
}

// punchRetired punches a segment that somebody may need.
func (s *State) punchRetired(r freelist.Run) { _ = s.P.Punch(r.Start, r.Pages) }
