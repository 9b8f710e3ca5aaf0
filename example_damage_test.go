package mapfile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mapfile-db/mapfile"
)

// closedMap is a closed map of three keys, and its file without the last close: as a killed process leaves it.
func closedMap() (closed, killed string, done func()) {
	dir, err := os.MkdirTemp("", "mapfile-example-")
	must(err)
	closed, killed = filepath.Join(dir, "fruit.map"), filepath.Join(dir, "killed.map")
	db, err := mapfile.Open(closed, nil)
	must(err)
	fruit(db)
	b, err := os.ReadFile(closed)
	must(err)
	must(os.WriteFile(killed, b, 0o600))
	must(db.Close())
	return closed, killed, func() { must(os.RemoveAll(dir)) }
}

// rotten is a closed map of three keys; the value of banana is damaged.
func rotten() (path string, done func()) {
	path, _, done = closedMap()
	b, err := os.ReadFile(path)
	must(err)
	must(os.WriteFile(path, bytes.ReplaceAll(b, []byte("yellow"), []byte("YELLOW")), 0o600))
	return path, done
}

func ExampleCorruptError() {
	path, done := rotten()
	defer done()
	db, err := mapfile.Open(path, nil)
	must(err)
	defer db.Close()
	_, err = db.Get([]byte("banana"))
	var damage *mapfile.CorruptError
	fmt.Println(errors.Is(err, mapfile.ErrCorrupt), errors.As(err, &damage))
	fmt.Println(damage.Reason)
	value, err := db.Get([]byte("kiwi")) // the others are there
	fmt.Printf("%s %v\n", value, err)
	// Output:
	// true true
	// the sum of the record does not hold: its value is damaged
	// green <nil>
}

func ExampleCheck() {
	path, _, done := closedMap()
	defer done()
	report, err := mapfile.Check(context.Background(), path, nil)
	must(err)
	fmt.Println(report.OK, report.Keys, "keys,", report.Records, "records, closed cleanly:", report.ClosedCleanly)
	// Output: true 3 keys, 3 records, closed cleanly: true
}

func ExampleCheckOptions() {
	path, done := rotten()
	defer done()
	for _, quick := range []bool{true, false} {
		report, err := mapfile.Check(context.Background(), path, &mapfile.CheckOptions{Quick: quick})
		must(err)
		fmt.Println(quick, report.OK)
	}
	// Output:
	// true true
	// false false
}

func ExampleCheckReport() {
	_, killed, done := closedMap()
	defer done()
	report, err := mapfile.Check(context.Background(), killed, nil)
	must(err)
	fmt.Println(report.OK, report.Opens, report.ClosedCleanly, report.Recovery.Records, "records would be replayed")
	// Output: true true false 3 records would be replayed
}

func ExampleVerdict() {
	path, done := rotten()
	defer done()
	report, err := mapfile.Check(context.Background(), path, nil)
	must(err)
	for _, v := range report.Verdicts {
		if v.Judgement != "ok" {
			fmt.Println(v.Structure, v.Judgement, v.Judged)
		}
	}
	// Output:
	// records damaged 3
	// counts not judged 0
}

func ExampleFinding() {
	path, done := rotten()
	defer done()
	report, err := mapfile.Check(context.Background(), path, nil)
	must(err)
	for _, f := range report.Findings {
		fmt.Printf("%s: %s\n", f.Structure, f.Reason)
	}
	// Output: records: the sum of the record does not hold: the value of key "banana", the newest of its key, is damaged
}

func ExampleReadInfo() {
	path, _, done := closedMap()
	defer done()
	info, err := mapfile.ReadInfo(path)
	must(err)
	fmt.Println(info.ClosedCleanly, len(info.UUID), "characters of UUID")
	// Output: true 36 characters of UUID
}

func ExampleInfo() {
	_, killed, done := closedMap()
	defer done()
	info, err := mapfile.ReadInfo(killed)
	must(err)
	fmt.Println("format", info.FormatVersion, info.ClosedCleanly)
	// Output: format 1 false
}

func ExampleSpaceInfo() {
	path, _, done := closedMap()
	defer done()
	info, err := mapfile.ReadInfo(path)
	must(err)
	fmt.Println(info.Space.Live > 0, info.Space.Garbage)
	// Output: true 0
}

