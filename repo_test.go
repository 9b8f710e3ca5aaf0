package mapfile_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/build"
	"go/doc"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The tests of this file are about the code base itself.

const module = "github.com/mapfile-db/mapfile"

// arrows are the packages of the root module and what each may import of the others.
var arrows = map[string][]string{
	".":                 {"recovery", "index", "freelist", "tail", "pager", "internal/backup", "internal/errs", "internal/debug", "internal/sabotage"},
	"recovery":          {"index", "freelist", "tail", "pager", "internal/errs", "internal/debug", "internal/sabotage"},
	"index":             {"pager", "internal/errs", "internal/debug", "internal/sabotage"},
	"freelist":          {"pager", "internal/errs", "internal/debug", "internal/sabotage"},
	"tail":              {"pager", "internal/errs", "internal/debug", "internal/sabotage"},
	"pager":             {"internal/errs", "internal/debug", "internal/sabotage"},
	"internal/simdisk":  {"pager", "internal/errs"}, // for tests: a medium behind the seam
	"internal/backup":   {"internal/errs"},
	"internal/errs":     {},
	"internal/debug":    {},
	"internal/sabotage": {},
}

// systems are the systems whose files are looked at.
var systems = []string{"linux", "darwin", "freebsd", "windows"}

// imports collects what the non-test files of a package import, on every system.
func imports(t *testing.T, dir string) (all []string) {
	for _, system := range systems {
		for _, tags := range [][]string{nil, {"mapfile_debug"}, {"mapfile_sabotage"}} {
			c := build.Default
			c.GOOS, c.BuildTags, c.CgoEnabled = system, tags, false
			p, err := c.ImportDir(dir, 0)
			require.NoError(t, err, "%s on %s", dir, system)
			all = append(all, p.Imports...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func TestImportsPointDown(t *testing.T) {
	outside := map[string]bool{}
	for dir, allowed := range arrows {
		t.Run(dir, func(t *testing.T) {
			for _, path := range imports(t, dir) {
				below, ours := strings.CutPrefix(path, module+"/")
				first, _, _ := strings.Cut(path, "/")
				switch {
				case ours:
					require.Contains(t, allowed, below, "%s must not import it", dir)
				case path == module:
					require.Fail(t, "nobody imports the root", dir)
				case strings.Contains(first, "."):
					outside[path] = true
				}
			}
		})
	}
	for path := range outside {
		require.True(t, path == "github.com/cespare/xxhash/v2" || strings.HasPrefix(path, "golang.org/x/sys/"), "whoever embeds the map would pull in %s", path)
	}
	found := 0
	for _, dir := range directories(t) {
		if !strings.HasPrefix(dir, "tools") && !strings.HasPrefix(dir, "benchmarks") && dir != "linearizable" && dir != "realdisk" {
			require.Contains(t, arrows, dir, "a package without arrows")
			found++
		}
	}
	require.Len(t, arrows, found)
}

func TestRootRequiresThree(t *testing.T) {
	b, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	require.NotContains(t, string(b), "replace")
	var direct []string
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(f) >= 2 && strings.Contains(f[0], ".") && !strings.Contains(line, "// indirect") {
			direct = append(direct, f[0])
		}
	}
	require.Equal(t, []string{"github.com/cespare/xxhash/v2", "github.com/stretchr/testify", "golang.org/x/sys"}, direct)
	for _, nested := range []string{"tools/go.mod", "benchmarks/go.mod", "realdisk/go.mod", "linearizable/go.mod"} {
		b, err := os.ReadFile(nested)
		require.NoError(t, err)
		require.NotContains(t, string(b), "replace", "%s: it would break go install", nested)
	}
}

// tree lists the files of the repository with a suffix, results and hidden directories left out.
func tree(t *testing.T, suffix string) (files []string) {
	require.NoError(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || path == "benchmarks/results") {
			return filepath.SkipDir
		}
		if !d.IsDir() && strings.HasSuffix(path, suffix) && !strings.Contains(path, "testdata/") {
			files = append(files, path)
		}
		return nil
	}))
	require.NotEmpty(t, files)
	return files
}

