package load

import (
	"fmt"
	"math"

	"example.com/holdfast/loadtest/chart"
)

// Plots are the pictures of a report, by the names of their files.
func (r *Report) Plots() map[string]string {
	return map[string]string{
		"rates.svg": r.rates().SVG(), "latency.svg": r.latency().SVG(),
		"percentiles.svg": r.percentiles().SVG(),
	}
}

// over draws something of each point over the time.
func (r *Report) over(name string, of func(Point) float64) chart.Line {
	l := chart.Line{Name: name}
	for _, p := range r.Points {
		l.X, l.Y = append(l.X, p.At+p.Seconds/2), append(l.Y, of(p))
	}
	return l
}

func (r *Report) rates() chart.Chart {
	rate := func(n func(Point) uint64) func(Point) float64 {
		return func(p Point) float64 { return float64(n(p)) / p.Seconds }
	}
	return chart.Chart{
		Title: "Requests", X: chart.Axis{Name: "seconds"}, Y: chart.Axis{Name: "per second"},
		Lines: []chart.Line{
			r.over("offered", rate(func(p Point) uint64 { return p.Offered })),
			r.over("got what it asked for", rate(func(p Point) uint64 { return p.Good })),
			r.over("completed (transfers, orders)", rate(func(p Point) uint64 { return p.Completed })),
			r.over("refused for a moment", rate(func(p Point) uint64 { return p.Refused })),
		},
	}
}

func (r *Report) latency() chart.Chart {
	dashed := func(l chart.Line) chart.Line {
		l.Dashed = true
		return l
	}
	return chart.Chart{
		Title: "Latency of what was due then", X: chart.Axis{Name: "seconds"},
		Y: chart.Axis{Name: "ms", Log: true},
		Lines: []chart.Line{
			r.over("answered, p50", func(p Point) float64 { return p.AnswerP50 }),
			dashed(r.over("p99", func(p Point) float64 { return p.AnswerP99 })),
			r.over("accepted to ended, p50", func(p Point) float64 { return p.CompletedP50 }),
			dashed(r.over("p99", func(p Point) float64 { return p.CompletedP99 })),
		},
	}
}

// percentiles draws latencies over how rare they are: each step to the right is ten times rarer.
func (r *Report) percentiles() chart.Chart {
	c := chart.Chart{
		Title: "Latency by percentile", Y: chart.Axis{Name: "ms", Log: true},
		X: chart.Axis{Name: "percentile"},
	}
	rare := func(q float64) float64 { return -math.Log10(1 - q) }
	for _, q := range append([]float64{0}, quantiles()...) {
		c.X.Ticks = append(c.X.Ticks, chart.Tick{At: rare(q), Label: fmt.Sprintf("%g", 100*q)})
	}
	add := func(name string, l Latency) {
		line := chart.Line{Name: name}
		// A quantile that fewer than two measurements are above is not one of the distribution.
		for i, v := range []float64{l.P50, l.P90, l.P99, l.P999, l.P9999} {
			if q := quantiles()[i]; float64(l.Count)*(1-q) >= 1 {
				line.X, line.Y = append(line.X, rare(q)), append(line.Y, v)
			}
		}
		if len(line.X) > 0 {
			c.Lines = append(c.Lines, line)
		}
	}
	for _, k := range r.Kinds {
		add(k.Name, k.Answer)
	}
	add("accepted to ended", r.Whole.Completed)
	return c
}
