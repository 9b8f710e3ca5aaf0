package cli

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

func TestCourseTakesEveryFileOnceAGeneration(t *testing.T) {
	for _, files := range []int{1, 3, 4, 5, 18, 19} {
		t.Run(fmt.Sprint(files, " files"), func(t *testing.T) {
			c := newCourse(files)
			got := map[[2]int]int{}
			for writer := range c.writers {
				own := 0
				for step := 0; ; step++ {
					file, generation := c.at(writer, step)
					if generation == 3 {
						require.Equal(t, 3*own, step)
						break
					}
					require.Equal(t, writer, file%c.writers, "a key of another writer")
					if generation == 0 {
						own++
					}
					got[[2]int{file, generation}]++
				}
			}
			require.Len(t, got, 3*files)
			for _, n := range got {
				require.Equal(t, 1, n)
			}
		})
	}
}

func TestLedgerRefusesALogOutOfOrder(t *testing.T) {
	for name, log := range map[string][]string{
		"done before begin":   {"done 0 0"},
		"two begins":          {"begin 0 0", "begin 0 0"},
		"step left out":       {"begin 0 0", "done 0 0", "begin 0 2"},
		"no such writer":      {"begin 4 0"},
		"writer below zero":   {"begin -1 0"},
		"unknown word":        {"began 0 0"},
		"something else":      {"panic: oh"},
		"done of another one": {"begin 0 0", "done 1 0"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(tenFiles(t))
			for _, text := range log[:len(log)-1] {
				require.NoError(t, l.note(text))
			}
			require.ErrorContains(t, l.note(log[len(log)-1]), "the child's log: ")
		})
	}
}

func tenFiles(t *testing.T) *source {
	t.Helper()
	files := map[string]string{}
	for i := range 10 {
		files[fmt.Sprint(i)] = fmt.Sprint("content of ", i)
	}
	src, err := listSource(t.Context(), newTree(t, files), nil)
	require.NoError(t, err)
	return src
}

// File 0 is writer 0's first, file 4 its second; file 1 writer 1's first.
func TestLedgerTellsLossesFromFlight(t *testing.T) {
	whole := func(file, generation int) string {
		return fmt.Sprint("content of ", file) + string(suffix(generation))
	}
	acknowledged := []string{"begin 0 0", "done 0 0"}
	again := []string{"begin 0 0", "done 0 0", "begin 0 1", "done 0 1", "begin 0 2", "done 0 2", "begin 0 3"}
	rows := []struct {
		name   string
		log    []string
		db     map[string]string
		losses []string
	}{
		{"nothing put", nil, nil, nil},
		{"acknowledged and there", acknowledged, map[string]string{"0": whole(0, 0)}, nil},
		{"acknowledged and gone", acknowledged, nil, []string{"0: not there, where generation 0 was acknowledged"}},
		{"acknowledged and torn", acknowledged, map[string]string{"0": "content"}, []string{"0: wrong content, 7 bytes, where generation 0 was acknowledged"}},
		{"acknowledged and longer", acknowledged, map[string]string{"0": whole(0, 0) + "x"}, []string{"0: wrong content, 13 bytes, where generation 0 was acknowledged"}},
		{"another file's content", acknowledged, map[string]string{"0": whole(1, 0)}, []string{"0: wrong content, 12 bytes, where generation 0 was acknowledged"}},
		{"in flight and absent", []string{"begin 1 0"}, nil, nil},
		{"in flight and whole", []string{"begin 1 0"}, map[string]string{"1": whole(1, 0)}, nil},
		{"in flight and torn", []string{"begin 1 0"}, map[string]string{"1": "c"}, []string{"1: wrong content, 1 bytes, where nothing was put and generation 0 in flight"}},
		{"never put and there", acknowledged, map[string]string{"0": whole(0, 0), "5": whole(5, 0)}, []string{"5: wrong content, 12 bytes, where nothing was put"}},
		{"no file of that name", acknowledged, map[string]string{"0": whole(0, 0), "z": ""}, []string{"the map counts 2 keys, 1 are there"}},
		{"overwriting, old", again, map[string]string{"0": whole(0, 0), "4": whole(4, 0), "8": whole(8, 0)}, nil},
		{"overwriting, new", again, map[string]string{"0": whole(0, 1), "4": whole(4, 0), "8": whole(8, 0)}, nil},
		{"overwriting, gone", again, map[string]string{"4": whole(4, 0), "8": whole(8, 0)}, []string{"0: not there, where generation 0 was acknowledged and generation 1 in flight"}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			l := newLedger(tenFiles(t))
			for _, text := range row.log {
				require.NoError(t, l.note(text))
			}
			db, err := mapfile.Open(newMap(t, row.db), nil)
			require.NoError(t, err)
			defer func() { require.NoError(t, db.Close()) }()
			losses, err := l.check(db)
			require.NoError(t, err)
			require.Equal(t, row.losses, losses)
			require.Zero(t, l.inFlight(), "what was in flight is decided")
		})
	}
}

func TestLedgerHoldsWhatItFound(t *testing.T) {
	l := newLedger(tenFiles(t))
	require.NoError(t, l.note("begin 1 0"))
	path := newMap(t, map[string]string{"1": "content of 1"})
	db, err := mapfile.Open(path, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	losses, err := l.check(db)
	require.NoError(t, err)
	require.Empty(t, losses)
	require.Equal(t, 0, l.next[1], "the Put in flight is repeated")
	require.NoError(t, db.Delete([]byte("1")))
	losses, err = l.check(db)
	require.NoError(t, err)
	require.Equal(t, []string{"1: not there, where generation 0 was acknowledged"}, losses)
}

func TestLedgerIsCompleteWithTheLastFile(t *testing.T) {
	l := newLedger(tenFiles(t))
	for writer := range l.writers {
		for step := range 3 {
			if file, generation := l.at(writer, step); generation == 0 {
				require.False(t, l.complete(), "before file %d", file)
				require.NoError(t, l.note(fmt.Sprint("begin ", writer, " ", step)))
				require.NoError(t, l.note(fmt.Sprint("done ", writer, " ", step)))
			}
		}
	}
	require.True(t, l.complete())
	require.EqualValues(t, 10, l.puts)
	require.EqualValues(t, 10*len("content of 0"), l.bytes)
}
