package mapfile

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// scripts are histories of at most twelve operations. Each shows what it must; together they show all that
// can occur.
var scripts = []struct {
	name  string
	mode  SyncMode
	shape uint64 // see tinyGeometry
	ops   []string
	shows []string
}{
	{"create", SyncAlways, 0, []string{"put 0 60"}, []string{occCreated}},
	{"drop", SyncAlways, 3,
		[]string{"put 0 900", "put 1 7000", "delete 0", "put 2 7000", "put 3 20000", "compact", "put 2 7000", "compact", "put 3 7000", "compact", "checkpoint", "compact"},
		[]string{occDrop, occRetire, occMoved}},
	{"split", SyncAlways, 0,
		[]string{"put 0 5", "put 1 60", "put 2 5", "put 3 900", "put 4 5", "put 5 60", "put 6 5", "put 7 60", "put 8 5", "checkpoint", "put 0 60"},
		[]string{occSplit, occOverwrite, occCheckpoint}},
	{"split unsynced", SyncNever, 4,
		[]string{"put 0 5", "put 1 60", "put 2 5", "put 3 900", "put 4 5", "put 5 60", "sync", "put 6 5", "put 7 60", "put 8 5", "put 0 60"},
		[]string{occSplit, occOverwrite}},
	{"growth", SyncAlways, 3, []string{"put 0 7000", "put 1 7000", "put 2 7000", "checkpoint", "put 3 20000"}, []string{occGrowth, occLink}},
	{"remap", SyncNever, 0, []string{"put 0 20000", "put 1 20000", "put 2 20000", "put 3 20000", "sync", "put 4 20000", "put 5 20000", "put 0 5"}, []string{occRemap, occGrowth, occLink}},
	{"remap synced", SyncAlways, 6, []string{"put 0 20000", "put 1 20000", "hold", "put 2 20000", "put 0 20000", "checkpoint", "put 4 20000", "release", "put 5 20000", "checkpoint"}, []string{occRemap, occHeldOver}},
	{"reuse", SyncAlways, 1,
		[]string{"put 0 60", "checkpoint", "put 1 60", "checkpoint", "put 2 60", "checkpoint", "put 0 900", "checkpoint", "put 1 5", "checkpoint", "put 2 5"},
		[]string{occReuse, occMeta0, occMeta1, occCheckpoint}},
	{"segments", SyncAlways, 0, []string{"put 0 900", "put 1 3000", "put 2 900", "put 3 3000", "put 4 900", "tx never 5=3000 6=900", "put 7 3000", "delete 1", "sync"}, []string{occLink, occMixed, occDelete}},
	{"deletes", SyncAlways, 2, []string{"put 0 900", "put 1 5", "delete 0", "put 0 60", "delete 1", "delete 1", "checkpoint", "put 0 5", "delete 0", "put 1 60"}, []string{occDelete, occOverwrite}},
	{"transactions", SyncAlways, 0,
		[]string{"tx default 0=60 1=900 2=5", "tx never 0- 3=60 4=5", "tx always 1=5 2-", "tx never 5=7000 6=7000 7=900", "tx always 5- 6=5 8=900"},
		[]string{occMulti, occMixed, occDelete, occLink}},
	{"mixed", SyncNever, 0, []string{"put 0 60", "tx always 1=900", "put 2 60", "tx never 3=5 0-", "tx always 4=60 5=60", "put 0 900", "checkpoint", "put 1 5", "sync", "put 2 3000"}, []string{occMixed, occMulti, occCheckpoint}},
	{"interval", SyncInterval, 5, []string{"put 0 60", "put 1 900", "sync", "tx always 2=60", "put 0 5", "delete 1", "checkpoint", "put 3 3000", "sync"}, []string{occMixed, occDelete}},
	{"compaction", SyncAlways, 0,
		[]string{"tx default 0=900 1=7000", "put 2 7000", "put 0 900", "delete 1", "put 2 60", "put 3 7000", "compact", "put 0 60", "put 4 7000", "compact", "put 3 5"},
		[]string{occMoved, occRetire, occReuse}},
	{"compaction unsynced", SyncNever, 3,
		[]string{"tx default 0=900 1=7000", "put 2 20000", "put 0 900", "delete 1", "put 2 60", "put 3 7000", "compact", "put 4 900", "delete 3", "put 5 20000", "compact", "put 3 5"},
		[]string{occMoved, occRetire}},
	{"merge", SyncAlways, 0,
		[]string{"tx default 0=60 1=60 2=60 3=60 4=60 5=60 6=60 7=60 8=60", "put 0 900", "tx default 0- 1- 2- 3- 5- 6- 7-", "compact", "put 0 60", "compact", "checkpoint", "put 1 60", "delete 8", "compact", "put 2 5"},
		[]string{occMerge, occDrop, occSplit, occRetire}},
	{"merge unsynced", SyncNever, 4,
		[]string{"tx default 0=60 1=60 2=60 3=60 4=60 5=60 6=60 7=60 8=60", "checkpoint", "tx never 0- 1- 2- 3- 4- 5- 6- 7- 8-", "compact", "tx never 0=5 1=5 2=5 3=5 4=5 5=5", "sync", "tx never 0- 1- 2- 3- 4-", "compact", "reopen", "put 3 60"},
		[]string{occMerge, occDrop, occSplit, occReplay}},
	{"snapshot across a merge", SyncNever, 3,
		[]string{"tx default 0=60 1=60 2=60 3=60 4=60 5=60 6=60 7=60 8=60", "tx default 0- 1- 2- 3- 4- 5- 6-", "checkpoint", "hold", "compact", "put 2 900", "put 0 60", "compact", "release", "compact", "put 1 60"},
		[]string{occMerge, occDrop, occHeldMerge}},
	{"clear", SyncAlways, 0,
		[]string{"tx default 0=900 1=7000 2=60", "checkpoint", "put 3 7000", "clear", "put 0 60", "checkpoint", "swap 1 900", "checkpoint", "put 2 7000"},
		[]string{occReuse}},
	{"clear unsynced", SyncNever, 1,
		[]string{"put 0 7000", "hold", "put 1 7000", "clear", "swap 0 60", "clear", "swap 0 900", "compact", "release", "checkpoint", "checkpoint", "put 4 7000"},
		[]string{occHeldSeal}},
	{"load", SyncAlways, 0,
		[]string{"load 0=60 1=900 2=5", "put 1 60", "load 0=7000 3=7000 0=900 4=7000 0=5", "checkpoint", "delete 2", "load 2=60 5=900 6=7000", "compact", "load 0=5"},
		[]string{occLoad, occRepeat, occSplit}},
	{"load unsynced", SyncNever, 3,
		[]string{"put 0 900", "hold", "load 0=5 1=7000 0=60 2=7000", "tx always 3=60", "load 4=5 0=900", "release", "compact", "checkpoint", "load 5=20000"},
		[]string{occLoad, occRepeat, occHeldOver}},
	{"unload", SyncAlways, 0,
		[]string{"tx default 0=900 1=7000 2=60", "delete 2", "unload 0=60 2=5 3=7000 0=7000 4=7000 3=5", "put 3 60", "checkpoint", "unload 5=5 1=5 6=5 7=5", "put 1 7000", "compact", "put 3 7000", "compact", "load 2=900 3=900", "put 0 5"},
		[]string{occAbort, occRetire}},
	{"unload unsynced", SyncNever, 1,
		[]string{"put 0 900", "hold", "unload 0=60 1=5 2=7000 0=7000", "put 1 60", "tx always 0=5", "unload 0=20000 1=20000", "release", "compact", "put 2 7000", "compact", "sync"},
		[]string{occAbort, occHeldAbort}},
	{"snapshot", SyncAlways, 0,
		[]string{"put 0 900", "put 1 7000", "put 2 60", "hold", "put 0 7000", "delete 1", "put 3 60", "put 4 7000", "put 5 900", "checkpoint", "compact", "release"},
		[]string{occHeldSeal, occHeldMoved, occHeldSplit, occHeldOver}},
	{"snapshot unsynced", SyncNever, 0,
		[]string{"tx default 0=900 1=900 2=5", "hold", "put 0 3000", "tx always 1- 3=60", "checkpoint", "put 2 3000", "checkpoint", "compact", "checkpoint", "release", "checkpoint", "put 4 900"},
		[]string{occHeldSeal, occHeldOver}},
	{"giving back", SyncAlways, 0,
		[]string{"tx default 0=7000 1=7000 2=7000", "put 3 20000", "delete 3", "delete 1", "compact", "give", "put 4 900", "checkpoint", "give", "put 0 20000", "compact", "give"},
		[]string{occPunch, occCut, occRetire}},
	{"giving back unsynced", SyncNever, 3,
		[]string{"put 0 20000", "put 1 7000", "clear", "put 2 60", "checkpoint", "give", "put 3 20000", "checkpoint", "delete 3", "compact", "give", "put 4 7000"},
		[]string{occCut}},
	{"giving back under a snapshot", SyncAlways, 1,
		[]string{"put 0 20000", "put 1 7000", "delete 0", "checkpoint", "hold", "delete 1", "put 2 900", "compact", "give", "release", "give", "put 3 20000"},
		[]string{occHeldCut, occCut}},
	{"reopening", SyncAlways, 0, []string{"put 0 900", "reopen", "put 1 60", "delete 0", "reopen", "reopen", "tx never 2=3000 0=5", "reopen", "put 3 900"}, []string{occReplay, occDelete}},
}

