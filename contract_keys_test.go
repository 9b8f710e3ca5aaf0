//go:build linux || darwin || freebsd

package mapfile_test

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile"
)

// TestKeysAndValues puts every shape of key and value, and reads it back in every way, before and after reopening.
func TestKeysAndValues(t *testing.T) {
	long := bytes.Repeat([]byte("k"), mapfile.MaxKeySize)
	rows := []struct {
		name       string
		key, value []byte
	}{
		{"nil key", nil, []byte("of the empty key")},
		{"nil value", []byte("nil value"), nil},
		{"empty value", []byte("empty value"), []byte{}},
		{"one byte", []byte{0}, []byte{0}},
		{"zeros", make([]byte, 100), make([]byte, 5000)},
		{"longest key", long, []byte("long")},
		{"longest key but one", long[1:], []byte("shorter")},
		{"a page", []byte("page"), bytes.Repeat([]byte("p"), 4096)},
		{"a segment", []byte("segment"), bytes.Repeat([]byte("s"), 2<<20)},
		{"70 MiB", []byte("large"), bytes.Repeat([]byte("0123456789"), 7<<20)},
	}
	db := openTest(t, newPath(t), &mapfile.Options{Sync: mapfile.SyncNever})
	for _, row := range rows {
		require.NoError(t, db.Put(row.key, row.value), row.name)
	}
	for _, when := range []string{"put", "reopened"} {
		require.EqualValues(t, len(rows), db.Len())
		for _, row := range rows {
			t.Run(row.name+" "+when, func(t *testing.T) { requireValue(t, db, row.key, row.value) })
		}
		require.NoError(t, db.Close())
		db = openTest(t, db.Path(), nil)
	}
	require.NoError(t, db.Close())
}

// requireValue reads a key in every way there is. The value is never nil.
func requireValue(t *testing.T, db *mapfile.DB, key, value []byte) {
	t.Helper()
	same := func(v []byte) {
		t.Helper()
		require.NotNil(t, v)
		require.True(t, bytes.Equal(v, value), "%d bytes, want %d", len(v), len(value))
	}
	v, err := db.Get(key)
	require.NoError(t, err)
	same(v)
	v, err = db.AppendGet([]byte("before"), key)
	require.NoError(t, err)
	same(bytes.TrimPrefix(v, []byte("before")))
	found, err := db.Has(key)
	require.NoError(t, err)
	require.True(t, found)
	called := 0
	require.NoError(t, db.GetFunc(key, func(v []byte) error { called++; same(v); return nil }))
	require.NoError(t, db.GetMany([][]byte{key}, func(_ int, v []byte, err error) error {
		called++
		same(v)
		return err
	}))
	require.Equal(t, 2, called)
	require.NoError(t, db.View(func(tx *mapfile.Tx) error {
		v, err := tx.Get(key)
		same(v)
		return err
	}))
}

func TestNilAndEmptyAreTheSame(t *testing.T) {
	db := newMap(t, nil)
	require.NoError(t, db.Put(nil, []byte("first")))
	require.NoError(t, db.Put([]byte{}, []byte("second")))
	require.EqualValues(t, 1, db.Len())
	requireValue(t, db, nil, []byte("second"))
	requireValue(t, db, []byte{}, []byte("second"))
	require.NoError(t, db.Update(func(tx *mapfile.Tx) error {
		require.NoError(t, tx.Delete([]byte{}))
		_, err := tx.Get(nil)
		require.Equal(t, mapfile.ErrNotFound, err)
		require.NoError(t, tx.Put([]byte{}, nil))
		v, err := tx.Get(nil)
		require.NotNil(t, v)
		require.Empty(t, v)
		return err
	}))
	requireValue(t, db, nil, nil)
}

// TestPutCopies changes key and value after they were given.
func TestPutCopies(t *testing.T) {
	db := newMap(t, nil)
	rows := []struct {
		name string
		put  func(key, value []byte) error
	}{
		{"DB", db.Put},
		{"Tx", func(key, value []byte) error {
			return db.Update(func(tx *mapfile.Tx) error {
				defer func() { key[0], value[0] = 'X', 'X' }()
				return tx.Put(key, value)
			})
		}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			key, value := []byte("key of "+row.name), []byte("value of "+row.name)
			require.NoError(t, row.put(key, value))
			key[0], value[0] = 'X', 'X'
			requireValue(t, db, []byte("key of "+row.name), []byte("value of "+row.name))
		})
	}
}