func ExampleMetaInfo() {
	path, _, done := closedMap()
	defer done()
	info, err := mapfile.ReadInfo(path)
	must(err)
	meta := info.Metas[info.Newest] // an Open begins from it
	fmt.Println(meta.Valid, meta.Clean, meta.Keys, "keys, last commit", meta.Sequence)
	// Output: true true 3 keys, last commit 3
}

func ExampleRecover() {
	_, killed, done := closedMap()
	defer done()
	report, err := mapfile.Recover(context.Background(), killed, nil)
	must(err)
	fmt.Println(report.Keys, "keys,", report.Recovery.Records, "records replayed,", report.Lost.Places, "lost")
	// Output: 3 keys, 3 records replayed, 0 lost
}

func ExampleRecoverOptions() {
	path, _, done := closedMap()
	defer done()
	report, err := mapfile.Recover(context.Background(), path, &mapfile.RecoverOptions{RebuildIndex: true, DryRun: true})
	must(err)
	fmt.Println(report.Rebuilt, report.Keys)
	// Output: true 3
}

func ExampleRecoverReport() {
	_, killed, done := closedMap()
	defer done()
	report, err := mapfile.Recover(context.Background(), killed, &mapfile.RecoverOptions{DryRun: true})
	must(err)
	info, err := mapfile.ReadInfo(killed)
	must(err)
	fmt.Println(report.DryRun, report.Keys, "keys afterwards; now closed cleanly:", info.ClosedCleanly)
	// Output: true 3 keys afterwards; now closed cleanly: false
}

func ExampleRecoveryStats() {
	_, killed, done := closedMap()
	defer done()
	db, err := mapfile.Open(killed, nil)
	must(err)
	defer db.Close()
	r := db.Stats().Recovery
	fmt.Println(r.Recovered, r.Records, "records,", r.CutBytes, "bytes cut")
	// Output: true 3 records, 0 bytes cut
}

func ExampleSalvage() {
	path, done := rotten()
	defer done()
	report, err := mapfile.Salvage(context.Background(), path, path+".new", nil)
	must(err)
	fmt.Println(report.Keys, "keys written,", report.Lost.Keys, "lost")
	// Output: 2 keys written, 1 lost
}

func ExampleSalvageOptions() {
	path, done := rotten()
	defer done()
	_, err := mapfile.Salvage(context.Background(), path, path+".new", &mapfile.SalvageOptions{
		Lost: func(l mapfile.Loss) { fmt.Printf("%s: %s\n", l.Key, l.Structure) },
	})
	must(err)
	// Output: banana: record
}

func ExampleSalvagePlan() {
	path, _, done := closedMap()
	defer done()
	tooLarge := errors.New("no room for that")
	_, err := mapfile.Salvage(context.Background(), path, path+".new", &mapfile.SalvageOptions{
		Plan: func(p mapfile.SalvagePlan) error {
			fmt.Println(p.Records, "records,", p.NewBytes > 0)
			return tooLarge // nothing has been written
		},
	})
	fmt.Println(errors.Is(err, tooLarge))
	// Output:
	// 3 records, true
	// true
}

func ExampleSalvageReport() {
	path, _, done := closedMap()
	defer done()
	report, err := mapfile.Salvage(context.Background(), path, path+".new", nil)
	must(err)
	fmt.Println(report.Metas, "meta pages,", report.Keys, "keys,", report.Lost.Places, "lost")
	// Output: 2 meta pages, 3 keys, 0 lost
}

func ExampleLoss() {
	path, done := rotten()
	defer done()
	report, err := mapfile.Salvage(context.Background(), path, path+".new", nil)
	must(err)
	for _, l := range report.Lost.List {
		fmt.Printf("%s of %s: %s; an older version: %t\n", l.Structure, l.Key, l.Reason, l.Older != 0)
	}
	// Output: record of banana: the newest value is damaged, and there is no older one; an older version: false
}

func ExampleLosses() {
	path, done := rotten()
	defer done()
	report, err := mapfile.Salvage(context.Background(), path, path+".new", nil)
	must(err)
	fmt.Println(report.Lost.Places, "place,", report.Lost.Keys, "of a known key")
	// Output: 1 place, 1 of a known key
}