// variants are the ways in which each script is played: as it is, and with padded commits.
var variants = []struct {
	suffix string
	pad    bool
}{{"", false}, {"+padded", true}}

var scripted = func() (all []crashHistory) {
	for i, s := range scripts {
		for _, v := range variants {
			h := crashHistory{name: "script/" + slug(s.name) + v.suffix, seed: 1 << 40 * uint64(i+1), shape: s.shape, mode: s.mode, pad: v.pad, ops: s.ops, shows: s.shows}
			if v.pad {
				h.shows = append(slices.Clone(h.shows), occPad)
			}
			all = append(all, h)
		}
	}
	return all
}()

func slug(name string) string {
	b := []byte(name)
	for i := range b {
		if b[i] == ' ' {
			b[i] = '-'
		}
	}
	return string(b)
}

func scriptedHistories() []crashHistory { return scripted }

// TestCrashScripts: what the scripted histories are there for does occur in them.
func TestCrashScripts(t *testing.T) {
	together := map[string]int{}
	for _, h := range scriptedHistories() {
		t.Run(h.name, func(t *testing.T) {
			require.LessOrEqual(t, len(h.ops), crashSteps)
			c := newCrashRun(h, &crashSearch{})
			require.NoError(t, c.play())
			for name, n := range c.occurs.count {
				together[name] += n
			}
			for _, name := range h.shows {
				require.NotZero(t, c.occurs.count[name], "%s does not occur: %s", name, fmt.Sprint(c.occurs.count))
			}
		})
	}
	for _, name := range allOccurrences {
		require.NotZero(t, together[name], "%s occurs in no script", name)
	}
}
