package main

import (
	"context"

	"github.com/mapfile-db/mapfile"
)

func main() {
	db, err := mapfile.Open("a.map", nil)
	if err != nil {
		panic(err)
	}
	_ = db.Update(func(tx *mapfile.Tx) error { return tx.Put(nil, nil) })
	_ = db.Put(nil, nil)
	_, _ = db.Get(nil)
	_ = db.GetMany(nil, nil)
	_ = db.Compact(context.Background())
	_ = db.Close()
}
