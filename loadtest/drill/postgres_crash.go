package drill

import (
	"context"
	"time"

	"example.com/holdfast/internal/mode"
)

const (
	// crashes is how often PostgreSQL crashes, and crashEvery how long it runs in between.
	crashes    = 5
	crashEvery = 2 * time.Second
)

// postgresCrash crashes PostgreSQL again and again, and lets it come back at once.
func postgresCrash() scenario {
	return scenario{
		name: "postgres-crash", most: 3 * time.Minute,
		about: "PostgreSQL crashes 5 times under load and is back at once: nothing accepted is lost",
		variants: []variant{{
			// The mode may defer notifications, and what is deferred has to end with the rest.
			policy: hasty,
			play: func(ctx context.Context, s *stage) {
				s.startWorkers(ctx, 2)
				c := newInsistent(s.caller(0), clientPause)
				s.begin(ctx, c.insists(transfersRate))
				s.during(ctx, "warm", time.Second)
				calm := s.during(ctx, "PostgreSQL runs", s.long(20*time.Second))
				crashing := s.phase("PostgreSQL crashes again and again")
				for n := 0; n < crashes && s.going(ctx); n++ {
					s.crash(ctx)
					s.wait(ctx, crashEvery)
				}
				s.during(ctx, "it has crashed for the last time", backMax)
				after := s.during(ctx, "five seconds later", s.long(20*time.Second))
				s.awaitMode(ctx, mode.Normal)
				s.settle(ctx)
				s.asBefore(ctx, calm, crashing, after)
				s.claim(
					none("keys with another answer than the first", c.repeat(ctx)),
					equal("transfers, one for each key", s.count(ctx,
						"SELECT count(*) FROM transfers t WHERE t.tenant_id = $1", c.tenant.ID),
						uint64(len(c.answers))),
				)
			},
		}},
	}
}

// crash ends PostgreSQL without a checkpoint and starts it again.
func (s *stage) crash(ctx context.Context) {
	began := s.run.o.Now()
	s.do(func() error { s.referee.Close(ctx); s.world.Server.Kill(); return nil })
	s.do(func() error { return s.world.Server.Relaunch(ctx) })
	s.do(func() error { return s.newReferee(ctx) })
	s.figure("a crash until PostgreSQL answers again", "%s", short(s.run.o.Now().Sub(began)))
}
