package mapfile

import (
	"bytes"
	"encoding/binary"
	"go/ast"
	"go/build"
	"go/constant"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/pager"
	"github.com/mapfile-db/mapfile/tail"
)

// FORMAT.md is held to the code in two ways: its constants are compared with those of the
// source, and its layouts with real bytes (here by changing one field at a time, in
// format_reader_test.go by a reader that knows the format from the tables alone).

// docTable is one table of a document.
type docTable struct {
	section string // the heading above it
	head    []string
	rows    [][]string
}

// formatTables reads the tables of FORMAT.md once.
var formatTables = sync.OnceValue(func() (all []docTable) {
	b, err := os.ReadFile("FORMAT.md")
	if err != nil {
		panic(err)
	}
	section, open := "", false
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if h, ok := strings.CutPrefix(line, "#"); ok {
			section = strings.TrimSpace(strings.TrimLeft(h, "#"))
		}
		if !strings.HasPrefix(line, "|") {
			open = false
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.Trim(strings.TrimSpace(cells[i]), "`")
		}
		switch {
		case !open:
			all, open = append(all, docTable{section: section, head: cells}), true
		case !strings.HasPrefix(cells[0], "---"):
			last := &all[len(all)-1]
			last.rows = append(last.rows, cells)
		}
	}
	return all
})

func formatTable(t *testing.T, section, head string) docTable {
	for _, table := range formatTables() {
		if table.section == section && table.head[0] == head {
			return table
		}
	}
	require.Failf(t, "no such table", "section %q, first column %q", section, head)
	return docTable{}
}

func number(t *testing.T, s string) uint64 {
	n, err := strconv.ParseUint(s, 10, 64)
	require.NoError(t, err)
	return n
}

// field is a row of a layout.
type field struct {
	name     string
	off, end uint64
}

// layout is a structure as the document gives it.
type layout struct {
	name   string
	fields []field
}

// readLayout reads a structure, whose rows must follow one another without a gap.
func readLayout(t *testing.T, section, head string) layout {
	l, at := layout{name: section}, uint64(0)
	for _, row := range formatTable(t, section, head).rows {
		f := field{row[2], number(t, row[0]), number(t, row[0]) + number(t, row[1])}
		require.Equal(t, at, f.off, "%s: %s does not begin where the row before it ends", section, f.name)
		l.fields, at = append(l.fields, f), f.end
	}
	return l
}

func (l layout) size() uint64 { return l.fields[len(l.fields)-1].end }

// bytes is a field's part of b.
func (l layout) bytes(b []byte, name string) []byte {
	for _, f := range l.fields {
		if f.name == name {
			return b[f.off:f.end]
		}
	}
	panic("FORMAT.md: " + l.name + " has no field " + name)
}

// get reads a field of at most 8 bytes.
func (l layout) get(b []byte, name string) uint64 {
	var word [8]byte
	copy(word[:], l.bytes(b, name))
	return binary.LittleEndian.Uint64(word[:])
}

// zeros checks the reserved bytes.
func (l layout) zeros(t *testing.T, b []byte) {
	for _, f := range l.fields {
		if f.name == "zero" {
			require.Equal(t, make([]byte, f.end-f.off), b[f.off:f.end], "%s: bytes %d to %d", l.name, f.off, f.end)
		}
	}
}

// changes checks that a change of each named field changes its own bytes, all of them, and no
// others. encode gives the bytes with one field set to ones, or with none for "".
func (l layout) changes(t *testing.T, encode func(name string) []byte, fixed ...string) {
	base := encode("")
	for _, f := range l.fields {
		if strings.Contains(" zero sum "+strings.Join(fixed, " ")+" ", " "+f.name+" ") {
			continue
		}
		b := encode(f.name)
		l.zeros(t, b)
		for i := range b {
			inField := uint64(i) >= f.off && uint64(i) < f.end
			if _, inSum := l.covers(uint64(i), "sum"); !inSum {
				require.Equal(t, inField, b[i] != base[i], "%s: byte %d, with %s changed", l.name, i, f.name)
			}
		}
	}
}

func (l layout) covers(i uint64, name string) (field, bool) {
	for _, f := range l.fields {
		if f.name == name && i >= f.off && i < f.end {
			return f, true
		}
	}
	return field{}, false
}

// docSum is the sum of a structure by the table of sums, without its salt.
func docSum(t *testing.T, what string, b []byte) (stored, sum uint64) {
	for _, row := range formatTable(t, "Sums and salts", "sum of").rows {
		if row[0] == what {
			return binary.LittleEndian.Uint64(b[number(t, row[1]):]), xxhash.Sum64(b[number(t, row[2]):number(t, row[3])])
		}
	}
	require.Failf(t, "no such sum", "%s", what)
	return 0, 0
}

// docMix is Mix as the document writes it.
func docMix(a, b uint64) uint64 {
	x := a ^ (b+1)*0x9E3779B97F4A7C15
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}

