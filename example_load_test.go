package mapfile_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/mapfile-db/mapfile"
)

func ExampleDB_BulkLoad() {
	db, done := tempMapWith(mapfile.Options{Sync: mapfile.SyncNever})
	defer done()
	err := db.BulkLoad(context.Background(), func(put func(key, value []byte) error) error {
		for i := range 100_000 {
			if err := put(fmt.Append(nil, "row ", i), []byte("value")); err != nil {
				return err
			}
		}
		return nil // now all of it is there; an error would leave nothing
	})
	fmt.Println(db.Len(), err)

	err = db.BulkLoad(context.Background(), func(put func(key, value []byte) error) error {
		if err := put([]byte("one more"), nil); err != nil {
			return err
		}
		return errors.New("the source broke off")
	})
	fmt.Println(db.Len(), err)
	// Output:
	// 100000 <nil>
	// 100000 the source broke off
}
