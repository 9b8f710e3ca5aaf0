package mapfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/internal/backup"
	invariants "github.com/mapfile-db/mapfile/internal/debug"
	"github.com/mapfile-db/mapfile/internal/simdisk"
)

// modelSink puts the entries of backups into a Go map.
type modelSink struct {
	got    kv
	states []kv // behind each stream
}

func (s *modelSink) begin(b, before *backup.Begin) error {
	if before == nil && b.Increment {
		return errors.New("the first stream is not whole")
	}
	return nil
}

func (s *modelSink) entry(e *backup.Entry) error {
	switch e.Op {
	case backup.OpPut:
		s.got[string(e.Key)] = string(e.Value)
	case backup.OpDelete:
		delete(s.got, string(e.Key))
	case backup.OpClear:
		clear(s.got)
	}
	return nil
}

func (s *modelSink) end(r *backup.Reader) error {
	if uint64(len(s.got)) != r.End.Keys {
		return fmt.Errorf("%d keys, the stream says %d", len(s.got), r.End.Keys)
	}
	s.states = append(s.states, maps.Clone(s.got))
	return nil
}

// replayBackup is what the streams of a backup lead to.
func replayBackup(streams ...[]byte) (kv, uint64, error) {
	s := &modelSink{got: kv{}}
	last, err := readBackup(context.Background(), bytes.NewReader(bytes.Join(streams, nil)), s)
	return s.got, last, err
}

// backupPoint is a moment that was backed up.
type backupPoint struct {
	sequence uint64
	streams  [][]byte // that lead there
	state    kv
}

// backupModel is a map on the simulated disk, what it should hold, and its backups.
type backupModel struct {
	t      *testing.T
	r      *rand.Rand
	seed   uint64
	disk   *simdisk.Disk
	db     *DB
	opened uint64
	states []kv // since what is known to be durable
	points []backupPoint

	gone, increments, cuts int
}

// TestBackupModel mixes all that changes a map with backups, increments, reopenings, kills and power cuts: what an increment from any earlier
// backup leads to is what the map holds, or the history is said to be gone. Then each is restored.
func TestBackupModel(t *testing.T) {
	var ran, gone, increments, cuts int
	for seed := range uint64(7) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { // go test -run 'TestBackupModel/seed_N' .
			m := &backupModel{t: t, r: rand.New(rand.NewPCG(seed, 21)), seed: seed, states: []kv{{}}}
			m.on(simdisk.New(2 << 20))
			for range 300 {
				m.step()
			}
			m.backup()
			if seed%6 == 5 { // each takes a dozen syncs
				m.restore()
			}
			require.NoError(t, m.db.Close())
			m.disk.Release()
			ran++
			gone, increments, cuts = gone+m.gone, increments+m.increments, cuts+m.cuts
		})
	}
	if ran < 7 {
		return // one alone, to be repeated
	}
	require.Greater(t, increments, 150)
	require.Greater(t, gone, 10)
	require.Greater(t, cuts, 20)
}

func (m *backupModel) open() {
	db, err := simOpen(m.disk, m.seed, m.seed<<8|m.opened, Options{Sync: SyncMode(1 + m.r.IntN(3)), PadCommits: m.seed%3 == 0})
	require.NoError(m.t, err)
	m.db = db
	m.opened++
}

// on goes on with a disk, which must know of all stores before each sync.
func (m *backupModel) on(disk *simdisk.Disk) {
	m.disk = disk
	disk.OnEvent = func(simdisk.Event) { m.notice() }
	m.open()
}

func (m *backupModel) notice() {
	if !invariants.On {
		m.disk.Notice()
	}
}

func (m *backupModel) want() kv { return m.states[len(m.states)-1] }

// durable says that a power cut cannot take the newest state back.
func (m *backupModel) durable() { m.states = m.states[len(m.states)-1:] }

func (m *backupModel) change(f func(kv)) {
	next := maps.Clone(m.want())
	f(next)
	m.states = append(m.states, next)
}

func (m *backupModel) key() string { return fmt.Sprintf("key%d", m.r.IntN(30)) }

func (m *backupModel) value() string {
	return letters[m.r.IntN(len(letters))][:[]int{0, 5, 60, 900, 3000}[m.r.IntN(5)]]
}