// ones gives a struct of type T with the named fields set to all ones. A name may be that of an
// embedded struct's field, or lead into one with a dot.
func ones[T any](t *testing.T, names ...string) (v T) {
	for _, name := range names {
		f := reflect.ValueOf(&v).Elem()
		for part := range strings.SplitSeq(name, ".") {
			f = f.FieldByName(part)
		}
		require.True(t, f.IsValid(), "no field %s", name)
		switch f.Kind() {
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Array:
			for i := range f.Len() {
				f.Index(i).SetUint(0xff)
			}
		default:
			f.SetUint(^uint64(0) >> (64 - f.Type().Bits()))
		}
	}
	return v
}

// leaves counts the plain fields of a struct type.
func leaves(of reflect.Type) (n int) {
	for i := range of.NumField() {
		if f := of.Field(i).Type; f.Kind() == reflect.Struct {
			n += leaves(f)
		} else {
			n++
		}
	}
	return n
}

func TestFormatMetaPage(t *testing.T) {
	l := readLayout(t, "Meta page", "offset")
	require.EqualValues(t, pager.PageSize, l.size())
	fields := map[string]string{
		"must know": "MustKnow", "may ignore": "MayIgnore", "uuid": "UUID", "file salt": "FileSalt", "hash key": "HashKey",
		"number": "Number", "epoch": "Epoch", "life": "Life", "pages": "Pages", "root page": "Root.Page", "root epoch": "Root.Epoch",
		"image page": "Image.Page", "image epoch": "Image.Epoch", "image bytes": "ImageBytes", "segment": "Segment", "salt": "Salt",
		"position": "Position", "lsn": "LSN", "sequence": "Sequence", "keys": "Keys", "clean": "Clean", "bucket lines": "BucketLines",
		"fill percent": "FillPercent", "fan-out bits": "FanoutBits", "unit pages": "UnitPages", "small pages": "SmallPages",
		"buckets": "Buckets", "directories": "Directories", "tombstones": "Tombstones",
	}
	require.Len(t, fields, leaves(reflect.TypeFor[pager.Meta]()), "a field of the meta page that FORMAT.md does not know")
	encode := func(name string) []byte {
		var m pager.Meta
		if name != "" {
			require.Contains(t, fields, name)
			m = ones[pager.Meta](t, fields[name])
		}
		return m.Encode(0)
	}
	l.changes(t, encode, "magic", "version", "page size")

	for which := range 2 {
		m := ones[pager.Meta](t, "LSN", "Keys")
		b := m.Encode(which)
		require.Equal(t, "mapfile\n", string(l.bytes(b, "magic")))
		require.EqualValues(t, pager.FormatVersion, l.get(b, "version"))
		require.EqualValues(t, pager.PageSize, l.get(b, "page size"))
		stored, sum := docSum(t, "meta page", b)
		require.Equal(t, stored, sum^docMix(0x6d657461, uint64(which)))
	}
}

func TestFormatSegmentTable(t *testing.T) {
	l := readLayout(t, "Images", "offset")
	fields := map[string]string{
		"first page": "Start", "pages": "Pages", "salt": "Salt", "life": "Life", "first lsn": "FirstLSN",
		"first sequence": "FirstSeq", "used": "Used", "live": "Live", "last sequence": "LastSeq",
	}
	require.Len(t, fields, leaves(reflect.TypeFor[tail.Entry]()), "a field of the segment table that FORMAT.md does not know")
	l.changes(t, func(name string) []byte {
		var e tail.Entry
		if name != "" {
			require.Contains(t, fields, name)
			e = ones[tail.Entry](t, fields[name])
		}
		b := tail.AppendEntries(nil, []tail.Entry{e, {}})
		require.EqualValues(t, 2, binary.LittleEndian.Uint64(b))
		require.Len(t, b, tail.EntriesSize(2))
		require.EqualValues(t, 8+2*l.size(), len(b))
		return b[8 : 8+l.size()]
	})
}

func TestFormatGeometry(t *testing.T) {
	g := reflect.ValueOf(pager.DefaultGeometry())
	for _, row := range formatTable(t, "Constants", "geometry").rows {
		f := g.FieldByName(row[0])
		require.True(t, f.IsValid(), row[0])
		require.Equal(t, number(t, row[1]), f.Uint(), row[0])
	}
}

