// Package chart draws lines over an axis as SVG, for reports that are read in a browser or beside a page of
// Markdown.
//
// It refuses more than that: no dates, no bars, no fonts of its own. A value that cannot be drawn (below the
// axis of a logarithm, or no number) leaves a gap in its line.
//
// Invariant: the same chart is the same bytes.
package chart

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
)

// The page, in pixels: the frame with its margins, in which there is place for labels.
const (
	width, height  = 760, 300
	left, right    = 64, 24
	top, bottom    = 34, 66
	ticksMax       = 6
	legendStep     = 24 // between an entry's mark and the next one, besides its text
	glyph          = 6.6
	widthPerMarker = 22
)

// Line is a line through points. Points without an order make no sense.
type Line struct {
	Name string
	X, Y []float64
	// Dashed tells it apart from the line of the same color before it: such a line has no color of its own.
	Dashed bool
}

// Axis says how values become places.
type Axis struct {
	Name string
	// Log is a logarithmic axis. It begins with the smallest value above zero; else an axis begins at zero.
	Log bool
	// Ticks are places with labels; without any there are round ones.
	Ticks []Tick
}

// Tick is a labelled place of an axis.
type Tick struct {
	At    float64
	Label string
}

// Chart is a picture.
type Chart struct {
	Title string
	X, Y  Axis
	Lines []Line
}

// colors can be told apart also by those who see no red or no green.
func colors() []string {
	return []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"}
}

// scale maps the values of an axis to pixels.
type scale struct {
	lo, hi   float64
	log      bool
	from, to float64
}

func (s scale) place(v float64) (float64, bool) {
	if s.log {
		if v <= 0 {
			return 0, false
		}
		v = math.Log10(v)
	}
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, false
	}
	return s.from + (v-s.lo)/(s.hi-s.lo)*(s.to-s.from), true
}

// scaleOf makes an axis fit all values.
func scaleOf(a Axis, values [][]float64, from, to float64) scale {
	s := scale{lo: math.Inf(1), hi: math.Inf(-1), log: a.Log, from: from, to: to}
	note := func(v float64) {
		if a.Log {
			v = math.Log10(v)
		}
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			s.lo, s.hi = min(s.lo, v), max(s.hi, v)
		}
	}
	for _, all := range values {
		for _, v := range all {
			note(v)
		}
	}
	for _, t := range a.Ticks {
		note(t.At)
	}
	switch {
	case s.lo > s.hi: // there is nothing to see
		s.lo, s.hi = 0, 1
	case a.Log: // whole powers of ten
		s.lo, s.hi = math.Floor(s.lo), math.Ceil(s.hi)
	default:
		s.lo = min(s.lo, 0)
	}
	if s.hi <= s.lo {
		s.hi = s.lo + 1
	}
	return s
}

// ticks are the labelled places of an axis.
func (s scale) ticks(a Axis) []Tick {
	if len(a.Ticks) > 0 {
		return a.Ticks
	}
	var all []Tick
	if s.log {
		for e := s.lo; e <= s.hi; e++ {
			all = append(all, Tick{math.Pow(10, e), number(math.Pow(10, e))})
		}
		return all
	}
	step := round((s.hi - s.lo) / ticksMax)
	for n := math.Ceil(s.lo / step); n*step <= s.hi; n++ {
		all = append(all, Tick{n * step, number(n * step)})
	}
	return all
}

// round is the next number of 1, 2 and 5 with zeros.
func round(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if v <= m*power {
			return m * power
		}
	}
	return 10 * power
}

func number(v float64) string { return strconv.FormatFloat(math.Round(v*1e6)/1e6, 'f', -1, 64) }

// SVG draws the chart.
func (c Chart) SVG() string {
	var xs, ys [][]float64
	for _, l := range c.Lines {
		xs, ys = append(xs, l.X), append(ys, l.Y)
	}
	x := scaleOf(c.X, xs, left, width-right)
	y := scaleOf(c.Y, ys, height-bottom, top)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" `+
		`font-family="sans-serif" font-size="11">`+"\n<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n",
		width, height, width, height, width, height)
	b.WriteString(`<g font-size="13" font-weight="bold">`)
	text(&b, left, top-14, "start", c.Title)
	b.WriteString("</g>\n")
	c.grid(&b, x, y)
	color := -1
	at := float64(left)
	for _, l := range c.Lines {
		if !l.Dashed || color < 0 {
			color++
		}
		look := fmt.Sprintf(`fill="none" stroke="%s" stroke-width="1.6"`, colors()[color%len(colors())])
		if l.Dashed {
			look += ` stroke-dasharray="5 3"`
		}
		path(&b, l, x, y, look)
		at = mark(&b, at, l.Name, look)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// grid draws the frame with its labels.
func (c Chart) grid(b *strings.Builder, x, y scale) {
	const line = `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#ddd"/>` + "\n"
	for _, t := range y.ticks(c.Y) {
		if at, ok := y.place(t.At); ok {
			fmt.Fprintf(b, line, float64(left), at, float64(width-right), at)
			text(b, left-6, at+4, "end", t.Label)
		}
	}
	for _, t := range x.ticks(c.X) {
		if at, ok := x.place(t.At); ok {
			fmt.Fprintf(b, line, at, float64(top), at, float64(height-bottom))
			text(b, at, height-bottom+15, "middle", t.Label)
		}
	}
	text(b, width-right, height-bottom+30, "end", c.X.Name)
	text(b, width-right, top-14, "end", c.Y.Name)
}

// text writes a label whose begin, middle or end (its anchor) is at a place.
func text(b *strings.Builder, x, y float64, anchor, s string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n", x, y, anchor,
		html.EscapeString(s))
}

// path draws a line; what cannot be drawn is a gap.
func path(b *strings.Builder, l Line, x, y scale, look string) {
	var d strings.Builder
	pen := "M"
	for i := range l.X {
		px, ok := x.place(l.X[i])
		py, also := y.place(l.Y[i])
		if !ok || !also {
			pen = "M"
			continue
		}
		fmt.Fprintf(&d, "%s%.1f %.1f ", pen, px, py)
		pen = "L"
	}
	fmt.Fprintf(b, "<path d=%q %s/>\n", strings.TrimSpace(d.String()), look)
}

// mark adds a line to the legend and returns where the next one goes.
func mark(b *strings.Builder, at float64, name, look string) float64 {
	const y = height - 14
	fmt.Fprintf(b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" %s/>`+"\n", at, y-4, at+widthPerMarker, y-4,
		look)
	text(b, at+widthPerMarker+4, y, "start", name)
	return at + widthPerMarker + 4 + glyph*float64(len(name)) + legendStep - 10
}
