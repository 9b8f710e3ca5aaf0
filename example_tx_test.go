package mapfile_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mapfile-db/mapfile"
)

func ExampleTx_Put() {
	db, done := tempMap()
	defer done()
	err := db.Update(func(tx *mapfile.Tx) error {
		if err := tx.Put([]byte("apple"), []byte("red")); err != nil {
			return err
		}
		value, err := tx.Get([]byte("apple")) // its own write
		fmt.Printf("inside: %s, outside: %d keys\n", value, db.Len())
		return err
	})
	fmt.Println(db.Len(), err)
	// Output:
	// inside: red, outside: 0 keys
	// 1 <nil>
}

func ExampleTx_Delete() {
	db, done := tempMap()
	defer done()
	fruit(db)
	err := db.Update(func(tx *mapfile.Tx) error {
		return errors.Join(tx.Delete([]byte("apple")), tx.Delete([]byte("missing")))
	})
	fmt.Println(db.Len(), err)
	// Output: 2 <nil>
}

func ExampleTx_GetFunc() {
	db, done := tempMap()
	defer done()
	fruit(db)
	err := db.View(func(tx *mapfile.Tx) error {
		return tx.GetFunc([]byte("banana"), func(value []byte) error { // valid in here
			fmt.Println(len(value), "bytes:", string(value))
			return nil
		})
	})
	fmt.Println(err)
	// Output:
	// 6 bytes: yellow
	// <nil>
}

func ExampleTx_Has() {
	db, done := tempMap()
	defer done()
	fruit(db)
	_ = db.View(func(tx *mapfile.Tx) error {
		fmt.Println(tx.Has([]byte("kiwi")))
		fmt.Println(tx.Has([]byte("plum")))
		return nil
	})
	// Output:
	// true <nil>
	// false <nil>
}

func ExampleTx_Len() {
	db, done := tempMap()
	defer done()
	fruit(db)
	_ = db.Update(func(tx *mapfile.Tx) error {
		_ = tx.Delete([]byte("kiwi"))
		fmt.Println(tx.Len(), db.Len())
		return errors.New("roll back")
	})
	// Output: 2 3
}

