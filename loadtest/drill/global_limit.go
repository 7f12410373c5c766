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
	places   int
	from, to time.Time
}

func globalLimit() scenario {
	return scenario{
		name: "global-limit", most: 2 * time.Minute,
		about: "workers come, go and die, and the limit changes; calls at once never exceed it, and use it",
		variants: []variant{{
			play: func(ctx context.Context, s *stage) {
				s.startWorkers(ctx, 3)
				t := s.caller(0)
				s.set(s.risk, func(k *simdep.Knobs) { k.Latency.P50 = saturatedMillis })
				calls := s.inFlight(ctx, s.risk)
				s.begin(ctx, t.sendsTransfers(saturatingRate))
				limits := []inForce{s.underLimit(ctx, riskLimit, func() {
					s.during(ctx, "3 workers", s.long(10*time.Second))
					s.startWorkers(ctx, 2)
					s.during(ctx, "2 more", s.long(10*time.Second))
					_, ended := s.drain(s.oldest())
					s.do(func() error { return ended })
					s.during(ctx, "one drained", s.long(10*time.Second))
					s.kill(s.oldest())
					s.during(ctx, "one killed", s.long(10*time.Second))
				})}
				for _, places := range []int{3, 12} {
					s.setLimit(ctx, "risk_api", places)
					limits = append(limits, s.underLimit(ctx, places, func() {
						s.during(ctx, fmt.Sprintf("limit %d", places), limitSettles+s.long(10*time.Second))
					}))
				}
				seen := s.end(calls)
				s.settle(ctx)
				s.claim(keptLimits(seen, limits)...)
			},
		}},
	}
}

// underLimit does something while a limit is in force.
func (s *stage) underLimit(ctx context.Context, places int, what func()) inForce {
	l := inForce{places: places, from: s.run.o.Now()}
	if s.going(ctx) {
		what()
	}
	l.to = s.run.o.Now()
	return l
}

// keptLimits claims of each limit that it was never exceeded, and that it was used. The first seconds after a
// change belong to what was in flight before it.
func keptLimits(seen []sample, limits []inForce) []Claim {
	var claims []Claim
	for _, l := range limits {
		most, used, all := 0.0, 0, 0
		for _, one := range seen {
			if one.at.Before(l.from.Add(limitSettles)) || !one.at.Before(l.to) {
				continue
			}
			all++
			most = max(most, one.value)
			if one.value >= usedShare*float64(l.places) {
				used++
			}
		}
		share := float64(used) / float64(max(all, 1))
		claims = append(claims, Claim{
			Name:     fmt.Sprintf("calls at once at the risk service, limit %d", l.places),
			Expected: fmt.Sprintf("at most %d", l.places),
			Measured: fmt.Sprintf("%.0f in %d looks", most, all),
			Holds:    all >= samplesMin && most <= float64(l.places),
		}, atLeast(fmt.Sprintf("part of the time in which limit %d is used", l.places), share, usedMostly))
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
