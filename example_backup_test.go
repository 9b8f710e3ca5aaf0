package mapfile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/mapfile-db/mapfile"
)

// fruitMap is an open map of three keys, in a directory of its own.
func fruitMap() (db *mapfile.DB, done func()) {
	dir, err := os.MkdirTemp("", "mapfile-example-")
	must(err)
	db, err = mapfile.Open(filepath.Join(dir, "fruit.map"), nil)
	must(err)
	fruit(db)
	return db, func() {
		must(db.Close())
		must(os.RemoveAll(dir))
	}
}

func ExampleDB_Backup() {
	db, done := fruitMap()
	defer done()
	f, err := os.Create(filepath.Join(filepath.Dir(db.Path()), "fruit.backup"))
	must(err)
	sequence, err := db.Backup(context.Background(), f)
	must(err)
	must(f.Sync())
	must(f.Close())
	fmt.Println(sequence)
	// Output: 3
}

func ExampleDB_BackupSince() {
	db, done := fruitMap()
	defer done()
	var monday, tuesday bytes.Buffer
	sequence, err := db.Backup(context.Background(), &monday)
	must(err)

	must(db.Put([]byte("kiwi"), []byte("brown")))
	must(db.Delete([]byte("apple")))
	next, err := db.BackupSince(context.Background(), &tuesday, sequence)
	must(err)
	infos, err := mapfile.VerifyBackup(context.Background(), &tuesday)
	must(err)
	fmt.Println(sequence, next, infos[0].Puts, infos[0].Deletes)

	_, err = db.BackupSince(context.Background(), io.Discard, 100) // of another map, it seems
	fmt.Println(errors.Is(err, mapfile.ErrHistoryGone))
	// Output:
	// 3 5 1 1
	// true
}

func ExampleRestore() {
	db, done := fruitMap()
	defer done()
	var monday, tuesday bytes.Buffer
	sequence, err := db.Backup(context.Background(), &monday)
	must(err)
	must(db.Put([]byte("kiwi"), []byte("brown")))
	_, err = db.BackupSince(context.Background(), &tuesday, sequence)
	must(err)

	path := filepath.Join(filepath.Dir(db.Path()), "restored.map")
	must(mapfile.Restore(context.Background(), io.MultiReader(&monday, &tuesday), path))
	restored, err := mapfile.Open(path, nil)
	must(err)
	defer restored.Close()
	value, err := restored.Get([]byte("kiwi"))
	fmt.Printf("%d keys, kiwi: %s %v\n", restored.Len(), value, err)
	// Output: 3 keys, kiwi: brown <nil>
}

func ExampleVerifyBackup() {
	db, done := fruitMap()
	defer done()
	var b bytes.Buffer
	_, err := db.Backup(context.Background(), &b)
	must(err)
	short := b.Bytes()[:b.Len()-1]

	infos, err := mapfile.VerifyBackup(context.Background(), &b)
	fmt.Println(len(infos), infos[0].Keys, err)
	_, err = mapfile.VerifyBackup(context.Background(), bytes.NewReader(short))
	fmt.Println(err)
	// Output:
	// 1 3 <nil>
	// mapfile: stream 1: not a whole backup: byte 173: it is cut short
}

func ExampleBackupInfo() {
	db, done := fruitMap()
	defer done()
	var b bytes.Buffer
	_, err := db.Backup(context.Background(), &b)
	must(err)
	infos, err := mapfile.VerifyBackup(context.Background(), &b)
	must(err)
	info := infos[0]
	fmt.Println(info.Increment, info.Sequence, info.Keys, info.Puts, info.Bytes, info.Size)
	// Output: false 3 3 3 29 253
}
