package drill

import (
	"context"
	"fmt"
	"time"

	"example.com/holdfast/loadtest/simdep"
)

func rolling() piece {
	return piece{
		name: "drain", most: 2 * time.Minute,
		about: "a rolling restart of all workers under load; each ends in time, nothing is lost or doubled",
		variants: []variant{{
			play: func(ctx context.Context, s *stage) {
				const workers = 3
				s.startWorkers(ctx, workers)
				t := s.caller(0)
				s.set(s.risk, func(k *simdep.Knobs) { k.Latency.P50 = saturatedMillis })
				s.begin(ctx, t.sendsTransfers(30), t.placesOrders(5), t.sendsPayouts(5))
				s.during(ctx, "before", s.long(5*time.Second))
				var took []time.Duration
				var bad []string
				for range workers {
					s.phase("one is replaced")
					s.startWorkers(ctx, 1)
					one, ended := s.drain(s.oldest())
					took = append(took, one)
					if ended != nil {
						bad = append(bad, fmt.Sprintf("after %s: %s", short(one), ended))
					}
					s.wait(ctx, s.long(5*time.Second))
				}
				s.during(ctx, "after", s.long(5*time.Second))
				s.settle(ctx)
				s.effectsAll()
				s.claim(none("workers that did not end by themselves with 0", bad),
					within("SIGTERM until the end", spreadOf(took), endMax, workers))
			},
		}},
	}
}
