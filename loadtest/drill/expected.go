package drill

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"

	"example.com/holdfast/internal/invariant"
	"example.com/holdfast/internal/mode"
	"example.com/holdfast/loadtest/rig"
	"example.com/holdfast/loadtest/scenario"
)

// series is a metric that is watched, with the largest value that any process showed at each look.
type series struct {
	name    string
	labels  []string
	samples []sample
}

// conditionActive is the metric of all conditions.
const conditionActive = "holdfast_condition_active"

// labelsOf are the labels by which a condition is found.
func labelsOf(c *scenario.Condition) []string {
	labels := []string{fmt.Sprintf("condition=%q", c.Name)}
	if c.Subject != "" {
		labels = append(labels, fmt.Sprintf("subject=%q", c.Subject))
	}
	return labels
}

// watchSeries looks at what is expected of metrics and conditions, at all processes that were started first.
func (p *playing) watchSeries(ctx context.Context) *watch {
	for _, e := range p.file.Expect {
		switch {
		case e.Metric != nil:
			p.seen = append(p.seen, series{name: e.Metric.Name, labels: []string{e.Metric.Labels}})
		case e.Condition != nil:
			p.seen = append(p.seen, series{name: conditionActive, labels: labelsOf(e.Condition)})
		}
	}
	client := newHTTPClient()
	return p.watching(ctx, seriesEvery, func(ctx context.Context) (float64, bool, error) {
		p.lookAtSeries(ctx, client)
		return 0, false, nil
	})
}

// lookAtSeries takes a sample of each, if any process answers.
func (p *playing) lookAtSeries(ctx context.Context, client *http.Client) {
	values := make([]float64, len(p.seen))
	answered := false
	for _, process := range p.watched() {
		text, err := fetchMetrics(ctx, client, process)
		if err != nil {
			continue // it may have been killed
		}
		answered = true
		for n, one := range p.seen {
			value, _ := readMetric(bytes.NewReader(text), one.name, one.labels...)
			values[n] = max(values[n], value)
		}
	}
	for n := range p.seen {
		if answered {
			p.seen[n].samples = append(p.seen[n].samples, sample{p.run.o.Now(), values[n]})
		}
	}
}

// claimAll claims what the file expects, what it calls invariants, and how soon all was well again.
func (p *playing) claimAll(ctx context.Context) {
	watched := 0
	for _, e := range p.file.Expect {
		if p.err != nil {
			return
		}
		if e.Metric != nil || e.Condition != nil {
			p.claim(watchedClaim(e, p.seen[watched].samples, p.phases)...)
			watched++
			continue
		}
		p.expect(ctx, e)
	}
	p.do(func() error {
		checks := make([]invariant.Invariant, 0, len(p.file.Invariants))
		for _, i := range p.file.Invariants {
			checks = append(checks, invariant.Invariant{Name: i.Name, SQL: i.SQL})
		}
		broken, err := p.referee.Breaks(ctx, checks)
		if err == nil && len(checks) > 0 {
			p.claim(none("breaks of the scenario's own invariants", broken))
		}
		return err
	})
	p.recovers(ctx)
}

// watchedClaim is what is claimed of a metric or a condition.
func watchedClaim(e scenario.Expectation, seen []sample, phases map[string]*phase) []Claim {
	if m := e.Metric; m != nil {
		most, looks := largest(seen, phases[m.In])
		name := "largest " + m.Name + " in " + m.In
		var c Claim
		if m.AtLeast != nil {
			c = atLeast(name, most, *m.AtLeast)
		} else {
			c = atMost(name, most, *m.AtMost)
		}
		c.Measured += fmt.Sprintf(" in %d looks", looks)
		c.Holds = c.Holds && looks > 0
		return []Claim{c}
	}
	var claims []Claim
	name := "condition " + e.Condition.Name
	if e.Condition.In != "" {
		most, looks := largest(seen, phases[e.Condition.In])
		claims = append(claims, shown(name+" holds in "+e.Condition.In, most > 0,
			fmt.Sprintf("%t, %d looks", most > 0, looks)))
	}
	if e.Condition.NotIn != "" {
		most, looks := largest(seen, phases[e.Condition.NotIn])
		claims = append(claims, shown(name+" does not hold in "+e.Condition.NotIn, most == 0 && looks > 0,
			fmt.Sprintf("%t, %d looks", most == 0, looks)))
	}
	return claims
}