func ExampleTx_Commit() {
	db, done := tempMap()
	defer done()
	tx, err := db.BeginTx(context.Background(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer tx.Rollback() // ErrTxDone behind Commit: does no harm
	_ = tx.Put([]byte("apple"), []byte("red"))
	fmt.Println(tx.Commit())
	fmt.Println(tx.Put([]byte("kiwi"), nil))
	// Output:
	// <nil>
	// mapfile: transaction has ended
}

func ExampleTx_Rollback() {
	db, done := tempMap()
	defer done()
	tx, err := db.BeginTx(context.Background(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = tx.Put([]byte("apple"), []byte("red"))
	fmt.Println(tx.Rollback(), db.Len())
	fmt.Println(tx.Rollback())
	// Output:
	// <nil> 0
	// mapfile: transaction has ended
}

func ExampleTx_Err() {
	db, done := tempMap()
	defer done()
	fruit(db)
	err := db.View(func(tx *mapfile.Tx) error {
		n := 0
		for range tx.All() {
			n++
		}
		fmt.Println(n)
		return tx.Err() // a loop cannot return an error itself
	})
	fmt.Println(err)
	// Output:
	// 3
	// <nil>
}

func ExampleScan() {
	db, done := tempMap()
	defer done()
	fruit(db)
	_ = db.View(func(tx *mapfile.Tx) error {
		var keys []string
		for key := range tx.Scan(mapfile.Range{}).All() {
			keys = append(keys, string(key)) // copied: key is valid until the loop moves on
		}
		slices.Sort(keys) // a scan is in the order of hashes
		fmt.Println(keys)
		return tx.Err()
	})
	// Output: [apple banana kiwi]
}

func ExampleScan_All() {
	db, done := tempMap()
	defer done()
	fruit(db)
	_ = db.View(func(tx *mapfile.Tx) error {
		letters := 0
		for key, value := range tx.Scan(mapfile.Range{}).All() {
			letters += len(key) + len(value)
		}
		fmt.Println(letters, "letters")
		return tx.Err()
	})
	// Output: 29 letters
}

func ExampleScan_Token() {
	db, done := tempMap()
	defer done()
	fruit(db)
	var token []byte
	_ = db.View(func(tx *mapfile.Tx) error {
		scan := tx.Scan(mapfile.Range{})
		for range scan.All() {
			break // behind the first key
		}
		token = scan.Token()
		return tx.Err()
	})
	fmt.Println(len(token), "bytes")
	left, err := mapfile.Range{}.After(token)
	n := 0
	_ = db.View(func(tx *mapfile.Tx) error { // another transaction, or another process
		for range tx.Scan(left).All() {
			n++
		}
		return tx.Err()
	})
	fmt.Println(n, "more", err)
	// Output:
	// 17 bytes
	// 2 more <nil>
}

func ExampleRange_After() {
	_, err := mapfile.Range{}.After([]byte("no token"))
	fmt.Println(errors.Is(err, mapfile.ErrToken))
	// Output: true
}

func ExampleDB_Compact() {
	db, done := tempMap()
	defer done()
	for range 100 {
		_ = db.Put([]byte("counter"), make([]byte, 10_000))
	}
	before := db.Stats().GarbageBytes
	err := db.Compact(context.Background())
	fmt.Println(before > 500_000, db.Stats().GarbageBytes < before, err)
	// Output: true true <nil>
}

func ExampleOptions() {
	db, done := tempMapWith(mapfile.Options{Sync: mapfile.SyncInterval, SyncEvery: 50 * time.Millisecond, MaxSize: 1 << 20})
	defer done()
	_ = db.Put([]byte("apple"), []byte("red")) // durable within 50 ms
	err := db.Put([]byte("large"), make([]byte, 2<<20))
	fmt.Println(errors.Is(err, mapfile.ErrFull), db.Len())
	// Output: true 1
}

func ExampleTxOptions() {
	db, done := tempMapWith(mapfile.Options{Sync: mapfile.SyncNever})
	defer done()
	_ = db.Put([]byte("apple"), []byte("red")) // a power cut may take it back
	st := db.Stats()
	fmt.Println(st.Durable == st.Appended)
	tx, err := db.BeginTx(context.Background(), &mapfile.TxOptions{Sync: mapfile.SyncAlways})
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = tx.Put([]byte("kiwi"), []byte("green"))
	fmt.Println(tx.Commit()) // both are durable
	st = db.Stats()
	fmt.Println(st.Durable == st.Appended)
	// Output:
	// false
	// <nil>
	// true
}

func ExampleStats() {
	db, done := tempMap()
	defer done()
	fruit(db)
	_ = db.Delete([]byte("kiwi"))
	st := db.Stats()
	fmt.Println(st.Keys, "keys,", st.Tombstones, "tombstone,", st.Sequence, "commits,", st.Readers, "readers")
	fmt.Println(st.LiveBytes > 0, st.GarbageBytes > 0)
	// Output:
	// 2 keys, 1 tombstone, 4 commits, 0 readers
	// true true
}

func ExampleWaits() {
	db, done := tempMap()
	defer done()
	fruit(db)
	_ = db.Checkpoint()
	w := db.Stats().Waits // the longest so far
	fmt.Println(w.Seal > 0, w.Seal < time.Minute, w.Finish < time.Minute, w.Growth < time.Minute)
	// Output: true true true true
}

func ExampleSlowestWrite() {
	db, done := tempMap()
	defer done()
	fruit(db)
	s := db.Stats().Waits.Slowest
	if s.Took > time.Second {
		fmt.Printf("a Put took %v, %v of it for %s", s.Took, s.Waited, s.For)
	}
	fmt.Println(s.Waited <= s.Took)
	// Output: true
}
