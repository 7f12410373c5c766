package bench

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// line tells a phase in one line.
func (p *Phase) line() string {
	accepted, settled := "accepted", "settled"
	if p.Of == orders {
		accepted, settled = "placed", "confirmed"
	}
	text := fmt.Sprintf("%s, %s: %s %.0f/s", p.System, p.Name, accepted, p.AcceptedPerSecond)
	if p.OfferedPerSecond > 0 {
		text += fmt.Sprintf(" of %.0f/s", p.OfferedPerSecond)
	}
	if p.SettledPerSecond > 0 {
		text += fmt.Sprintf(", %s %.0f/s, %s to %s p50 %.0f ms p99 %.0f ms",
			settled, p.SettledPerSecond, accepted, settled, p.SettleP50MS, p.SettleP99MS)
	}
	if p.Canceled > 0 {
		text += fmt.Sprintf(", canceled %d", p.Canceled)
	}
	if p.Refused > 0 {
		text += fmt.Sprintf(", refused %d", p.Refused)
	}
	if len(p.Broken) > 0 {
		text += fmt.Sprintf(", %d INVARIANTS BROKEN", len(p.Broken))
	}
	return text
}

// Markdown writes the report for people.
func (r *Report) Markdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured %s UTC in %.0f s: %s, PostgreSQL %s.\n\n",
		r.At, r.Seconds, r.Machine, r.Postgres)
	r.rates(&b)
	r.costs(&b)
	r.eventTable(&b)
	r.goals(&b)
	r.breaks(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) rates(b *strings.Builder) {
	b.WriteString("Of orders, accepted is placed, and settled is confirmed.\n\n" +
		"| system | phase | offered/s | accepted/s | settled/s | canceled | refused | accept p50 / p99 ms " +
		"| accepted to settled p50 / p99 ms | kept up |\n|---|---|--:|--:|--:|--:|--:|--:|--:|---|\n")
	for _, c := range r.Commits {
		fmt.Fprintf(b, "| PostgreSQL | one row, one commit, %d clients (%s) | | %.0f | | | | | | |\n",
			c.Clients, c.By, c.PerSecond)
	}
	for _, p := range r.Phases {
		fmt.Fprintf(b, "| %s | %s | %s | %.0f | %s | %s | %d | %.1f / %.1f | %s | %s |\n", p.System, p.Name,
			unlessZero("%.0f", p.OfferedPerSecond), p.AcceptedPerSecond,
			unlessZero("%.0f", p.SettledPerSecond), p.canceled(), p.Refused, p.AcceptP50MS, p.AcceptP99MS,
			p.settleTimes(), p.verdict())
	}
	if r.Ratio > 0 {
		fmt.Fprintf(b, "\nSettled, each at its best: Holdfast %.0f/s, naive %.0f/s: %.1f times.\n",
			r.HoldfastPerSecond, r.NaivePerSecond, r.Ratio)
	}
	if r.OrdersPlacedPerSecond > 0 {
		fmt.Fprintf(b, "\nOrders in the closed loop: %.0f/s placed, %.0f/s confirmed",
			r.OrdersPlacedPerSecond, r.OrdersConfirmedPerSecond)
		if r.TransfersPerOrder > 0 {
			fmt.Fprintf(b, "; for each confirmed order, the same callers get %.1f transfers settled",
				r.TransfersPerOrder)
		}
		b.WriteString(".\n")
	}
	b.WriteByte('\n')
}

// canceled is a figure of orders only.
func (p *Phase) canceled() string {
	if p.Of != orders {
		return ""
	}
	return strconv.FormatInt(p.Canceled, 10)
}

func unlessZero(format string, v float64) string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf(format, v)
}

func (p *Phase) settleTimes() string {
	if p.SettledPerSecond == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f / %.1f", p.SettleP50MS, p.SettleP99MS)
}

func (p *Phase) verdict() string {
	switch {
	case !works(p.System):
		return ""
	case p.KeptUp:
		return "yes"
	case !p.Drained:
		return fmt.Sprintf("no: %d open after %.0f s more", p.BacklogAtEnd, drainMax.Seconds())
	}
	return fmt.Sprintf("no: %d open at the end, done %.1f s later", p.BacklogAtEnd, p.DrainMS/1e3)
}

func (r *Report) costs(b *strings.Builder) {
	if len(r.Phases) == 0 {
		return
	}
	generator := "generator"
	if r.HTTPDependencies {
		generator = "generator and dependencies"
	}
	b.WriteString("CPU per accepted transfer or placed order in microseconds, until all was done:\n\n" +
		"| system | phase | " + generator + " | API and worker | Postgres | sum " +
		"| generator per request | other work on the machine |\n|---|---|--:|--:|--:|--:|--:|--:|\n")
	for _, p := range r.Phases {
		postgres, sum := fmt.Sprintf("%.0f", p.CPU.Postgres), fmt.Sprintf("%.0f", p.CPU.Sum)
		if !p.CPU.PostgresKnown {
			postgres, sum = "not available", "not available"
		}
		fmt.Fprintf(b, "| %s | %s%s | %.0f | %.0f | %s | %s | %.1f | %.0f %% |\n", p.System, p.Name,
			unlessZero(" %.0f/s", p.OfferedPerSecond), p.CPU.Generator, p.CPU.System, postgres, sum,
			p.CPU.GeneratorPerRequest, p.Others*100)
	}
	b.WriteByte('\n')
}

func (r *Report) goals(b *strings.Builder) {
	if len(r.Goals) == 0 {
		return
	}
	b.WriteString("| goal | wanted | measured | |\n|---|---|--:|---|\n")
	for _, g := range r.Goals {
		verdict := "**not met**"
		if g.Met {
			verdict = "met"
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", g.Name, g.Wanted, g.Measured, verdict)
	}
}

func (r *Report) breaks(b *strings.Builder) {
	for _, p := range r.Phases {
		for _, what := range p.Broken {
			fmt.Fprintf(b, "\nBROKEN after %s, %s: %s\n", p.System, p.Name, what)
		}
	}
}