// directories lists the directories that hold Go files.
func directories(t *testing.T) (dirs []string) {
	for _, file := range tree(t, ".go") {
		dirs = append(dirs, filepath.Dir(file))
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

func TestGofmt(t *testing.T) {
	for _, file := range tree(t, ".go") {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		want, err := format.Source(b)
		require.NoError(t, err, file)
		require.True(t, bytes.Equal(want, b), "%s is not formatted: gofmt -w %s", file, file)
	}
}

const stability = "Part of mapfile's implementation, no stable API.\n"

// TestPackageComments: each package has one, attached to its clause, and those without a promise say so.
func TestPackageComments(t *testing.T) {
	for _, dir := range directories(t) {
		names, err := filepath.Glob(filepath.Join(dir, "*.go"))
		require.NoError(t, err)
		var doc, name string
		for _, file := range names {
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.PackageClauseOnly|parser.ParseComments)
			require.NoError(t, err)
			if f.Doc != nil && f.Doc.Text() != "" && !strings.HasSuffix(file, "_test.go") {
				doc, name = doc+f.Doc.Text(), f.Name.Name
			}
		}
		require.NotEmpty(t, doc, "%s has no package comment, or a blank line hides it", dir)
		require.Equal(t, 1, strings.Count("\n"+doc, "\nPackage ")+strings.Count("\n"+doc, "\nCommand "), "%s", dir)
		_, implementation := arrows[dir]
		if implementation && dir != "." && !strings.HasPrefix(dir, "internal/") || name == "cli" {
			require.True(t, strings.HasSuffix(doc, stability), "%s: the package comment must end with %q", dir, stability)
		}
	}
}

func TestSizes(t *testing.T) {
	for _, file := range tree(t, ".go") {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		require.LessOrEqual(t, bytes.Count(b, []byte("\n")), 500, "lines of %s", file)
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, file, b, 0)
		require.NoError(t, err)
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				lines := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1
				require.LessOrEqual(t, lines, 70, "lines of %s in %s", fn.Name.Name, file)
			}
		}
	}
	for file, most := range map[string]int{"README.md": 200, "ARCHITECTURE.md": 250} {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Less(t, bytes.Count(b, []byte("\n")), most, "lines of %s", file)
	}
}

// TestExportedNamesAreDocumented looks at the packages of the root module and at the command tree.
func TestExportedNamesAreDocumented(t *testing.T) {
	for _, file := range tree(t, ".go") {
		_, ours := arrows[filepath.Dir(file)]
		if !ours && filepath.Dir(file) != "tools/cli" || strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		require.NoError(t, err)
		for _, d := range f.Decls {
			for _, name := range undocumented(d) {
				require.Fail(t, "no doc comment", "%s in %s", name, file)
			}
		}
	}
}

// undocumented lists the exported names that a declaration leaves without a comment. A group's
// comment covers its constants and variables, and that of their type the values of an enumeration.
func undocumented(d ast.Decl) (names []string) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) && !wellKnown[d.Name.Name] {
			return []string{d.Name.Name}
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() && d.Doc == nil && s.Doc == nil {
					names = append(names, s.Name.Name)
				}
			case *ast.ValueSpec:
				first := d.Specs[0].(*ast.ValueSpec)
				if d.Tok == token.CONST && first.Type != nil && len(d.Specs) > 1 {
					continue
				}
				for _, name := range s.Names {
					if name.IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
						names = append(names, name.Name)
					}
				}
			}
		}
	}
	return names
}

