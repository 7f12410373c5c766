package drill

import (
	"context"
	"time"

	"example.com/holdfast/loadtest/simdep"
)

const (
	// takeOverMax is how long the work of a dead worker may wait.
	takeOverMax = 5 * time.Second
	// takeOverWait is how long a drill waits for it before it gives up.
	takeOverWait = 15 * time.Second
	killsWanted  = 200
	// inHandMax bounds the wait for a worker that has something in hand.
	inHandMax = 20 * time.Second
	// inHandMillis is a latency of the risk service with which workers have calls in hand. Eight places are
	// 26 calls a second then; with a kill each three seconds the places of one or two dead workers are lent
	// to nobody, and what is offered has to fit into the rest.
	inHandMillis = 300
)

func kills() piece {
	return piece{
		name: "kills", most: killsWanted * 20 * time.Second,
		about: "kill -9 of one of 4 workers, 200 times; its work goes on in 5 s, nothing is lost or doubled",
		variants: []variant{{
			play: func(ctx context.Context, s *stage) {
				s.startWorkers(ctx, 4)
				t := s.caller(0)
				s.set(s.risk, func(k *simdep.Knobs) { k.Latency.P50 = inHandMillis })
				s.begin(ctx, t.sendsTransfers(7), t.placesOrders(2), t.sendsPayouts(2))
				s.phase("kills")
				var took []time.Duration
				for n := 0; n < s.times(killsWanted) && s.going(ctx); n++ {
					took = append(took, s.killOne(ctx))
					s.startWorkers(ctx, 1)
				}
				s.heal(s.risk)
				s.settle(ctx)
				s.effectsAll()
				s.claim(within("kill -9 until all its work is taken up", spreadOf(took), takeOverMax,
					s.times(killsWanted)))
			},
		}},
	}
}

// killOne kills the oldest worker as soon as it has something in hand, and returns how long it took until
// others have taken all of it up.
func (s *stage) killOne(ctx context.Context) time.Duration {
	victim := s.oldest()
	var had held
	s.until(ctx, "a worker with work in hand", inHandMax, func() (bool, error) {
		var err error
		had, err = s.inHand(ctx, victim.ready.Instance)
		return len(had.items) > 0, err
	})
	s.kill(victim)
	took := never
	s.do(func() error {
		began := s.run.o.Now()
		for s.run.o.Now().Sub(began) < takeOverWait {
			left, now, err := s.stillHeld(ctx, had)
			if err != nil {
				return err
			}
			if len(left) == 0 {
				took = now.Sub(had.at)
				return nil
			}
			s.wait(ctx, awaitPoll)
			if s.err != nil {
				return s.err
			}
		}
		return nil
	})
	s.run.say("  killed with %d in hand, taken up after %s", len(had.items), short(took))
	return took
}
