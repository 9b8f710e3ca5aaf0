package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/go-analyze/charts"
)

// SVG draws operations a second, one bar for each engine, the fastest on top
// and mapfile's in a colour of their own; nil where nothing was measured.
func (t Table) SVG() ([]byte, error) {
	cells := slices.DeleteFunc(slices.Clone(t.Cells), func(c *Cell) bool { return len(c.Rounds) == 0 })
	if len(cells) == 0 {
		return nil, nil
	}
	slices.SortFunc(cells, func(a, b *Cell) int { return int(b.Median() - a.Median()) })
	names, bars := make([]string, len(cells)), [][]float64{make([]float64, len(cells)), make([]float64, len(cells))}
	for i, c := range cells {
		rate := 1e9 / c.Median()
		names[i] = c.Engine + gap + si(rate) + "/s" + gap
		if strings.HasPrefix(c.Engine, "mapfile") {
			bars[0][i] = rate
		} else {
			bars[1][i] = rate
		}
	}
	return draw(t.Title+", operations a second", names, bars)
}

// gap is space that SVG keeps; it also makes up for viewers whose font is
// wider than the one the labels were measured with.
const gap = "\u00a0\u00a0"

func si(v float64) string {
	v, prefix := humanize.ComputeSI(v)
	return strings.TrimSpace(fmt.Sprintf("%.3g %s", v, prefix))
}

// draw renders horizontal bars, the last name on top.
func draw(title string, names []string, bars [][]float64) ([]byte, error) {
	p := charts.NewPainter(charts.PainterOptions{
		OutputFormat: charts.ChartOutputSVG, Width: 860, Height: 80 + 30*len(names),
	})
	opt := charts.NewBarChartOptionWithData(bars)
	opt.Horizontal = true
	opt.StackSeries = charts.Ptr(true)
	opt.Theme = charts.GetTheme(charts.ThemeLight).WithSeriesColors([]charts.Color{
		charts.ColorFromHex("#2a7f3f"), charts.ColorFromHex("#9aa4b2"),
	})
	opt.Title = charts.TitleOption{Text: title, FontStyle: charts.FontStyle{FontSize: 11}}
	opt.CategoryAxis.Labels = names
	opt.Padding = charts.NewBoxEqual(10)
	opt.ValueFormatter = si
	if err := p.BarChart(opt); err != nil {
		return nil, err
	}
	return p.Bytes()
}
