package mapfile

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// crashSaved is how far a search came.
type crashSaved struct {
	Level  string            `json:"level"`
	Seed   uint64            `json:"seed"`
	Images int64             `json:"images"` // of histories that are finished
	Next   int               `json:"next"`   // every history below is finished
	Done   []int             `json:"done"`   // finished ones above
	Open   map[int]crashOpen `json:"open"`   // begun, not finished
}

// crashOpen is how far a history came.
type crashOpen struct {
	Event  int   `json:"event"`  // points up to it were looked at
	Images int64 `json:"images"` // distinct ones
}

// load goes on where the progress file says, if there is one.
func (s *crashSearch) load(t *testing.T) {
	s.saved = crashSaved{Level: s.level, Seed: s.seed, Open: map[int]crashOpen{}}
	if *crashProgress == "" {
		return
	}
	b, err := os.ReadFile(*crashProgress)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	require.NoError(t, err)
	was := s.saved
	require.NoError(t, json.Unmarshal(b, &s.saved), "the progress file")
	require.Equal(t, [2]any{was.Level, was.Seed}, [2]any{s.saved.Level, s.saved.Seed}, "level and seed of the progress file")
	n := s.saved.Images
	for _, o := range s.saved.Open {
		n += o.Images
	}
	s.images.Store(n)
}

// save writes the progress file anew. A history that failed stays open: the next run meets it again.
func (s *crashSearch) save() {
	if *crashProgress == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, c := range s.running {
		if o := c.reached.Load(); o != nil {
			s.saved.Open[n] = *o
		}
	}
	b, err := json.Marshal(s.saved)
	if err == nil {
		err = os.WriteFile(*crashProgress+".new", append(b, '\n'), 0o600)
	}
	if err == nil {
		err = os.Rename(*crashProgress+".new", *crashProgress)
	}
	if err != nil && s.failure == nil {
		s.failure = err
		s.stop.Store(true)
	}
}
