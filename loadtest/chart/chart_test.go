package chart

import (
	"encoding/xml"
	"io"
	"math"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func wellFormed(t *testing.T, svg string) {
	t.Helper()
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		if _, err := d.Token(); err != nil {
			require.ErrorIs(t, err, io.EOF)
			return
		}
	}
}

// paths are the lines of a picture, as their moves.
func paths(svg string) []string {
	var all []string
	for _, m := range regexp.MustCompile(`<path d="([^"]*)"`).FindAllStringSubmatch(svg, -1) {
		all = append(all, m[1])
	}
	return all
}

func TestALineGoesFromCornerToCorner(t *testing.T) {
	t.Parallel()
	svg := Chart{
		Title: "a < b & c", X: Axis{Name: "x"}, Y: Axis{Name: "y"},
		Lines: []Line{{Name: "up", X: []float64{0, 10}, Y: []float64{0, 5}}},
	}.SVG()
	wellFormed(t, svg)
	require.Contains(t, svg, "a &lt; b &amp; c")
	require.Equal(t, []string{"M64.0 234.0 L736.0 34.0"}, paths(svg))
}

func TestWhatCannotBeDrawnIsAGap(t *testing.T) {
	t.Parallel()
	line := Line{Name: "gaps", X: []float64{0, 1, 2, 3, 4}, Y: []float64{1, math.NaN(), 10, 0, 100}}
	c := Chart{Y: Axis{Log: true}, Lines: []Line{line}}
	wellFormed(t, c.SVG())
	require.Equal(t, 3, strings.Count(paths(c.SVG())[0], "M"), "NaN, and zero on a logarithm")
	c.Y.Log = false
	require.Equal(t, 2, strings.Count(paths(c.SVG())[0], "M"))
	require.NotContains(t, c.SVG(), "NaN")
}

func TestAnAxisHasRoundTicks(t *testing.T) {
	t.Parallel()
	labels := func(a Axis, values ...float64) string {
		var all []string
		for _, tick := range scaleOf(a, [][]float64{values}, 0, 100).ticks(a) {
			all = append(all, tick.Label)
		}
		return strings.Join(all, " ")
	}
	require.Equal(t, "0 200 400 600 800 1000", labels(Axis{}, 3, 1000))
	require.Equal(t, "0 0.1 0.2 0.3 0.4", labels(Axis{}, 0.45))
	require.Equal(t, "1 10 100 1000", labels(Axis{Log: true}, 3, 0, 700), "zero has no logarithm")
	require.Equal(t, "low high", labels(Axis{Ticks: []Tick{{0, "low"}, {9, "high"}}}, 3))
	require.NotEmpty(t, labels(Axis{}), "of nothing too")
	require.NotEmpty(t, labels(Axis{Log: true}, 5, 5))
	require.InDelta(t, 10, round(7), 0)
}

func TestADashedLineHasTheColorOfTheOneBefore(t *testing.T) {
	t.Parallel()
	one := Line{Name: "p50", X: []float64{1, 2}, Y: []float64{1, 2}}
	dashed, other := one, one
	dashed.Dashed = true
	svg := Chart{Lines: []Line{one, dashed, other}}.SVG()
	strokes := regexp.MustCompile(`<path [^>]*stroke="(#\w+)"`).FindAllStringSubmatch(svg, -1)
	require.Equal(t, strokes[0][1], strokes[1][1])
	require.NotEqual(t, strokes[0][1], strokes[2][1])
	require.Equal(t, 2, strings.Count(svg, "stroke-dasharray"), "the line and its mark")
	require.Equal(t, svg, Chart{Lines: []Line{one, dashed, other}}.SVG())
}