// TestEveryNameHasAnExample: each exported function, method and type of the root package has one, and each example says what it prints.
func TestEveryNameHasAnExample(t *testing.T) {
	has := map[string]bool{}
	var names []string
	for _, file := range tree(t, ".go") {
		if filepath.Dir(file) != "." {
			continue
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, file, nil, parser.ParseComments)
		require.NoError(t, err)
		if strings.HasSuffix(file, "_test.go") {
			for _, e := range doc.Examples(f) {
				require.True(t, e.Output != "" || e.EmptyOutput, "Example%s prints nothing that is compared", e.Name)
				has[e.Name] = true
			}
			continue
		}
		for _, d := range f.Decls {
			names = append(names, exampled(d)...)
		}
	}
	require.Greater(t, len(names), 60)
	for _, name := range names {
		require.True(t, has[name] || name == "DB" || name == "Tx" || name == "Range" || name == "SyncMode", "no Example%s", name) // these four by their methods
	}
}

// exampled lists what an example of an exported declaration would be called.
func exampled(d ast.Decl) (names []string) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if !d.Name.IsExported() || !exportedReceiver(d) {
			return nil
		}
		if d.Recv == nil {
			return []string{d.Name.Name}
		}
		of := d.Recv.List[0].Type
		if star, ok := of.(*ast.StarExpr); ok {
			of = star.X
		}
		return []string{of.(*ast.Ident).Name + "_" + d.Name.Name}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			if s, ok := spec.(*ast.TypeSpec); ok && s.Name.IsExported() {
				names = append(names, s.Name.Name)
			}
		}
	}
	return names
}

// wellKnown are methods that package errors names.
var wellKnown = map[string]bool{"Error": true, "Unwrap": true}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	of := d.Recv.List[0].Type
	if star, ok := of.(*ast.StarExpr); ok {
		of = star.X
	}
	id, ok := of.(*ast.Ident)
	return !ok || id.IsExported()
}

var mdLink = regexp.MustCompile(`\]\(([^)#\s]+)(#[^)]*)?\)`)

func TestNoDeadLinks(t *testing.T) {
	checked := 0
	for _, file := range tree(t, ".md") {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, m := range mdLink.FindAllSubmatch(b, -1) {
			target := string(m[1])
			if strings.Contains(target, "://") {
				continue
			}
			checked++
			_, err := os.Stat(filepath.Join(filepath.Dir(file), target))
			require.NoError(t, err, "%s links to %s", file, target)
		}
	}
	require.Greater(t, checked, 10)
}

// TestDocumentsNameWhatExists: the tests, files and functions that ARCHITECTURE.md names are there, and the tests of docs/durability.md.
func TestDocumentsNameWhatExists(t *testing.T) {
	tests := map[string]bool{}
	for _, file := range tree(t, "_test.go") {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		require.NoError(t, err)
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				tests[fn.Name.Name] = true
			}
		}
	}
	named, files := 0, 0
	for _, document := range []string{"ARCHITECTURE.md", "docs/durability.md"} {
		b, err := os.ReadFile(document)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllSubmatch(b, -1) {
			name := string(m[1])
			if strings.HasPrefix(name, "Test") || strings.HasPrefix(name, "Fuzz") {
				require.True(t, tests[name], "%s: there is no test %s", document, name)
				named++
			}
			if strings.HasSuffix(name, ".go") {
				require.FileExists(t, name)
				files++
			}
		}
	}
	require.Greater(t, named, 40)
	require.Greater(t, files, 10)
}

// TestFlagsOfTestsAreDocumented: CONTRIBUTING.md names every flag that a test has, and no other.
func TestFlagsOfTestsAreDocumented(t *testing.T) {
	b, err := os.ReadFile("CONTRIBUTING.md")
	require.NoError(t, err)
	flags := map[string]bool{}
	for _, file := range tree(t, "_test.go") {
		code, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`= flag\.\w+\("([\w.]+)"`).FindAllSubmatch(code, -1) {
			name := string(m[1])
			flags[name] = true
			require.Regexp(t, `[ \x60]-`+regexp.QuoteMeta(name)+`\b`, string(b), file)
		}
	}
	require.Greater(t, len(flags), 20)
	for _, m := range regexp.MustCompile(`[ \x60]-((crash|fault|rot|survive|planted)\.\w+)`).FindAllSubmatch(b, -1) {
		require.True(t, flags[string(m[1])], "there is no flag -%s", m[1])
	}
}

