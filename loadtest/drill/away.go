package drill

import (
	"context"
	"net/http"
	"time"

	"example.com/holdfast/internal/mode"
	"example.com/holdfast/internal/tenancy"
)

const (
	// awayFor is how long PostgreSQL is away, and backMax how soon afterwards all is as before.
	awayFor = 20 * time.Second
	backMax = 5 * time.Second
	// awayRate is the load.
	awayRate = 40
	// awayPatience is within which time everybody gets an answer while it is away.
	awayPatience = 2 * time.Second
)

// postgresAway crashes PostgreSQL and lets it be away for a while.
func postgresAway() scenario {
	return scenario{
		name: "postgres-away", most: 3 * time.Minute,
		about: "PostgreSQL crashes and is away for 20 s: 503 at once, the mode stays, all is well 5 s later",
		variants: []variant{{
			play: func(ctx context.Context, s *stage) {
				s.startWorkers(ctx, 2)
				s.do(func() error { return s.pin(ctx, mode.Protection) })
				c := newInsistent(s.caller(0), clientPause)
				shed := s.ofClass(tenancy.Sheddable)
				refused := shed.named(sheddable, sheddableRate)
				s.begin(ctx, c.insists(awayRate), refused)
				s.during(ctx, "warm", followMax)
				calm := s.during(ctx, "PostgreSQL is there", s.long(15*time.Second))
				away := s.phase("PostgreSQL is away")
				s.do(func() error { s.referee.Close(ctx); s.world.Server.Kill(); return nil })
				answers := s.asksAllTheTime(ctx, shed)
				s.do(func() error { return s.world.Server.Relaunch(ctx) })
				s.do(func() error { return s.newReferee(ctx) })
				s.during(ctx, "it is back", backMax)
				after := s.during(ctx, "five seconds later", s.long(15*time.Second))
				s.settle(ctx)
				s.whileAway(answers)
				s.claim(equal("sheddable transfers that were refused after it", after.of(sheddable).refused,
					after.of(sheddable).asked()))
				s.asBefore(ctx, calm, away, after)
				s.claim(none("keys with another answer than the first", c.repeat(ctx)))
			},
		}},
	}
}

// asked is what came of the requests that were made while PostgreSQL was away.
type asked struct {
	n, other, late int
	unsaid         int // answers that do not say when to come back
}

// asksAllTheTime asks one request after the other for as long as PostgreSQL is away, and looks at each
// answer.
func (s *stage) asksAllTheTime(ctx context.Context, t *traffic) asked {
	var all asked
	until := s.run.o.Now().Add(awayFor)
	for n := 0; s.going(ctx) && s.run.o.Now().Before(until); n++ {
		s.do(func() error {
			began := s.run.o.Now()
			status, retryAfter, err := t.probe(ctx, n)
			if err != nil {
				return err
			}
			all.n++
			if status != http.StatusServiceUnavailable {
				all.other++
			}
			if retryAfter == "" {
				all.unsaid++
			}
			if s.run.o.Now().Sub(began) > awayPatience {
				all.late++
			}
			return nil
		})
		s.wait(ctx, probePause)
	}
	return all
}

// probePause is between two of these requests.
const probePause = 50 * time.Millisecond

// probe asks for a list with the key of a standard client, and says whether the answer tells when to come
// back.
func (t *traffic) probe(ctx context.Context, n int) (int, string, error) {
	url := t.base + "/v1/transfers/" + t.account(n).String()
	out, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	out.Header.Set("Authorization", "Bearer "+t.tenant.Key)
	in, err := t.client.Do(out)
	if err != nil {
		return 0, "", err
	}
	_ = in.Body.Close() // its headers say it all
	return in.StatusCode, in.Header.Get("Retry-After"), nil
}

func (s *stage) whileAway(a asked) {
	if s.err != nil {
		return
	}
	s.figure("requests while PostgreSQL was away", "%d", a.n)
	s.claim(
		atLeast("requests while PostgreSQL was away", float64(a.n), samplesMin),
		atMost("of them answered by anything but 503", float64(a.other), 0),
		atMost("of them answered without Retry-After", float64(a.unsaid), 0),
		atMost("of them answered later than in "+short(awayPatience), float64(a.late), 0),
	)
}
