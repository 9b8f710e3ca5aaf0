package mapfile_test

import (
	"errors"
	"fmt"
	"strings"

	"github.com/mapfile-db/mapfile"
)

func ExampleDB_GetOrPut() {
	db, done := tempMap()
	defer done()
	for _, value := range []string{"first", "second"} {
		actual, loaded, err := db.GetOrPut([]byte("k"), []byte(value))
		fmt.Println(string(actual), loaded, err)
	}
	// Output:
	// first false <nil>
	// first true <nil>
}

func ExampleDB_GetAndDelete() {
	db, done := tempMap()
	defer done()
	_ = db.Put([]byte("job"), []byte("paint"))
	for range 2 {
		value, loaded, err := db.GetAndDelete([]byte("job"))
		fmt.Println(string(value), loaded, err)
	}
	// Output:
	// paint true <nil>
	//  false <nil>
}

func ExampleDB_Swap() {
	db, done := tempMap()
	defer done()
	for _, value := range []string{"red", "green"} {
		previous, loaded, err := db.Swap([]byte("light"), []byte(value))
		fmt.Printf("%q %v %v\n", previous, loaded, err)
	}
	// Output:
	// "" false <nil>
	// "red" true <nil>
}

func ExampleDB_CompareAndSwap() {
	db, done := tempMap()
	defer done()
	_ = db.Put([]byte("owner"), []byte("nobody"))
	for _, me := range []string{"ann", "ben"} {
		swapped, err := db.CompareAndSwap([]byte("owner"), []byte("nobody"), []byte(me))
		fmt.Println(me, swapped, err)
	}
	// Output:
	// ann true <nil>
	// ben false <nil>
}

func ExampleDB_CompareAndDelete() {
	db, done := tempMap()
	defer done()
	_ = db.Put([]byte("lease"), []byte("ann"))
	fmt.Println(db.CompareAndDelete([]byte("lease"), []byte("ben")))
	fmt.Println(db.CompareAndDelete([]byte("lease"), []byte("ann")))
	// Output:
	// false <nil>
	// true <nil>
}

func ExampleDB_Modify() {
	db, done := tempMap()
	defer done()
	for range 2 {
		err := db.Modify([]byte("list"), func(old []byte, ok bool) ([]byte, bool, error) {
			return append(old, "item;"...), true, nil
		})
		if err != nil {
			fmt.Println(err)
		}
	}
	value, err := db.Get([]byte("list"))
	fmt.Println(string(value), err)
	// Output: item;item; <nil>
}

func ExampleDB_Add() {
	db, done := tempMap()
	defer done()
	fmt.Println(db.Add([]byte("visits"), 2))
	fmt.Println(db.Add([]byte("visits"), -5))
	_ = db.Put([]byte("name"), []byte("Ada"))
	_, err := db.Add([]byte("name"), 1)
	fmt.Println(errors.Is(err, mapfile.ErrNotCounter))
	// Output:
	// 2 <nil>
	// -3 <nil>
	// true
}

func ExampleDB_Clear() {
	db, done := tempMap()
	defer done()
	_ = db.Put([]byte("k"), []byte("v"))
	fmt.Println(db.Clear(), db.Len())
	// Output: <nil> 0
}

func ExampleTx_Keys() {
	db, done := tempMap()
	defer done()
	_ = db.Put([]byte("k"), []byte("v"))
	err := db.View(func(tx *mapfile.Tx) error {
		for key := range tx.Keys() {
			fmt.Println(string(key))
		}
		return tx.Err()
	})
	fmt.Println(err)
	// Output:
	// k
	// <nil>
}

func ExampleTx_Values() {
	db, done := tempMap()
	defer done()
	_ = db.Put([]byte("k"), []byte("v"))
	err := db.View(func(tx *mapfile.Tx) error {
		for value := range tx.Values() {
			fmt.Println(string(value))
		}
		return tx.Err()
	})
	fmt.Println(err)
	// Output:
	// v
	// <nil>
}

// A scan in pages, each in a transaction of its own, with a token from page to page.
func ExampleTx_Scan() {
	db, done := tempMap()
	defer done()
	for i := range 5 {
		_ = db.Put(fmt.Append(nil, i), nil)
	}
	rest, shown := mapfile.Range{}, 0
	for pages := 1; ; pages++ {
		var token []byte
		onPage := 0
		err := db.View(func(tx *mapfile.Tx) error {
			scan := tx.Scan(rest)
			for range scan.All() {
				if onPage++; onPage == 2 {
					break
				}
			}
			token = scan.Token()
			return tx.Err()
		})
		if err != nil {
			fmt.Println(err)
		}
		shown += onPage
		if onPage < 2 {
			fmt.Println(shown, "keys on", pages, "pages")
			return
		}
		if rest, err = rest.After(token); err != nil {
			fmt.Println(err)
		}
	}
	// Output: 5 keys on 3 pages
}

func ExampleRange_Split() {
	db, done := tempMap()
	defer done()
	for i := range 100 {
		_ = db.Put(fmt.Append(nil, i), nil)
	}
	n := 0
	err := db.View(func(tx *mapfile.Tx) error {
		for _, part := range (mapfile.Range{}).Split(4) { // each could have a goroutine of its own
			for range tx.Scan(part).All() {
				n++
			}
		}
		return tx.Err()
	})
	fmt.Println(n, err)
	// Output: 100 <nil>
}

func ExampleCompactionOptions() {
	db, done := tempMapWith(mapfile.Options{Compaction: mapfile.CompactionOptions{Garbage: 25, Rate: 8 << 20}}) // a smaller file, and a gentler worker
	defer done()
	must(db.Put([]byte("apple"), []byte("red")))
	fmt.Println(db.Len())
	// Output: 1
}

func ExampleDebugOptions() {
	db, done := tempMapWith(mapfile.Options{Debug: mapfile.DebugOptions{Callers: true}})
	defer done()
	err := db.Update(func(*mapfile.Tx) error {
		return db.Put([]byte("k"), nil) // it should be tx.Put
	})
	fmt.Println(errors.Is(err, mapfile.ErrSelfWait), strings.Count(err.Error(), "example_atomic_test.go"))
	// Output: true 2
}

func ExampleOldestReader() {
	db, done := tempMapWith(mapfile.Options{Debug: mapfile.DebugOptions{Callers: true}})
	defer done()
	_ = db.View(func(*mapfile.Tx) error {
		st := db.Stats()
		fmt.Println(st.Readers, st.Oldest.Sequence, strings.Contains(st.Oldest.Caller, "ExampleOldestReader"))
		return nil
	})
	// Output: 1 0 true
}
