package drill

import (
	"context"
	"net/http"
	"time"
)

// asked is what came of the requests that were made while PostgreSQL was away.
type asked struct {
	n, other int
	unsaid   int // answers that do not say when to come back
	slowest  time.Duration
}

// keepAway crashes PostgreSQL, asks one request after the other for as long as it is away, and lets it come
// back.
func (s *stage) keepAway(ctx context.Context, t *traffic, d time.Duration) asked {
	s.do(func() error { s.referee.Close(ctx); s.world.Server.Kill(); return nil })
	answers := s.asksAllTheTime(ctx, t, d)
	s.do(func() error { return s.world.Server.Relaunch(ctx) })
	s.do(func() error { return s.newReferee(ctx) })
	return answers
}

func (s *stage) asksAllTheTime(ctx context.Context, t *traffic, d time.Duration) asked {
	var all asked
	until := s.run.o.Now().Add(d)
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
			all.slowest = max(all.slowest, s.run.o.Now().Sub(began))
			return nil
		})
		s.wait(ctx, probePause)
	}
	return all
}

// probePause is between two of these requests.
const probePause = 50 * time.Millisecond

// probe reads with the key of a standard client, and says whether the answer tells when to come
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

// unavailable claims that there was an answer to each of them, soon, that says when to come back.
func (s *stage) unavailable(a asked, within time.Duration) {
	if s.err != nil {
		return
	}
	s.claim(
		atLeast("requests while PostgreSQL was away", float64(a.n), samplesMin),
		atMost("of them answered by anything but 503", float64(a.other), 0),
		atMost("of them answered without Retry-After", float64(a.unsaid), 0),
		atMost("seconds until the slowest of them was answered", a.slowest.Seconds(), within.Seconds()),
	)
}

// crashEvery is how long PostgreSQL runs between two crashes.
const crashEvery = 2 * time.Second

// crash ends PostgreSQL without a checkpoint and starts it again.
func (s *stage) crash(ctx context.Context) {
	began := s.run.o.Now()
	s.do(func() error { s.referee.Close(ctx); s.world.Server.Kill(); return nil })
	s.do(func() error { return s.world.Server.Relaunch(ctx) })
	s.do(func() error { return s.newReferee(ctx) })
	s.figure("a crash until PostgreSQL answers again", "%s", short(s.run.o.Now().Sub(began)))
}