// expect claims what one expectation says.
func (p *playing) expect(ctx context.Context, e scenario.Expectation) {
	switch {
	case e.NotSlower != nil:
		w := e.NotSlower
		p.claim(notSlower(w.What.String()+" in "+w.In, p.spread(ctx, w.What, w.Than, w.Tenants),
			p.spread(ctx, w.What, w.In, w.Tenants), w.Factor, w.Or))
	case e.Within != nil:
		p.isWithin(ctx, e.Within)
	case e.Goodput != nil:
		p.keepsGoodput(ctx, e.Goodput)
	case e.LetIn != nil:
		let, asked := uint64(0), uint64(0)
		for _, name := range e.LetIn.Streams {
			t := p.phases[e.LetIn.In].of(name)
			let, asked = let+t.taken.Count(), asked+t.asked()
		}
		p.claim(letIn(fmt.Sprintf("part of %v that is let in in %s", e.LetIn.Streams, e.LetIn.In), let, asked,
			e.LetIn.AtLeast))
	case e.RefusedFirst != nil:
		p.refusedInOrder(e.RefusedFirst)
	case e.Unavailable != nil:
		p.unavailable(p.away, e.Unavailable.Within)
	case e.Modes != nil:
		p.modesWere(ctx, e.Modes)
	case e.TakenUp != nil:
		p.claim(within("kill -9 until all its work is taken up", spreadOf(p.taken), e.TakenUp.Within, 1))
	default:
		p.expectEffects(ctx, e)
	}
}

// expectEffects claims what was done at dependencies and under keys.
func (p *playing) expectEffects(ctx context.Context, e scenario.Expectation) {
	switch {
	case e.CallsAtOnce != nil:
		p.claim(atMost("calls at once at "+string(e.CallsAtOnce.At),
			float64(p.server(e.CallsAtOnce.At).Journal().MaxConcurrent), e.CallsAtOnce.AtMost))
	case e.Amplification != nil:
		j := p.server(e.Amplification.At).Journal()
		p.claim(amplified("amplification at "+string(e.Amplification.At), j.Calls+j.Lookups, j.Keys,
			e.Amplification.AtMost))
	case e.EveryEffect != nil:
		for _, d := range e.EveryEffect {
			j := p.server(d).Journal()
			p.claim(equal("effects at "+string(d)+", one for each key", j.Effects, j.Keys))
		}
	case e.PaidOnce != nil:
		p.paidOnce(ctx)
	case e.SameAnswers != nil:
		p.sameAnswers(ctx, p.insists...)
	case e.DoneOnce != nil:
		for _, c := range p.copies {
			p.doneOnce(ctx, c)
		}
	case e.SoldOnce != nil:
		units := p.times(p.file.Units)
		p.soldOnce(ctx, p.buys, p.rare, units)
		p.claim(equal("paid to the merchant, in minor units", p.earned(ctx, p.buys)-p.earlier,
			uint64(units)*rig.PriceMin)) //nolint:gosec // a small count
	}
}

// spread is what is measured in a phase.
func (p *playing) spread(ctx context.Context, w scenario.What, phase string, tenants []int) spread {
	in := p.phases[phase]
	switch {
	case w.Request != "":
		all := tally{}
		for _, t := range in.named(w.Request) {
			all.taken.Merge(&t.taken)
			all.max = max(all.max, t.max)
		}
		return all.spread()
	case w.Refusal != "":
		all := tally{}
		for _, t := range in.named(w.Refusal) {
			all.refusals.Merge(&t.refusals)
		}
		return all.refusalSpread()
	case len(tenants) > 0:
		var ids []uuid.UUID
		for _, n := range tenants {
			ids = append(ids, p.world.tenants[n-1].ID)
		}
		return p.betweenOf(ctx, in, w.First, w.Second, ids)
	}
	return p.between(ctx, in, w.First, w.Second)
}

