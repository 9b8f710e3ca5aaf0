package mapfile_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/mapfile-db/mapfile"
)

// tempMap opens a new map in a directory of its own; done closes it and removes both.
func tempMap() (db *mapfile.DB, done func()) { return tempMapWith(mapfile.Options{}) }

func tempMapWith(o mapfile.Options) (db *mapfile.DB, done func()) {
	dir, err := os.MkdirTemp("", "mapfile-example-")
	must(err)
	db, err = mapfile.Open(filepath.Join(dir, "fruit.map"), &o)
	must(err)
	return db, func() {
		must(db.Close())
		must(os.RemoveAll(dir))
	}
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// fruit puts three keys.
func fruit(db *mapfile.DB) {
	must(db.Put([]byte("apple"), []byte("red")))
	must(db.Put([]byte("banana"), []byte("yellow")))
	must(db.Put([]byte("kiwi"), []byte("green")))
}

func Example() {
	dir, err := os.MkdirTemp("", "mapfile-example-")
	must(err)
	defer os.RemoveAll(dir)
	db, err := mapfile.Open(filepath.Join(dir, "fruit.map"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	if err := db.Put([]byte("apple"), []byte("red")); err != nil {
		log.Fatal(err)
	}
	value, err := db.Get([]byte("apple"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("apple: %s, %d key\n", value, db.Len())
	// Output: apple: red, 1 key
}

func ExampleOpen() {
	dir, err := os.MkdirTemp("", "mapfile-example-")
	must(err)
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "a.map")

	db, err := mapfile.Open(path, &mapfile.Options{Sync: mapfile.SyncNever, Mode: 0o644})
	must(err)
	_, err = mapfile.Open(path, &mapfile.Options{LockTimeout: -1})
	fmt.Println("second open is refused:", errors.Is(err, mapfile.ErrLocked))
	must(db.Close())

	db, err = mapfile.Open(path, &mapfile.Options{ReadOnly: true})
	must(err)
	fmt.Println("put is refused:", errors.Is(db.Put(nil, nil), mapfile.ErrReadOnly))
	must(db.Close())
	// Output:
	// second open is refused: true
	// put is refused: true
}

func ExampleSyncMode_String() {
	fmt.Println(mapfile.SyncAlways, mapfile.SyncInterval, mapfile.SyncNever)
	// Output: always interval never
}

func ExampleDB_Get() {
	db, done := tempMap()
	defer done()
	fruit(db)
	value, err := db.Get([]byte("apple"))
	fmt.Printf("%s, %v\n", value, err)
	_, err = db.Get([]byte("stone"))
	fmt.Println(err == mapfile.ErrNotFound)
	// Output:
	// red, <nil>
	// true
}

func ExampleDB_AppendGet() {
	db, done := tempMap()
	defer done()
	fruit(db)
	var buf []byte // used again and again: no allocation once it is large enough
	for _, key := range []string{"apple", "banana"} {
		var err error
		buf, err = db.AppendGet(buf[:0], []byte(key))
		must(err)
		fmt.Printf("%s\n", buf)
	}
	// Output:
	// red
	// yellow
}

func ExampleDB_GetFunc() {
	db, done := tempMap()
	defer done()
	fruit(db)
	err := db.GetFunc([]byte("banana"), func(value []byte) error {
		fmt.Println(len(value), "bytes, not copied") // value must not be kept
		return nil
	})
	must(err)
	// Output: 6 bytes, not copied
}

func ExampleDB_GetMany() {
	db, done := tempMap()
	defer done()
	fruit(db)
	keys := [][]byte{[]byte("kiwi"), []byte("stone"), []byte("apple")}
	err := db.GetMany(keys, func(i int, value []byte, err error) error {
		if err == mapfile.ErrNotFound {
			fmt.Printf("%s is no fruit\n", keys[i])
			return nil
		}
		fmt.Printf("%s is %s\n", keys[i], value)
		return err
	})
	must(err)
	// Output:
	// kiwi is green
	// stone is no fruit
	// apple is red
}

func ExampleDB_Has() {
	db, done := tempMap()
	defer done()
	fruit(db)
	found, err := db.Has([]byte("apple"))
	fmt.Println(found, err)
	// Output: true <nil>
}

func ExampleDB_Put() {
	db, done := tempMap()
	defer done()
	must(db.Put([]byte("apple"), []byte("green")))
	must(db.Put([]byte("apple"), []byte("red")))
	value, err := db.Get([]byte("apple"))
	fmt.Printf("%s, %v\n", value, err)
	err = db.Put(make([]byte, mapfile.MaxKeySize+1), nil)
	fmt.Println(errors.Is(err, mapfile.ErrKeyTooLarge))
	// Output:
	// red, <nil>
	// true
}

func ExampleDB_Delete() {
	db, done := tempMap()
	defer done()
	fruit(db)
	fmt.Println(db.Delete([]byte("apple")), db.Delete([]byte("stone")), db.Len())
	// Output: <nil> <nil> 2
}

func ExampleDB_Len() {
	db, done := tempMap()
	defer done()
	fruit(db)
	fmt.Println(db.Len())
	// Output: 3
}

func ExampleDB_Path() {
	db, done := tempMap()
	defer done()
	fmt.Println(filepath.IsAbs(db.Path()), filepath.Base(db.Path()))
	// Output: true fruit.map
}

func ExampleDB_View() {
	db, done := tempMap()
	defer done()
	fruit(db)
	err := db.View(func(tx *mapfile.Tx) error {
		must(db.Delete([]byte("apple"))) // another writer: the snapshot does not change
		value, err := tx.Get([]byte("apple"))
		fmt.Printf("%s of %d, outside %d\n", value, tx.Len(), db.Len())
		return err
	})
	must(err)
	// Output: red of 3, outside 2
}

func ExampleDB_Update() {
	db, done := tempMap()
	defer done()
	fruit(db)
	changedMind := errors.New("changed my mind")
	err := db.Update(func(tx *mapfile.Tx) error {
		if err := tx.Delete([]byte("apple")); err != nil {
			return err
		}
		return changedMind // rolls back
	})
	fmt.Println(err == changedMind, db.Len())
	// Output: true 3
}

func ExampleDB_BeginTx() {
	db, done := tempMap()
	defer done()
	fruit(db)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // bounds the wait for the turn
	defer cancel()
	tx, err := db.BeginTx(ctx, &mapfile.TxOptions{Sync: mapfile.SyncNever})
	must(err)
	defer tx.Rollback() // does nothing behind Commit
	must(tx.Put([]byte("plum"), []byte("blue")))
	must(tx.Delete([]byte("apple")))
	must(tx.Commit())
	fmt.Println(db.Len(), tx.Rollback() == mapfile.ErrTxDone)
	// Output: 3 true
}

func ExampleTx_All() {
	db, done := tempMap()
	defer done()
	fruit(db)
	colours := map[string]string{}
	err := db.View(func(tx *mapfile.Tx) error {
		for key, value := range tx.All() {
			colours[string(key)] = string(value) // copies: both are valid until the loop moves on
		}
		return tx.Err()
	})
	must(err)
	for _, key := range slices.Sorted(maps.Keys(colours)) {
		fmt.Println(key, colours[key])
	}
	// Output:
	// apple red
	// banana yellow
	// kiwi green
}

func ExampleTx_Get() {
	db, done := tempMap()
	defer done()
	err := db.Update(func(tx *mapfile.Tx) error {
		must(tx.Put([]byte("plum"), []byte("blue")))
		value, err := tx.Get([]byte("plum")) // its own write
		fmt.Printf("%s\n", value)
		return err
	})
	must(err)
	// Output: blue
}

func ExampleDB_Sync() {
	db, done := tempMap()
	defer done()
	tx, err := db.BeginTx(context.Background(), &mapfile.TxOptions{Sync: mapfile.SyncNever})
	must(err)
	must(tx.Put([]byte("apple"), []byte("red")))
	must(tx.Commit())
	before := db.Stats()
	must(db.Sync())
	after := db.Stats()
	fmt.Println(before.Durable < before.Appended, after.Durable == after.Appended)
	// Output: true true
}

func ExampleDB_Checkpoint() {
	db, done := tempMap()
	defer done()
	fruit(db)
	must(db.Checkpoint())
	st := db.Stats()
	fmt.Println(st.Checkpoints, "checkpoint,", st.LogBytes, "bytes to replay after a crash")
	// Output: 1 checkpoint, 0 bytes to replay after a crash
}

func ExampleDB_Stats() {
	db, done := tempMap()
	defer done()
	fruit(db)
	must(db.Delete([]byte("kiwi")))
	st := db.Stats()
	fmt.Println(st.Keys, "keys,", st.Tombstones, "tombstone")
	// Output: 2 keys, 1 tombstone
}

func ExampleDB_Mapped() {
	db, done := tempMap()
	defer done()
	fruit(db)
	bytes, huge, err := db.Mapped()
	if errors.Is(err, errors.ErrUnsupported) {
		bytes, err = 1, nil // not on Linux
	}
	fmt.Println(bytes > 0, huge <= bytes, err)
	// Output: true true <nil>
}

func ExampleDB_Close() {
	db, done := tempMap()
	defer done()
	fmt.Println(db.Close(), db.Close())
	_, err := db.Get([]byte("apple"))
	fmt.Println(errors.Is(err, mapfile.ErrClosed))
	// Output:
	// <nil> <nil>
	// true
}
