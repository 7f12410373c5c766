package drill

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/internal/problem"
	"example.com/holdfast/loadtest/simdep"
)

const (
	// stallMillis is what a screening takes, and stallRate 80 % of how many a second its places make of it.
	stallMillis = 50
	stallRate   = riskLimit * 1000 / stallMillis * 8 / 10
	// stallFor is how long PostgreSQL does not answer.
	stallFor = 10 * time.Second
	// afterStallMax is how soon after that all is as before, and afterStallFor how long that is looked at.
	afterStallMax = 5 * time.Second
	afterStallFor = 15 * time.Second
	// clientPatience is what a client waits before it asks again, clientPause its longest pause before it
	// does, beyond what it was told to wait, and insistMax for how long it goes on.
	clientPatience = time.Second
	clientPause    = 500 * time.Millisecond
	insistMax      = time.Minute
	// repeatersMax is how many ask for all answers once more at the end.
	repeatersMax = 8
)

func stall() scenario {
	return scenario{
		name: "stall", most: 3 * time.Minute, cannot: cannotFreeze,
		about: "PostgreSQL stands still for 10 s at 80 % load, clients ask again: all is well 5 s later",
		variants: []variant{{
			play: func(ctx context.Context, s *stage) {
				s.startWorkers(ctx, 2)
				s.set(s.risk, func(k *simdep.Knobs) { k.Latency.P50 = stallMillis })
				c := newInsistent(s.caller(0), clientPause)
				s.begin(ctx, c.insists(stallRate))
				s.during(ctx, "warm", time.Second)
				calm := s.during(ctx, "80 % of the capacity", s.long(20*time.Second))
				stalled := s.phase("PostgreSQL stands still")
				s.freeze(ctx, stallFor)
				s.during(ctx, "it goes on", afterStallMax)
				after := s.during(ctx, "five seconds later", s.long(afterStallFor))
				s.settle(ctx)
				s.asBefore(ctx, calm, stalled, after)
				s.claim(none("keys with another answer than the first", c.repeat(ctx)))
				s.claim(equal("transfers, one for each key", s.count(ctx,
					"SELECT count(*) FROM transfers t WHERE t.tenant_id = $1", c.tenant.ID),
					uint64(len(c.answers))))
			},
		}},
	}
}

// asBefore claims that the stall is over when it is over.
func (s *stage) asBefore(ctx context.Context, calm, stalled, after *phase) {
	if s.err != nil {
		return
	}
	before, later := s.goodput(ctx, calm.from, calm.to), s.goodput(ctx, after.from, after.to)
	s.claim(atLeast("goodput from five seconds after the stall on, of that before it", later/max(before, 1),
		goodputMin))
	s.figure("goodput a second before, later", "%.1f, %.1f", before, later)
	for _, p := range []*phase{calm, stalled, after} {
		s.figure("request until its answer, repeats included: "+p.name, "%s", p.of(transfers).spread())
	}
	s.figure("transfers from accepted to settled: "+after.name, "%s", s.acceptedToSettled(ctx, after))
}

// insistent is a client who asks with the same key until there is an answer for good, as the contract wants.
type insistent struct {
	*traffic

	// pause is the longest pause, beyond Retry-After.
	pause time.Duration

	mu sync.Mutex
	// answers is what each key got first; one that got nothing in time has none.
	answers map[int]uuid.UUID
}

func newInsistent(t *traffic, pause time.Duration) *insistent {
	return &insistent{traffic: t, pause: pause, answers: map[int]uuid.UUID{}}
}

func (c *insistent) insists(rate float64) stream {
	return stream{name: transfers, rate: rate, most: insistMax, send: c.insist}
}

// ask asks once, for as long as a client is patient.
func (c *insistent) ask(ctx context.Context, n int) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, clientPatience)
	defer cancel()
	return c.transfer(ctx, "insistent", n, newTransfer{
		To: c.account(n + 1), Amount: amount{Value: amountPlain},
	})
}

// insist asks until there is an answer.
func (c *insistent) insist(ctx context.Context, n int) (answer, error) {
	for {
		a, err := c.ask(ctx, n)
		if err == nil && !passing(a) {
			c.note(n, a)
			return a, nil
		}
		timer := time.NewTimer(a.retryAfter + rand.N(c.pause))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			c.note(n, answer{})
			return a, fmt.Errorf("no answer for good: %w", ctx.Err())
		}
	}
}

func (c *insistent) note(n int, a answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers[n] = a.id
}

// passing says that the same request may get another answer later.
func passing(a answer) bool {
	switch a.status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return a.code == string(problem.KeyInProgress)
}

// repeat asks with every key once more, and lists what is another answer.
func (c *insistent) repeat(ctx context.Context) []string {
	keys := make(chan int)
	var group sync.WaitGroup
	var mu sync.Mutex
	var found []string
	for range repeatersMax {
		group.Go(func() {
			for n := range keys {
				a, err := c.ask(ctx, n)
				first := c.answers[n]
				if err != nil || a.id == uuid.Nil || first != uuid.Nil && a.id != first {
					mu.Lock()
					found = append(found, fmt.Sprintf("key %d: %s, then %d %s %v", n, first, a.status,
						a.id, err))
					mu.Unlock()
				}
			}
		})
	}
	for n := range c.answers {
		keys <- n
	}
	close(keys)
	group.Wait()
	return found
}