// named are the tallies of a stream, or of all.
func (p *phase) named(stream string) []*tally {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []*tally
	for name, t := range p.tallies {
		if stream == scenario.AllStreams || stream == name {
			all = append(all, t)
		}
	}
	return all
}

func (p *playing) isWithin(ctx context.Context, w *scenario.Within) {
	s := p.spread(ctx, w.What, w.In, w.Tenants)
	c := within(w.What.String()+" in "+w.In, s, w.Bound, samplesMin)
	if w.Percentile == 50 { //nolint:mnd // the median
		c.Expected = "p50 at most " + short(w.Bound)
		c.Holds = s.n >= samplesMin && s.p50 <= w.Bound
	}
	p.claim(c)
}

func (p *playing) keepsGoodput(ctx context.Context, g *scenario.Goodput) {
	than, in := p.phases[g.Than], p.phases[g.In]
	before, later := p.goodput(ctx, than.from, than.to), p.goodput(ctx, in.from, in.to)
	c := atLeast("goodput in "+g.In+", of that in "+g.Than, later/max(before, 1), g.AtLeast)
	c.Measured += fmt.Sprintf(" (%.1f and %.1f a second)", later, before)
	p.claim(c)
}

func (p *playing) refusedInOrder(r *scenario.RefusedFirst) {
	var parts []float64
	refused := uint64(0)
	for _, name := range r.Streams {
		t := p.phases[r.In].of(name)
		parts = append(parts, float64(t.refused)/float64(max(t.asked(), 1)))
		refused += t.refused
	}
	c := inOrder(fmt.Sprintf("parts refused of %v in %s", r.Streams, r.In), parts)
	c.Holds = c.Holds && refused > 0
	p.claim(c)
}

// modesWere claims which modes were in force until the load ended.
func (p *playing) modesWere(ctx context.Context, m *scenario.Modes) {
	if p.run.o.Mode != "" {
		p.figure("the modes", "not claimed: %s is pinned", p.run.o.Mode)
		return
	}
	p.do(func() error {
		changes, err := mode.History(ctx, p.referee.Conn, 0, mode.HistoryMaxRows)
		if err != nil {
			return err
		}
		var way []string
		var were []mode.Mode
		for _, c := range slices.Backward(changes) {
			if c.At.After(p.theirs(p.ended)) {
				break
			}
			way, were = append(way, string(c.Mode)), append(were, c.Mode)
		}
		all := strings.Join(way, ", ")
		for _, one := range m.Reach {
			p.claim(shown("the mode is "+string(one)+" at some time", slices.Contains(were, one), all))
		}
		for _, one := range m.Never {
			p.claim(shown("the mode is never "+string(one), !slices.Contains(were, one), all))
		}
		return nil
	})
}

// paidOnce claims that the rail paid what is settled, and nothing else.
func (s *stage) paidOnce(ctx context.Context) {
	settled := s.count(ctx, "SELECT count(*) FROM transfers t WHERE t.payout AND t.state = 'settled'")
	j := s.rail.Journal()
	s.claim(
		equal("transfers paid by the rail, one for each settled payout", j.PaidTransfers, settled),
		equal("payments by the rail, one for each settled payout", j.Payments, settled),
	)
	s.figure("replies lost, hangs, withdrawals, fenced", "%d, %d, %d, %d", j.RepliesLost, j.Hangs,
		j.Withdrawn, j.Fenced)
}

// recovers claims that what was accepted before a phase has ended soon after it began.
func (p *playing) recovers(ctx context.Context) {
	r := p.file.Recovery
	from := p.phases[r.From]
	if p.err != nil {
		return
	}
	took := p.recoveredAfter(ctx, from)
	p.claim(Claim{
		Name:     "what was accepted before " + r.From + " has ended",
		Expected: "at most " + short(r.Within) + " after it began", Measured: short(took),
		Holds: took <= r.Within,
	})
	p.scores(ctx, took)
}
