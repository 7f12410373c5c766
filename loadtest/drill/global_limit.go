package drill

import (
	"context"
	"fmt"
	"time"

	"example.com/holdfast/internal/app"
	"example.com/holdfast/internal/config"
	"example.com/holdfast/internal/slots"
	"example.com/holdfast/loadtest/simdep"
)

const (
	// riskLimit is the limit of the risk service, over all workers.
	riskLimit = 8
	// limitSettles is how long after a change calls of before may still be in flight.
	limitSettles = 4 * time.Second
	// usedShare is how much of a limit counts as using it, and usedMostly how much of the time it has to be.
	usedShare  = 0.9
	usedMostly = 0.5
	// saturatingRate is more than any limit of the scenario lets through at saturatedMillis a call.
	saturatingRate  = 300
	saturatedMillis = 50
)

// inForce is a limit with the time in which it held.
type inForce struct {
	what     string
	places   int
	from, to time.Time
}

func globalLimit() piece {
	return piece{
		name: "global-limit", most: 3 * time.Minute,
		about: "workers come, go and die, and the limit changes; calls at once never exceed it, and use it",
		variants: []variant{{
			play: func(ctx context.Context, s *stage) {
				s.startWorkers(ctx, 3)
				t := s.caller(0)
				s.set(s.risk, func(k *simdep.Knobs) { k.Latency.P50 = saturatedMillis })
				calls := s.inFlight(ctx, s.risk)
				s.begin(ctx, t.sendsTransfers(saturatingRate))
				three := s.underLimit(ctx, "3 workers", riskLimit)
				s.startWorkers(ctx, 2)
				five := s.underLimit(ctx, "2 workers more", riskLimit)
				_, ended := s.drain(s.oldest())
				s.do(func() error { return ended })
				fewer := s.underLimit(ctx, "one drained", riskLimit)
				s.kill(s.oldest())
				s.during(ctx, "the lease of the killed one ends", slots.Lifetime)
				killed := s.underLimit(ctx, "one killed", riskLimit)
				s.setLimit(ctx, "risk_api", 3)
				lower := s.underLimit(ctx, "limit 3", 3)
				s.setLimit(ctx, "risk_api", 12)
				higher := s.underLimit(ctx, "limit 12", 12)
				seen := s.end(calls)
				s.settle(ctx)
				all := inForce{"workers come, go and die", riskLimit, three.from, killed.to}
				s.claim(keptLimits(seen, all, lower, higher)...)
				s.claim(usedLimits(seen, three, five, fewer, killed, lower, higher)...)
			},
		}},
	}
}

// underLimit lets the load run while a limit is in force, long enough to settle and to be looked at.
func (s *stage) underLimit(ctx context.Context, what string, places int) inForce {
	l := inForce{what: what, places: places, from: s.run.o.Now()}
	s.during(ctx, what, limitSettles+s.long(10*time.Second))
	l.to = s.run.o.Now()
	return l
}

// looks are the samples of the time in which a limit held and what was before it had ended.
func (l inForce) looks(seen []sample) []float64 {
	var all []float64
	for _, one := range seen {
		if !one.at.Before(l.from.Add(limitSettles)) && one.at.Before(l.to) {
			all = append(all, one.value)
		}
	}
	return all
}

// keptLimits claims that limits were never exceeded.
func keptLimits(seen []sample, limits ...inForce) []Claim {
	var claims []Claim
	for _, l := range limits {
		looks, most := l.looks(seen), 0.0
		for _, n := range looks {
			most = max(most, n)
		}
		claims = append(claims, Claim{
			Name:     "calls at once at the risk service: " + l.what,
			Expected: fmt.Sprintf("at most %d", l.places),
			Measured: fmt.Sprintf("%.0f in %d looks", most, len(looks)),
			Holds:    len(looks) >= samplesMin && most <= float64(l.places),
		})
	}
	return claims
}

// usedLimits claims that limits were used.
func usedLimits(seen []sample, limits ...inForce) []Claim {
	var claims []Claim
	for _, l := range limits {
		looks, used, sum := l.looks(seen), 0, 0.0
		for _, n := range looks {
			sum += n
			if n >= usedShare*float64(l.places) {
				used++
			}
		}
		all := float64(max(len(looks), 1))
		c := atLeast("part of the looks in which the limit is used: "+l.what, float64(used)/all, usedMostly)
		c.Measured += fmt.Sprintf(", on average %.1f of %d", sum/all, l.places)
		claims = append(claims, c)
	}
	return claims
}

// setLimit changes a limit as an operator does.
func (s *stage) setLimit(ctx context.Context, dependency string, places int) {
	s.do(func() error {
		cfg, err := config.Load([]string{"DATABASE_URL=" + s.url})
		if err != nil {
			return err
		}
		pool, err := app.OpenAPIPool(ctx, cfg)
		if err != nil {
			return err
		}
		defer pool.Close()
		_, err = slots.SetLimit(ctx, pool, slots.Change{
			Dependency: dependency, Places: places, Actor: "drill", Reason: "a limit changes at run time",
		})
		return err
	})
}