// TestFormatConstants compares every number that the document gives a name of the code.
func TestFormatConstants(t *testing.T) {
	c := newConstants()
	for _, tables := range []struct{ section, head string }{
		{"Constants", "constant"}, {"Index page header", "page type"}, {"Bucket page", "slot word"},
		{"Images", "class of a unit"}, {"Images", "kind of a retired run"}, {"Record", "kind"}, {"Record", "flag"},
		{"Backup stream", "kind of a frame"}, {"Backup stream", "kind of an entry"},
	} {
		table := formatTable(t, tables.section, tables.head)
		require.NotEmpty(t, table.rows)
		for _, row := range table.rows {
			got, ok := c.value(t, row[0])
			require.True(t, ok, "the code has no constant %s", row[0])
			require.Equal(t, number(t, row[1]), got, "%s", row[0])
		}
	}
	for prefix, section := range map[string]string{"tail.Kind": "kind", "tail.Flag": "flag"} {
		named := 0
		for _, name := range c.load(t, "tail").Scope().Names() {
			if _, isConst := c.load(t, "tail").Scope().Lookup(name).(*types.Const); isConst && strings.HasPrefix("tail."+name, prefix) {
				named++
			}
		}
		require.Len(t, formatTable(t, "Record", section).rows, named, "FORMAT.md names them all")
	}
}

// constants evaluates the constants of this module's packages, unexported ones too.
type constants struct {
	fset   *token.FileSet
	std    types.Importer
	loaded map[string]*types.Package
}

func newConstants() *constants {
	fset := token.NewFileSet()
	return &constants{fset: fset, std: importer.ForCompiler(fset, "source", nil), loaded: map[string]*types.Package{}}
}

// value is a constant, by package and name.
func (c *constants) value(t *testing.T, name string) (uint64, bool) {
	pkg, short, _ := strings.Cut(name, ".")
	k, ok := c.load(t, pkg).Scope().Lookup(short).(*types.Const)
	if !ok {
		return 0, false
	}
	n, exact := constant.Uint64Val(constant.ToInt(k.Val()))
	return n, exact
}

// load type-checks the declarations of one package. What needs a package that Import leaves
// empty is an error that no constant depends on.
func (c *constants) load(t *testing.T, dir string) *types.Package {
	if p := c.loaded[dir]; p != nil {
		return p
	}
	built, err := build.Default.ImportDir(dir, 0)
	require.NoError(t, err)
	var files []*ast.File
	for _, name := range built.GoFiles {
		f, err := parser.ParseFile(c.fset, filepath.Join(dir, name), nil, 0)
		require.NoError(t, err)
		files = append(files, f)
	}
	config := types.Config{IgnoreFuncBodies: true, Error: func(error) {}, Importer: importFunc(func(path string) (*types.Package, error) {
		if below, ok := strings.CutPrefix(path, "github.com/mapfile-db/mapfile/"); ok {
			return c.load(t, below), nil
		}
		if path == "math" {
			return c.std.Import(path)
		}
		empty := types.NewPackage(path, filepath.Base(path))
		empty.MarkComplete()
		return empty, nil
	})}
	p, _ := config.Check(dir, c.fset, files, nil) // errors: see above
	c.loaded[dir] = p
	return p
}

type importFunc func(path string) (*types.Package, error)

// Import calls f.
func (f importFunc) Import(path string) (*types.Package, error) { return f(path) }

func TestFormatMarkPage(t *testing.T) {
	l := readLayout(t, "Mark page", "offset")
	require.EqualValues(t, pager.PageSize, l.size())
	db := formatMap(t, pager.DefaultGeometry())
	require.NoError(t, db.Put([]byte("k"), []byte("v")))
	const mark, life = 0xfedcba9876543210, 0x89abcdef
	salt := db.s.Meta().FileSalt
	require.NoError(t, db.s.P.WriteMark(salt, mark, life))
	b := fileOf(t, db)[uint64(pager.MarkPage)*pager.PageSize:][:pager.PageSize]
	require.EqualValues(t, uint64(mark), l.get(b, "mark"))
	require.EqualValues(t, life, l.get(b, "life"))
	require.Equal(t, "pid "+strconv.Itoa(os.Getpid()), string(bytes.TrimRight(l.bytes(b, "note"), "\x00")))
	l.zeros(t, b)
	stored, sum := docSum(t, "mark page", b)
	require.Equal(t, stored, sum^docMix(salt, uint64(pager.MarkPage)))
	require.Equal(t, make([]byte, pager.PageSize), fileOf(t, db)[uint64(pager.ControlPage)*pager.PageSize:][:pager.PageSize])
	pages := formatTable(t, "The file", "pages").rows
	require.Equal(t, []string{strconv.Itoa(int(pager.MarkPage)), "mark page"}, pages[1])
	require.Equal(t, []string{strconv.Itoa(int(pager.ControlPage)), "control page"}, pages[2])
}

// formatMap opens a new map that does nothing by itself.
func formatMap(t *testing.T, g pager.Geometry) *DB {
	var o *Options
	db, err := open(filepath.Join(t.TempDir(), "format.map"), o.withDefaults(), internals{disk: pager.OS(), geometry: g, memory: pager.MemoryLimit})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func fileOf(t *testing.T, db *DB) []byte {
	b, err := os.ReadFile(db.Path())
	require.NoError(t, err)
	return b
}
