package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	// longestLife bounds how long a child lives where a sync is slow.
	longestLife = time.Second
	// longestSilence is how long a child may write nothing before it is taken for stuck.
	longestSilence = 30 * time.Second
	// longestPause is how long after the chosen Put the kill comes, at most.
	longestPause = 2 * time.Millisecond
)

// childLife is what one child did before it was killed.
type childLife struct {
	puts, bytes int64         // acknowledged
	wrote       time.Duration // from its first Put to its death
	inFlight    int           // Puts begun and not returned at its death
}

// childError says that a child ended although nobody killed it.
type childError struct {
	code int
	text string
}

func (e *childError) Error() string {
	return fmt.Sprintf("the child ended by itself with exit code %d: %s", e.code, e.text)
}

// runChild starts a child on the map at path and kills it a moment after enough
// says so (asked after each acknowledged Put), or when it has lived for so long.
func (d *demo) runChild(ctx context.Context, mode string, life time.Duration, enough func() bool) (childLife, error) {
	cmd, err := d.child("demo-child", d.dir, d.path, "--sync", mode,
		"--files", strconv.Itoa(len(d.ledger.src.files)), "--next", joinInts(d.ledger.next))
	if err != nil {
		return childLife{}, err
	}
	l := d.ledger
	puts, written := l.puts, l.bytes
	wrote, err := (&victim{cmd: cmd, life: life, note: l.note, enough: func() bool { return l.puts > puts && enough() }}).run(ctx)
	if err != nil {
		return childLife{}, err
	}
	return childLife{l.puts - puts, l.bytes - written, wrote, l.inFlight()}, nil
}

func joinInts(ints []int) string {
	var words []string
	for _, n := range ints {
		words = append(words, strconv.Itoa(n))
	}
	return strings.Join(words, ",")
}
