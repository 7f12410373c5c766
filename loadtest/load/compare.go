package load

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// noiseMS is the latency below which a difference is the machine's noise.
const noiseMS = 5.0

// Difference is one figure of two reports.
type Difference struct {
	Part, Figure string
	A, B         float64
	// Worse says that B is worse than A by more than was allowed.
	Worse bool
}

// Comparison is two reports beside each other.
type Comparison struct {
	// Unlike lists what makes them hard to compare: they were not the same load.
	Unlike      []string
	Differences []Difference
	// Holds says whether every claim of B holds.
	Holds bool
}

// measured is a figure that is compared.
type measured struct {
	name    string
	of      func(Share) float64
	higher  bool // is better
	latency bool
}

func compared() []measured {
	return []measured{
		{"goodput/s", func(s Share) float64 { return s.GoodputPerSecond }, true, false},
		{"good/s", Share.goodPerSecond, true, false},
		{"refused/s", Share.refusedPerSecond, false, false},
		{"answer p50 ms", func(s Share) float64 { return s.Answer.P50 }, false, true},
		{"answer p99 ms", func(s Share) float64 { return s.Answer.P99 }, false, true},
		{"ended p50 ms", func(s Share) float64 { return s.Completed.P50 }, false, true},
		{"ended p99 ms", func(s Share) float64 { return s.Completed.P99 }, false, true},
	}
}

func (s Share) goodPerSecond() float64 { return float64(s.Good) / max(s.Seconds, 1e-9) }

func (s Share) refusedPerSecond() float64 { return float64(s.Refused) / max(s.Seconds, 1e-9) }

// Compare holds report B to report A. A figure is worse when it is so by more than a part of what it was in
// A, such as 0.2; latencies below 5 ms are never worse.
func Compare(a, b *Report, allowed float64) Comparison {
	c := Comparison{Holds: b.Holds()}
	for _, is := range []struct{ name, a, b string }{
		{"mix", a.Mix, b.Mix},
		{"profile", a.Profile, b.Profile},
		{"arrivals", a.Arrivals, b.Arrivals},
		{"rate", fmt.Sprint(a.Rate), fmt.Sprint(b.Rate)},
		{"seconds", fmt.Sprint(a.Seconds), fmt.Sprint(b.Seconds)},
		{"accounts", strconv.Itoa(a.Accounts), strconv.Itoa(b.Accounts)},
		{"tenants", strconv.Itoa(a.Tenants), strconv.Itoa(b.Tenants)},
		{"machine", a.Machine, b.Machine},
	} {
		if is.a != is.b {
			c.Unlike = append(c.Unlike, fmt.Sprintf("%s: %s and %s", is.name, is.a, is.b))
		}
	}
	others := b.parts()
	for _, s := range a.parts() {
		at := slices.IndexFunc(others, func(o Share) bool { return o.Name == s.Name })
		if at < 0 {
			continue
		}
		for _, m := range compared() {
			d := Difference{Part: s.Name, Figure: m.name, A: m.of(s), B: m.of(others[at])}
			d.Worse = m.worse(d.A, d.B, allowed)
			if d.A != 0 || d.B != 0 {
				c.Differences = append(c.Differences, d)
			}
		}
	}
	return c
}

func (m measured) worse(a, b, allowed float64) bool {
	switch {
	case m.higher:
		return b < a*(1-allowed)
	case m.latency:
		return b > noiseMS && b > a*(1+allowed)
	}
	return b > a*(1+allowed) && b-a >= 1
}

// Worse says whether anything is worse than it was.
func (c *Comparison) Worse() bool {
	return slices.ContainsFunc(c.Differences, func(d Difference) bool { return d.Worse })
}

// Markdown writes the comparison for people.
func (c *Comparison) Markdown(w io.Writer) error {
	var b strings.Builder
	for _, u := range c.Unlike {
		fmt.Fprintf(&b, "Not the same load: %s.\n", u)
	}
	if !c.Holds {
		b.WriteString("In B a claim does not hold: its figures mean nothing.\n")
	}
	if b.Len() > 0 {
		b.WriteString("\n")
	}
	b.WriteString("| part | figure | A | B | change | |\n|---|---|---|---|---|---|\n")
	for _, d := range c.Differences {
		change, worse := "new", ""
		if d.A != 0 {
			change = fmt.Sprintf("%+.0f %%", 100*(d.B-d.A)/d.A)
		}
		if d.Worse {
			worse = "**worse**"
		}
		row(&b, d.Part, d.Figure, figure(d.A), figure(d.B), change, worse)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