// fenced is the content of the first block of a language in the README, behind a heading.
func fenced(t *testing.T, language string, n int) string {
	b, err := os.ReadFile("README.md")
	require.NoError(t, err)
	blocks := strings.Split(string(b), "\n```"+language+"\n")
	require.Greater(t, len(blocks), n, "README.md has fewer blocks of %s", language)
	code, _, ok := strings.Cut(blocks[n], "\n```")
	require.True(t, ok)
	return code + "\n"
}

// TestReadmeProgram builds the README's first program inside the module, where it needs no network, and runs it.
func TestReadmeProgram(t *testing.T) {
	program := fenced(t, "go", 1)
	formatted, err := format.Source([]byte(program))
	require.NoError(t, err)
	require.Equal(t, string(formatted), program)
	dir, err := os.MkdirTemp(".", "_readme") // go ignores the name in patterns
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte(program), 0o600))
	bin := filepath.Join(t.TempDir(), "readme")
	out, err := exec.Command("go", "build", "-o", bin, filepath.Join(dir, "main.go")).CombinedOutput()
	require.NoError(t, err, "%s", out)
	run := exec.Command(bin)
	run.Dir = t.TempDir()
	for range 2 { // the second finds the map of the first
		out, err = run.CombinedOutput()
		require.NoError(t, err, "%s", out)
		said := regexp.MustCompile("It prints `([^`]+)`").FindSubmatch(readme(t))
		require.NotNil(t, said, "README.md says what its program prints")
		require.Equal(t, string(said[1])+"\n", string(out))
		run = exec.Command(bin)
		run.Dir = t.TempDir()
	}
}

func readme(t *testing.T) []byte {
	b, err := os.ReadFile("README.md")
	require.NoError(t, err)
	return b
}

// TestReadmeCommands: the two set-up commands are there, and lead to what exists.
func TestReadmeCommands(t *testing.T) {
	require.Equal(t, "go run ./tools/mapfile demo\n", fenced(t, "sh", 1))
	require.Equal(t, "go test work\n", fenced(t, "sh", 2))
	require.FileExists(t, "tools/mapfile/main.go")
	require.FileExists(t, "go.work")
	ci, err := os.ReadFile(".ci/run")
	require.NoError(t, err)
	require.Contains(t, string(ci), "README.md", "the test command is taken out of the README")
	info, err := os.Stat(".ci/run")
	require.NoError(t, err)
	require.NotZero(t, info.Mode()&0o111, ".ci/run can be run")
}

// TestReadmeNamesTheVerbs: every verb of the tool is in the README.
func TestReadmeNamesTheVerbs(t *testing.T) {
	verbs := regexp.MustCompile("(?m)^\\s+Use:\\s+\"([a-z]+)( |\")")
	for _, file := range tree(t, ".go") {
		if filepath.Dir(file) != "tools/cli" || strings.HasSuffix(file, "_test.go") {
			continue
		}
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, m := range verbs.FindAllSubmatch(b, -1) {
			verb := string(m[1])
			if verb == "mapfile" || bytes.Contains(b, []byte("Hidden:")) {
				continue
			}
			require.Regexp(t, fmt.Sprintf("`%s[` ]", verb), string(readme(t)))
		}
	}
}

// TestNoPlaceOfOneMachine: no file names a directory of whoever wrote it, and nothing is left to be done.
func TestNoPlaceOfOneMachine(t *testing.T) {
	words := []string{"/" + "home/", "/" + "work/", "/" + "Users/", "TO" + "DO", "FIX" + "ME", "X" + "XX"}
	for _, suffix := range []string{".go", ".md", "go.mod", "go.work"} {
		for _, file := range tree(t, suffix) {
			b, err := os.ReadFile(file)
			require.NoError(t, err)
			for _, word := range words {
				at := bytes.Index(b, []byte(word))
				require.Negative(t, at, "%s, line %s: %s", file, strconv.Itoa(1+bytes.Count(b[:max(at, 0)], []byte("\n"))), word)
			}
		}
	}
}
