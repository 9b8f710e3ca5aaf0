package cli

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/mapfile-db/mapfile"
)

// crashPlan is what the writers of a crash test do, by seed, writer and step alone: the process that writes and the one that
// checks need not tell each other. Each writer has keys of its own.
type crashPlan struct {
	seed    uint64
	writers int
	keys    int // of each writer
}

// planFor makes a plan whose map is about so many bytes large.
func planFor(seed uint64, size int64) crashPlan {
	const writers, each = 4, 2 * meanValue // a live version and as much garbage again
	return crashPlan{seed, writers, int(max(8, size/writers/each))}
}

// meanValue is the length of a value, in bytes, on average; one of 64 is 16 times as long.
const meanValue = 900

// crashOp is one step of a writer: a change of some keys that happens wholly or not at all.
type crashOp struct {
	single bool // by Put or Delete; else in a transaction
	synced bool // demands a sync, whatever the map's mode
	upkeep int  // 0: none; 1: a checkpoint behind it; 2: a compaction
	keys   []crashChange
}

// crashChange is what a step does to one key.
type crashChange struct {
	key    int
	delete bool
}

func (p crashPlan) random(writer, step int) *rand.Rand {
	return rand.New(rand.NewPCG(p.seed^uint64(writer)<<48, uint64(step)))
}

// at is a writer's step.
func (p crashPlan) at(writer, step int) crashOp {
	r := p.random(writer, step)
	op := crashOp{single: r.IntN(4) > 0, synced: r.IntN(16) == 0}
	if writer == 0 && r.IntN(512) == 0 {
		op.upkeep = 1 + r.IntN(2)
	}
	n := 1
	if !op.single {
		n = 2 + r.IntN(8)
	}
	used := map[int]bool{}
	for range n {
		if key := r.IntN(p.keys); !used[key] {
			used[key] = true
			op.keys = append(op.keys, crashChange{key, r.IntN(5) == 0})
		}
	}
	return op
}

func (p crashPlan) key(writer, key int) []byte {
	return fmt.Appendf(nil, "writer %d key %d", writer, key)
}

// value is what a step puts under a key: it names writer, key and step, and is filled by them.
func (p crashPlan) value(writer, key, step int) []byte {
	r := rand.New(rand.NewPCG(p.seed+uint64(key), uint64(writer)<<48|uint64(step)))
	n := 24 + r.IntN(meanValue)
	if r.IntN(64) == 0 {
		n *= 16
	}
	b := make([]byte, n)
	binary.LittleEndian.PutUint64(b, uint64(writer))
	binary.LittleEndian.PutUint64(b[8:], uint64(key))
	binary.LittleEndian.PutUint64(b[16:], uint64(step))
	for at := 24; at < n; at += 8 {
		var word [8]byte
		binary.LittleEndian.PutUint64(word[:], r.Uint64())
		copy(b[at:], word[:])
	}
	return b
}

// do carries a step out.
func (p crashPlan) do(ctx context.Context, db *mapfile.DB, writer, step int) error {
	op := p.at(writer, step)
	if err := p.change(ctx, db, op, writer, step); err != nil {
		return err
	}
	switch op.upkeep {
	case 1:
		return db.Checkpoint()
	case 2:
		return db.Compact(ctx)
	}
	return nil
}

func (p crashPlan) change(ctx context.Context, db *mapfile.DB, op crashOp, writer, step int) error {
	if c := op.keys[0]; op.single && !op.synced {
		if c.delete {
			return db.Delete(p.key(writer, c.key))
		}
		return db.Put(p.key(writer, c.key), p.value(writer, c.key, step))
	}
	return p.commit(ctx, db, op, writer, step)
}

// commit makes the changes in a transaction.
func (p crashPlan) commit(ctx context.Context, db *mapfile.DB, op crashOp, writer, step int) error {
	o := &mapfile.TxOptions{}
	if op.synced {
		o.Sync = mapfile.SyncAlways
	}
	tx, err := db.BeginTx(ctx, o)
	if err != nil {
		return err
	}
	for _, c := range op.keys {
		if c.delete {
			err = tx.Delete(p.key(writer, c.key))
		} else {
			err = tx.Put(p.key(writer, c.key), p.value(writer, c.key, step))
		}
		if err != nil {
			_ = tx.Rollback() // the error before matters
			return err
		}
	}
	return tx.Commit()
}

// find is the value of a key, nil if it is not there. An empty value is not nil.
func find(db *mapfile.DB, key []byte) ([]byte, error) {
	value, err := db.AppendGet([]byte{}, key)
	if errors.Is(err, mapfile.ErrNotFound) {
		return nil, nil
	}
	return value, err
}