func (m *backupModel) step() {
	switch x := m.r.IntN(60); {
	case x < 20:
		k, v := m.key(), m.value()
		m.change(func(to kv) { to[k] = v })
		require.NoError(m.t, m.db.Put([]byte(k), []byte(v)))
	case x < 32:
		k := m.key()
		m.change(func(to kv) { delete(to, k) })
		require.NoError(m.t, m.db.Delete([]byte(k)))
	case x < 36:
		m.tx()
	case x < 37:
		m.change(func(to kv) { clear(to) })
		require.NoError(m.t, m.db.Clear())
	case x < 41:
		require.NoError(m.t, m.db.Checkpoint())
		m.durable()
	case x < 44:
		require.NoError(m.t, m.db.Compact(context.Background()))
	case x < 46:
		require.NoError(m.t, m.db.Close())
		m.durable()
		m.open()
	case x < 47:
		m.become(m.disk.Kill())
	case x < 50:
		m.cut()
	case x < 52:
		m.backup()
	default:
		m.increment()
	}
}

func (m *backupModel) tx() {
	next := maps.Clone(m.want())
	require.NoError(m.t, m.db.Update(func(tx *Tx) error {
		for range 1 + m.r.IntN(5) {
			if k := m.key(); m.r.IntN(3) == 0 {
				delete(next, k)
				require.NoError(m.t, tx.Delete([]byte(k)))
			} else {
				next[k] = m.value()
				require.NoError(m.t, tx.Put([]byte(k), []byte(next[k])))
			}
		}
		return nil
	}))
	m.states = append(m.states, next)
}

// cut cuts the power: some outcome of it.
func (m *backupModel) cut() {
	m.notice()
	var left *simdisk.Disk
	m.disk.States(m.r, simdisk.StateOptions{Sample: 4}, func(img *simdisk.Disk) bool {
		if left != nil {
			left.Release()
		}
		left = img
		return m.r.IntN(3) > 0
	})
	m.cuts++
	m.become(left)
}

// become goes on with what a crash left.
func (m *backupModel) become(left *simdisk.Disk) {
	m.on(left)
	got := contentsOf(m.t, m.db)
	for i := len(m.states) - 1; ; i-- {
		require.GreaterOrEqual(m.t, i, 0, "the state is that after no prefix")
		if maps.Equal(got, m.states[i]) {
			m.states = m.states[i : i+1]
			return
		}
	}
}

func contentsOf(t *testing.T, db *DB) kv {
	got := kv{}
	require.NoError(t, db.View(func(tx *Tx) error {
		for k, v := range tx.All() {
			got[string(k)] = string(v)
		}
		return tx.Err()
	}))
	return got
}

func (m *backupModel) backup() {
	var b bytes.Buffer
	sequence, err := m.db.Backup(context.Background(), &b)
	require.NoError(m.t, err)
	m.durable()
	m.take(backupPoint{sequence: sequence, streams: [][]byte{b.Bytes()}})
}

// take notes a backup, when it leads to what the map holds.
func (m *backupModel) take(p backupPoint) {
	got, last, err := replayBackup(p.streams...)
	require.NoError(m.t, err)
	require.Equal(m.t, p.sequence, last)
	require.Equal(m.t, m.want(), got)
	p.state = got
	m.points = append(m.points, p)
}

// increment backs up what has changed since some earlier backup.
func (m *backupModel) increment() {
	if len(m.points) == 0 {
		return
	}
	p := m.points[len(m.points)-1-m.r.IntN(min(len(m.points), 6))]
	var b bytes.Buffer
	sequence, err := m.db.BackupSince(context.Background(), &b, p.sequence)
	if errors.Is(err, ErrHistoryGone) {
		require.Zero(m.t, b.Len())
		m.gone++
		return
	}
	require.NoError(m.t, err)
	m.durable()
	m.increments++
	m.take(backupPoint{sequence: sequence, streams: append(p.streams[:len(p.streams):len(p.streams)], b.Bytes())})
}

// restore restores one of the backups to a real file.
func (m *backupModel) restore() {
	p := m.points[m.r.IntN(len(m.points))]
	path := filepath.Join(m.t.TempDir(), "restored.map")
	require.NoError(m.t, Restore(context.Background(), bytes.NewReader(bytes.Join(p.streams, nil)), path))
	db, err := Open(path, nil)
	require.NoError(m.t, err)
	require.Equal(m.t, p.state, contentsOf(m.t, db))
	_, err = db.BackupSince(context.Background(), &bytes.Buffer{}, p.sequence)
	require.ErrorIs(m.t, err, ErrHistoryGone, "a restored map is another one")
	report, err := Check(context.Background(), path, nil)
	require.ErrorIs(m.t, err, ErrLocked)
	require.Nil(m.t, report)
	require.NoError(m.t, db.Close())
	report, err = Check(context.Background(), path, nil)
	require.NoError(m.t, err)
	require.Empty(m.t, report.Findings)
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(m.t, err)
	require.Len(m.t, entries, 1)
}
