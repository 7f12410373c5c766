package drill

import (
	"context"
	"time"

	"example.com/holdfast/loadtest/simdep"
)

func zombie() scenario {
	return scenario{
		name: "zombie", most: 2 * time.Minute,
		about: "one of 3 workers sleeps for 60 s with calls in flight and wakes; nothing is doubled or lost",
		variants: []variant{{
			play: func(ctx context.Context, s *stage) {
				s.startWorkers(ctx, 3)
				t := s.caller(0)
				s.set(s.risk, func(k *simdep.Knobs) { k.Latency.P50 = inHandMillis })
				s.begin(ctx, t.sendsTransfers(14), t.placesOrders(4), t.sendsPayouts(3))
				s.during(ctx, "before", s.long(10*time.Second))
				sleeper := s.oldest()
				s.until(ctx, "a worker with work in hand", inHandMax, func() (bool, error) {
					had, err := s.inHand(ctx, sleeper.ready.Instance)
					return len(had.items) > 0, err
				})
				s.phase("a worker sleeps")
				s.pause(ctx, sleeper, s.long(time.Minute))
				s.during(ctx, "it is awake again", s.long(10*time.Second))
				s.heal(s.risk)
				s.settle(ctx)
				s.effectsAll()
				s.claim(atMost("calls at once at the risk service", s.risk.Journal().MaxConcurrent,
					riskLimit))
			},
		}},
	}
}
