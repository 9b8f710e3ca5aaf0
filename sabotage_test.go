package mapfile_test

import (
	"debug/elf"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mapfile-db/mapfile/internal/sabotage"
)

var (
	sabotageIs     = regexp.MustCompile(`sabotage\.Is\(sabotage\.(\w+)\)`)
	sabotageYield  = regexp.MustCompile(`sabotage\.Yield\(sabotage\.(\w+)\)`)
	sabotageImport = regexp.MustCompile(`(?m)^(\t|import )("github.com/mapfile-db/mapfile/internal/sabotage")$`)
)

// engineFiles are the files of the root module that are no tests.
func engineFiles(t *testing.T) (files []string) {
	for _, file := range tree(t, ".go") {
		if _, ours := arrows[filepath.Dir(file)]; ours && !strings.HasSuffix(file, "_test.go") {
			files = append(files, file)
		}
	}
	return files
}

// TestSabotageIsPlanted: each bug of the list stands somewhere in the engine, under its constant's name, and nothing else does.
func TestSabotageIsPlanted(t *testing.T) {
	used := map[string]bool{}
	for _, file := range engineFiles(t) {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, m := range sabotageIs.FindAllSubmatch(b, -1) {
			used[string(m[1])] = true
		}
		require.Equal(t, strings.Count(string(b), "sabotage.Is("), len(sabotageIs.FindAll(b, -1)), "%s: Is takes a constant", file)
	}
	listed := map[string]bool{}
	for _, p := range sabotage.All() {
		require.True(t, p.Name != "" && p.What != "" && p.Breaks != "", "%+v", p)
		listed[p.Name] = true
	}
	require.Equal(t, listed, used)
	f, err := parser.ParseFile(token.NewFileSet(), "internal/sabotage/bugs.go", nil, 0)
	require.NoError(t, err)
	constants := 0
	ast.Inspect(f, func(n ast.Node) bool {
		if kv, ok := n.(*ast.KeyValueExpr); ok {
			name, ok := kv.Key.(*ast.Ident)
			require.True(t, ok)
			require.Equal(t, `"`+name.Name+`"`, kv.Value.(*ast.CompositeLit).Elts[0].(*ast.BasicLit).Value)
			constants++
		}
		return true
	})
	require.Len(t, listed, constants)
}

const sabotageProgram = `package main

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
	_ = db.BulkLoad(context.Background(), nil)
	_ = db.Close()
}
`

// TestSabotageIsCompiledOut: a program that embeds the map has the functions that it would have if nothing were planted, each as long.
func TestSabotageIsCompiledOut(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the programs that are compared are in ELF, for Linux")
	}
	dir, err := os.MkdirTemp(".", "_sabotage") // go ignores the name in patterns
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte(sabotageProgram), 0o600))
	replace := map[string]string{}
	for i, file := range engineFiles(t) {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		if !sabotageImport.Match(b) {
			continue
		}
		b = sabotageIs.ReplaceAll(b, []byte("false"))
		b = sabotageYield.ReplaceAll(b, nil)
		b = sabotageImport.ReplaceAll(b, []byte("${1}_ $2"))
		from, err := filepath.Abs(file)
		require.NoError(t, err)
		replace[from] = filepath.Join(t.TempDir(), strings.ReplaceAll(file, "/", "_")+string(rune('a'+i%26))+".go")
		require.NoError(t, os.WriteFile(replace[from], b, 0o600))
	}
	require.Greater(t, len(replace), 15)
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "overlay.json")
	require.NoError(t, os.WriteFile(file, overlay, 0o600))
	binWithout, without := codeOf(t, dir, "-overlay", file)
	binWith, with := codeOf(t, dir)
	for name, size := range with {
		if without[name] == size || without[name] > 0 && instructions(t, binWithout, name) == instructions(t, binWith, name) {
			delete(with, name)
			delete(without, name)
		}
	}
	require.Empty(t, with, "bytes of code: a hook keeps the compiler from leaving a function out, or from inlining")
	require.Empty(t, without)
}

// instructions lists the names of a function's instructions, but for those that only fill up: how many of these there are depends on
// where the function lies.
func instructions(t *testing.T, bin, function string) string {
	out, err := exec.Command("go", "tool", "objdump", "-s", "^"+regexp.QuoteMeta(function)+"$", bin).Output()
	require.NoError(t, err)
	var names strings.Builder
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 3 && strings.Contains(f[0], ".go:") && !strings.HasPrefix(f[3], "NOP") {
			names.WriteString(f[3] + "\n")
		}
	}
	require.Greater(t, names.Len(), 100, function)
	return names.String()
}

// codeOf builds a program and gives its functions of this module, by name, with their lengths in bytes.
func codeOf(t *testing.T, dir string, flags ...string) (bin string, code map[string]uint64) {
	bin = filepath.Join(t.TempDir(), "program")
	out, err := exec.Command("go", append(append([]string{"build", "-o", bin}, flags...), "./"+dir)...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	f, err := elf.Open(bin)
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	symbols, err := f.Symbols()
	require.NoError(t, err)
	code = map[string]uint64{}
	for _, s := range symbols {
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC && strings.HasPrefix(s.Name, module) {
			require.NotContains(t, s.Name, module+"/internal/sabotage.")
			code[s.Name] = s.Size
		}
	}
	require.Greater(t, len(code), 200)
	return bin, code
}
