package drill

import (
	"context"
	"time"

	"example.com/holdfast/loadtest/simdep"
)

// The metric of a circuit breaker that is not closed.
const (
	breakerOpen = "holdfast_dependency_breaker_open"
	ofRisk      = `dependency="risk_api"`
)

// failingAmplificationMax is what asking and sending again until there is an answer makes of a service that
// fails in 30 %: 1 + 2 x 0.3 / 0.7. With the outage after it, nobody may need more.
const failingAmplificationMax = 1.86

// breakerClosesMax is how long after its dependency is well a breaker may stay open.
const breakerClosesMax = 20 * time.Second

func brownout() scenario {
	return scenario{
		name: "brownout-500", most: 2 * time.Minute,
		about: "the risk service fails in part, then altogether, then heals; nobody multiplies the load",
		variants: []variant{{
			play: func(ctx context.Context, s *stage) {
				s.startWorkers(ctx, 2)
				t := s.caller(0)
				open := s.metric(ctx, breakerOpen, ofRisk)
				s.begin(ctx, t.sendsTransfers(40), t.placesOrders(5))
				s.during(ctx, "calm", s.long(10*time.Second))
				s.set(s.risk, func(k *simdep.Knobs) { k.ErrorRate = 0.3 })
				s.during(ctx, "30 % errors", s.long(20*time.Second))
				s.set(s.risk, func(k *simdep.Knobs) { k.ErrorRate = 1 })
				down := s.during(ctx, "100 % errors", s.long(10*time.Second))
				s.heal(s.risk)
				s.during(ctx, "healed", s.long(10*time.Second))
				s.until(ctx, "the breakers to close", breakerClosesMax, func() (bool, error) {
					return s.total(ctx, breakerOpen, ofRisk) == 0, s.err
				})
				seen := s.end(open)
				s.settle(ctx)
				opened, _ := largest(seen, &phase{from: down.from, to: s.run.o.Now()})
				j := s.risk.Journal()
				s.claim(
					shown("the breaker opened, and closed again", opened > 0, number(opened)),
					amplified("amplification at the risk service", j.Calls+j.Lookups, j.Keys,
						failingAmplificationMax),
				)
			},
		}},
	}
}
