package drill

import (
	"context"
	"fmt"
	"time"

	"example.com/holdfast/internal/tenancy"
	"example.com/holdfast/loadtest/simdep"
)

const (
	// overloadMillis is what a screening takes, and overloadCapacity how many a second its places make of it.
	overloadMillis   = 80
	overloadCapacity = riskLimit * 1000 / overloadMillis
	// overloadFor is how long each load lasts, after overloadWarm in which the system finds its balance.
	overloadFor  = 12 * time.Second
	overloadWarm = 2 * time.Second
	// goodputMin is the part of the goodput at 1 x the capacity that is left under any overload.
	goodputMin = 0.9
	// refusalMax is how long a client waits for a refusal.
	refusalMax = 10 * time.Millisecond
	// unshedFactor is how much slower what is accepted gets at the least where nothing is refused.
	unshedFactor = 3
)

// overloadFactors are the loads, by the capacity.
func overloadFactors() []int { return []int{1, 2, 5, 10} }

// classShares are the parts of the load by class, from the one that is served longest.
func classShares() []classShare {
	return []classShare{
		{string(tenancy.Critical), 0.1}, {string(tenancy.Standard), 0.6}, {string(tenancy.Sheddable), 0.3},
	}
}

type classShare struct {
	class string
	share float64
}

func overload() piece {
	return piece{
		name: "overload", most: 5 * time.Minute,
		about: "1, 2, 5 and 10 times the capacity: goodput stays, the rest is refused in 10 ms",
		variants: []variant{
			{play: func(ctx context.Context, s *stage) {
				loads := s.overloads(ctx)
				s.settle(ctx)
				s.effectsAll()
				s.holdsGoodput(ctx, loads)
			}},
			{
				name:     "shedding off",
				settings: []string{"HOLDFAST_QUEUE_AGE_MAX=1h", "HOLDFAST_ACCEPT_WAIT_MAX=0s"},
				play: func(ctx context.Context, s *stage) {
					loads := s.overloads(ctx)
					s.do(func() error { s.load.end(); return nil })
					s.heal(s.risk)
					s.settleLate(ctx)
					s.loses(ctx, loads)
				},
			},
		},
	}
}

// overloads plays one load after the other.
func (s *stage) overloads(ctx context.Context) []*phase {
	s.startWorkers(ctx, 2)
	s.set(s.risk, func(k *simdep.Knobs) { k.Latency.P50 = overloadMillis })
	var loads []*phase
	for _, factor := range overloadFactors() {
		var streams []stream
		for _, c := range classShares() {
			t := s.caller(0)
			t.tenant.Key = t.tenant.Keys[c.class]
			t.prefix = fmt.Sprintf("%s-%d-", c.class, factor)
			one := t.sendsTransfers(c.share * float64(factor*overloadCapacity))
			one.name = c.class
			streams = append(streams, one)
		}
		s.begin(ctx, streams...)
		name := fmt.Sprintf("%d x the capacity", factor)
		s.during(ctx, name+", warm", overloadWarm)
		loads = append(loads, s.during(ctx, name, s.long(overloadFor)))
	}
	return loads
}

// goodput is how many transfers settled within their promise, a second.
func (s *stage) goodput(ctx context.Context, from, to time.Time) float64 {
	n := s.count(ctx, `
		SELECT count(*)
		  FROM events b
		  JOIN events a ON a.tenant_id = b.tenant_id AND a.aggregate_id = b.aggregate_id
		               AND a.type = 'transfer.accepted'
		 WHERE b.type = 'transfer.settled' AND b.at >= $1 AND b.at < $2
		   AND b.at - a.at <= make_interval(secs => $3)`,
		s.theirs(from), s.theirs(to), promise.Seconds())
	return float64(n) / max(to.Sub(from).Seconds(), 1e-9)
}

// acceptedToSettled is how long it took for what was accepted in a phase.
func (s *stage) acceptedToSettled(ctx context.Context, p *phase) spread {
	return s.between(ctx, p, "transfer.accepted", "transfer.settled")
}

// holdsGoodput claims that overload costs those who are let in nothing, and the others little.
func (s *stage) holdsGoodput(ctx context.Context, loads []*phase) {
	if s.err != nil {
		return
	}
	calm := s.goodput(ctx, loads[0].from, loads[0].to)
	for n, p := range loads {
		settled := s.acceptedToSettled(ctx, p)
		s.overloadFigures(ctx, p, settled)
		s.claim(within(p.name+": accepted until settled", settled, promise, samplesMin))
		if n == 0 {
			continue
		}
		s.claim(
			atLeast(p.name+": goodput, of that at 1 x", s.goodput(ctx, p.from, p.to)/max(calm, 1),
				goodputMin),
			within(p.name+": a refusal at the client", refusalsOf(p), refusalMax, samplesMin),
			inOrder(p.name+": parts refused of critical, standard, sheddable", refusedParts(p)),
		)
	}
}

// loses claims that the same load does harm where nothing is refused: it shows what shedding is for.
func (s *stage) loses(ctx context.Context, loads []*phase) {
	if s.err != nil {
		return
	}
	for _, p := range loads {
		s.overloadFigures(ctx, p, s.acceptedToSettled(ctx, p))
	}
	first, last := s.acceptedToSettled(ctx, loads[0]), s.acceptedToSettled(ctx, loads[len(loads)-1])
	s.claim(shown("without shedding what is accepted waits", last.p99 > unshedFactor*first.p99,
		fmt.Sprintf("p99 %s at 1 x, %s at 10 x", short(first.p99), short(last.p99))))
}

// overloadFigures notes what a load came to.
func (s *stage) overloadFigures(ctx context.Context, p *phase, settled spread) {
	s.figure(p.name+": goodput a second, offered", "%.1f of %.0f", s.goodput(ctx, p.from, p.to), offered(p))
	s.figure(p.name+": accepted until settled", "%s", settled)
	s.figure(p.name+": refusals at the client", "%s", refusalsOf(p))
	s.figure(p.name+": parts refused of critical, standard, sheddable", "%.3f", refusedParts(p))
}

func offered(p *phase) float64 {
	n := uint64(0)
	for _, c := range classShares() {
		n += p.of(c.class).asked()
	}
	return float64(n) / p.to.Sub(p.from).Seconds()
}

// refusalsOf is how long all refusals of a phase took at the client, from when the request was due.
func refusalsOf(p *phase) spread {
	all := tally{}
	for _, c := range classShares() {
		all.refusals.Merge(&p.of(c.class).refusals)
	}
	return all.refusalSpread()
}

// refusedParts is the part of the requests of each class that was refused.
func refusedParts(p *phase) []float64 {
	var parts []float64
	for _, c := range classShares() {
		t := p.of(c.class)
		parts = append(parts, float64(t.refused)/float64(max(t.asked(), 1)))
	}
	return parts
}
