package mapfile

import (
	"bytes"
	"context"
	"errors"
	"maps"

	"github.com/mapfile-db/mapfile/internal/backup"
)

// remember notes the sequence that belongs to the newest state, when its operation has returned.
func (c *crashRun) remember() {
	if i := len(c.states) - 1; c.at[i] == 0 {
		c.at[i] = c.db.s.Tail.Sequence
	}
}

// backUp looks at an increment that a recovered map, which is in the state of an index, gives behind a state before it: that with the increment is
// what the map holds, unless the history is said to be gone. The sequences of states are those of the life that died.
func (c *crashRun) backUp(db *DB, at int, which uint64) {
	base := int(which % uint64(at+1))
	sequence, known := c.at[base]
	if !known {
		return // its operation had not returned
	}
	var b bytes.Buffer
	end, err := db.BackupSince(context.Background(), &b, sequence)
	if errors.Is(err, ErrHistoryGone) {
		c.search.gone.Add(1)
		return
	}
	if err != nil {
		c.fail("%s: BackupSince %d: %v", c.point, sequence, err)
	}
	s := &modelSink{got: maps.Clone(c.states[base])}
	last, err := readBackup(context.Background(), &b, incrementSink{s})
	if err != nil || last != end {
		c.fail("%s: the increment behind %d ends at %d, want %d: %v", c.point, sequence, last, end, err)
	}
	if !maps.Equal(s.got, c.states[at]) {
		c.fail("%s: the increment from %d to %d leads to %v, want %v", c.point, sequence, end, brief(s.got), brief(c.states[at]))
	}
	c.search.increments.Add(1)
}

// incrementSink takes an increment that comes first.
type incrementSink struct{ *modelSink }

func (incrementSink) begin(*backup.Begin, *backup.Begin) error { return nil }