// TestGetCopies writes into what Get gave.
func TestGetCopies(t *testing.T) {
	db := newMap(t, nil)
	require.NoError(t, db.Put([]byte("k"), []byte("value")))
	v, err := db.Get([]byte("k"))
	require.NoError(t, err)
	v[0] = 'X'
	require.NoError(t, db.Update(func(tx *mapfile.Tx) error {
		v, err := tx.Get([]byte("k"))
		require.NoError(t, err)
		v[0] = 'Y'
		require.NoError(t, tx.Put([]byte("own"), []byte("value")))
		v, err = tx.Get([]byte("own"))
		v[0] = 'Z'
		return err
	}))
	requireValue(t, db, []byte("k"), []byte("value"))
	requireValue(t, db, []byte("own"), []byte("value"))
}

// TestMissing asks for a key that is not there: the bare sentinel, nil, and dst as it was.
func TestMissing(t *testing.T) {
	db := newMap(t, nil)
	require.NoError(t, db.Put([]byte("there"), []byte("value")))
	require.NoError(t, db.Put([]byte("deleted"), []byte("value")))
	require.NoError(t, db.Delete([]byte("deleted")))
	noCall := func([]byte) error { t.Error("called for a missing key"); return nil }
	for _, key := range [][]byte{nil, []byte("missing"), []byte("deleted"), tooLargeKey} {
		t.Run(fmt.Sprintf("%.10q", key), func(t *testing.T) {
			v, err := db.Get(key)
			require.Nil(t, v)
			require.True(t, err == mapfile.ErrNotFound, "the bare sentinel, got %v", err)
			dst := make([]byte, 3, 10)
			copy(dst, "dst")
			out, err := db.AppendGet(dst, key)
			require.True(t, err == mapfile.ErrNotFound)
			require.Equal(t, "dst", string(out))
			require.Equal(t, unsafe.SliceData(dst), unsafe.SliceData(out))
			require.Equal(t, cap(dst), cap(out))
			found, err := db.Has(key)
			require.NoError(t, err)
			require.False(t, found)
			require.True(t, db.GetFunc(key, noCall) == mapfile.ErrNotFound)
			require.NoError(t, db.GetMany([][]byte{key}, func(i int, v []byte, err error) error {
				require.Nil(t, v)
				require.True(t, err == mapfile.ErrNotFound)
				return nil
			}))
			require.NoError(t, db.View(func(tx *mapfile.Tx) error {
				v, err := tx.Get(key)
				require.Nil(t, v)
				require.True(t, err == mapfile.ErrNotFound)
				require.True(t, tx.GetFunc(key, noCall) == mapfile.ErrNotFound)
				found, err := tx.Has(key)
				require.False(t, found)
				return err
			}))
			require.NoError(t, db.Delete(key))
			require.NoError(t, db.Update(func(tx *mapfile.Tx) error { return tx.Delete(key) }))
		})
	}
}

// TestNoAllocation holds the calls that promise it to no allocation at all.
func TestNoAllocation(t *testing.T) {
	db := newMap(t, &mapfile.Options{Sync: mapfile.SyncNever})
	key, missing, value := []byte("there"), []byte("missing"), bytes.Repeat([]byte("v"), 100)
	require.NoError(t, db.Put(key, value))
	keys := [][]byte{key, missing, key, missing}
	dst := make([]byte, 0, 200)
	var failed error
	note := func(err error) {
		if err != nil && err != mapfile.ErrNotFound {
			failed = err
		}
	}
	rows := []struct {
		name string
		call func()
	}{
		{"AppendGet hit", func() { _, err := db.AppendGet(dst, key); note(err) }},
		{"AppendGet miss", func() { _, err := db.AppendGet(dst, missing); note(err) }},
		{"Get miss", func() { _, err := db.Get(missing); note(err) }},
		{"Has hit", func() { _, err := db.Has(key); note(err) }},
		{"Has miss", func() { _, err := db.Has(missing); note(err) }},
		{"GetFunc", func() { note(db.GetFunc(key, func([]byte) error { return nil })) }},
		{"GetFunc miss", func() { note(db.GetFunc(missing, func([]byte) error { return nil })) }},
		{"GetMany", func() { note(db.GetMany(keys, func(int, []byte, error) error { return nil })) }},
		{"Put of a key that is there", func() { note(db.Put(key, value)) }},
		{"Delete of a missing key", func() { note(db.Delete(missing)) }},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			require.Zero(t, testing.AllocsPerRun(100, row.call))
			require.NoError(t, failed)
		})
	}
	t.Run("Get hit allocates the copy only", func(t *testing.T) {
		require.EqualValues(t, 1, testing.AllocsPerRun(100, func() { _, err := db.Get(key); note(err) }))
	})
}

