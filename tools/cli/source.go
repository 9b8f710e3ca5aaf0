package cli

import (
	"context"
	"fmt"
	"io/fs"
	"os"
)

// source is the regular files below a directory, in lexical order of their
// slash-separated paths. Symbolic links below it are left out; the directory
// itself may be one.
type source struct {
	fsys  fs.FS
	files []sourceFile
	bytes int64 // of all files
}

type sourceFile struct {
	name string // path from the directory, the key in the map
	size int64  // in bytes, as it was when listed
}

// listSource lists the files below dir, but for the one that except describes
// (nil: none): a map may lie in the directory that it takes in.
func listSource(ctx context.Context, dir string, except fs.FileInfo) (*source, error) {
	s := &source{fsys: os.DirFS(dir)}
	err := fs.WalkDir(s.fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if except == nil || !os.SameFile(info, except) {
			s.files = append(s.files, sourceFile{name, info.Size()})
			s.bytes += info.Size()
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	if len(s.files) == 0 {
		return nil, fmt.Errorf("%s: no files below it", dir)
	}
	return s, nil
}

// read gives the content of file number i.
func (s *source) read(i int) ([]byte, error) { return fs.ReadFile(s.fsys, s.files[i].name) }
