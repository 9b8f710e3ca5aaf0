package report

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/dustin/go-humanize"
)

// Write puts everything into dir: results.json, results.txt (the tables),
// benchstat.txt, index.html and one SVG for each workload.
func (r *Report) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return errors.Join(
		create(filepath.Join(dir, "results.json"), func(w io.Writer) error {
			e := json.NewEncoder(w)
			e.SetIndent("", "  ")
			return e.Encode(r)
		}),
		create(filepath.Join(dir, "results.txt"), r.Text),
		create(filepath.Join(dir, "benchstat.txt"), r.Benchstat),
		create(filepath.Join(dir, "index.html"), r.HTML),
		r.svgFiles(dir),
	)
}

// MarshalJSON adds the goals, which follow from what was measured.
func (s *Setting) MarshalJSON() ([]byte, error) {
	type measured Setting
	return json.Marshal(struct {
		*measured
		Goals []Reached `json:",omitempty"`
	}{(*measured)(s), s.Goals()})
}

func create(path string, fill func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(fill(f), f.Close())
}

// Benchstat writes one line for each round in the format of Go benchmarks.
func (r *Report) Benchstat(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "goos: %s\ngoarch: %s\npkg: github.com/mapfile-db/mapfile/benchmarks\ncpu: %s\n", r.Machine.OS, r.Machine.Arch, r.Machine.CPU)
	for _, s := range r.Settings {
		for _, c := range s.Cells {
			for _, round := range c.Rounds {
				fmt.Fprintf(&b, "Benchmark%s/engine=%s/keys=%d/value=%d %d %.2f ns/op\n", camel(c.Workload), c.Engine, s.Keys, s.ValueSize, round.Ops, round.NS())
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// camel makes GetHit of get-hit.
func camel(name string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(name, "-") {
		b.WriteString(strings.ToUpper(part[:1]) + part[1:])
	}
	return b.String()
}

//go:embed page.html
var pageSource string

// HTML writes one page that needs nothing else.
func (r *Report) HTML(w io.Writer) error {
	page, err := template.New("page").Funcs(template.FuncMap{
		"chart":  chartHTML,
		"comma":  func(n uint64) string { return humanize.Comma(int64(n)) },
		"size":   humanize.IBytes,
		"ns":     ns,
		"short":  short,
		"rate":   rate,
		"note":   (*Cell).note,
		"tables": Tables,
	}).Parse(pageSource)
	if err != nil {
		return err
	}
	return page.Execute(w, r)
}

func chartHTML(t Table) (template.HTML, error) {
	svg, err := t.SVG()
	// The chart library escapes the names, which are ours.
	return template.HTML(svg), err
}

func (r *Report) svgFiles(dir string) error {
	for _, s := range r.Settings {
		for _, name := range s.Workloads() {
			for _, t := range Tables(s.Of(name)) {
				svg, err := t.SVG()
				if err != nil {
					return err
				}
				if svg == nil {
					continue
				}
				file := fmt.Sprintf("%s-%d-%d.svg", t.slug(), s.Keys, s.ValueSize)
				if err := os.WriteFile(filepath.Join(dir, file), svg, 0o644); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