// TestDeleteMissingWritesNothing compares the file's bytes before and after.
func TestDeleteMissingWritesNothing(t *testing.T) {
	db := openTest(t, newPath(t), nil)
	require.NoError(t, db.Put([]byte("there"), []byte("value")))
	require.NoError(t, db.Close())
	db = openTest(t, db.Path(), nil)
	before := readFile(t, db.Path())
	require.NoError(t, db.Delete([]byte("missing")))
	require.NoError(t, db.Delete(tooLargeKey))
	require.NoError(t, db.Update(func(tx *mapfile.Tx) error {
		require.NoError(t, tx.Put([]byte("born"), nil))
		require.NoError(t, tx.Delete([]byte("born")))
		return tx.Delete([]byte("missing"))
	}))
	require.NoError(t, db.Sync())
	require.NoError(t, db.Checkpoint())
	require.NoError(t, db.Close())
	require.True(t, bytes.Equal(before, readFile(t, db.Path())), "the file has changed")
}

// TestTooLarge gives keys and values beyond the limits.
func TestTooLarge(t *testing.T) {
	if strconv.IntSize < 64 {
		t.Skip("no slice is too long for a value here")
	}
	db := newMap(t, nil)
	require.NoError(t, db.Put([]byte("k"), []byte("value")))
	// Sound: the map looks at the length and refuses before it reads a byte.
	one := new([8]byte)
	huge := unsafe.Slice(&one[0], 8)
	limit := uint64(math.MaxUint32) + 1
	(*sliceHeader)(unsafe.Pointer(&huge)).len = int(limit)
	(*sliceHeader)(unsafe.Pointer(&huge)).cap = int(limit)
	rows := []struct {
		name       string
		key, value []byte
		want       error
	}{
		{"key", tooLargeKey, nil, mapfile.ErrKeyTooLarge},
		{"value", []byte("k"), huge, mapfile.ErrValueTooLarge},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			err := db.Put(row.key, row.value)
			require.ErrorIs(t, err, row.want)
			requireNames(t, err, db.Path())
			err = db.Update(func(tx *mapfile.Tx) error { return tx.Put(row.key, row.value) })
			require.ErrorIs(t, err, row.want)
			requireNames(t, err, db.Path())
			requireValue(t, db, []byte("k"), []byte("value"))
		})
	}
	runtime.KeepAlive(one)
}

// sliceHeader is how Go lays out a slice.
type sliceHeader struct {
	data     unsafe.Pointer
	len, cap int
}

// TestLentBytesAreReadOnly stores into what callbacks were lent: the store faults, the fault comes back as the call's error, and nothing has changed.
func TestLentBytesAreReadOnly(t *testing.T) {
	db := newMap(t, nil)
	key, value := []byte("k"), bytes.Repeat([]byte("value "), 100)
	require.NoError(t, db.Put(key, value))
	scribble := func(v []byte) error { v[0] = 'X'; t.Error("the store went through"); return nil }
	rows := []struct {
		name string
		call func() error
	}{
		{"GetFunc", func() error { return db.GetFunc(key, scribble) }},
		{"GetMany", func() error {
			return db.GetMany([][]byte{key}, func(_ int, v []byte, _ error) error { return scribble(v) })
		}},
		{"View GetFunc", func() error { return db.View(func(tx *mapfile.Tx) error { return tx.GetFunc(key, scribble) }) }},
		{"Update GetFunc", func() error {
			return db.Update(func(tx *mapfile.Tx) error { return tx.GetFunc(key, scribble) })
		}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			requireNames(t, row.call(), db.Path())
			requireValue(t, db, key, value)
			require.NoError(t, db.Put([]byte("other"), []byte("writing goes on")))
		})
	}
	t.Run("appending to lent bytes copies them", func(t *testing.T) {
		require.NoError(t, db.GetFunc(key, func(v []byte) error {
			require.Equal(t, len(v), cap(v))
			require.Equal(t, "!", string(append(v, '!')[len(v):]))
			return nil
		}))
	})
}

// TestWhatAllYieldsIsItsOwn writes into what All yields.
func TestWhatAllYieldsIsItsOwn(t *testing.T) {
	db := newMap(t, nil)
	require.NoError(t, db.Put([]byte("key"), []byte("value")))
	require.NoError(t, db.View(func(tx *mapfile.Tx) error {
		for k, v := range tx.All() {
			k[0], v[0] = 'X', 'X'
		}
		return tx.Err()
	}))
	requireValue(t, db, []byte("key"), []byte("value"))
}

// TestRelativePath opens a relative path and then changes the directory.
func TestRelativePath(t *testing.T) {
	path := newPath(t)
	t.Chdir(filepath.Dir(path))
	db := openTest(t, "a.map", nil)
	t.Chdir(os.TempDir())
	require.Equal(t, path, db.Path())
	require.NoError(t, db.Put([]byte("k"), []byte("v")))
	require.NoError(t, db.Close())
	db = openTest(t, path, nil)
	requireValue(t, db, []byte("k"), []byte("v"))
	require.NoError(t, db.Close())
}
