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
)

const (
	// clientPatience is what a client waits before it asks again, clientPause its longest pause before it
	// does, beyond what it was told to wait, and insistMax for how long it goes on.
	clientPatience = time.Second
	clientPause    = 500 * time.Millisecond
	insistMax      = time.Minute
	// repeatersMax is how many ask for all answers once more at the end.
	repeatersMax = 8
)

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

// sameAnswers asks for all answers once more, and claims that each key has one, and one transfer.
func (s *stage) sameAnswers(ctx context.Context, clients ...*insistent) {
	for _, c := range clients {
		if s.err != nil {
			return
		}
		s.claim(
			none("keys with another answer than the first", c.repeat(ctx)),
			equal("transfers, one for each key", s.count(ctx,
				"SELECT count(*) FROM transfers t WHERE t.tenant_id = $1", c.tenant.ID),
				uint64(len(c.answers))),
		)
	}
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
		if err := rest(ctx, a.retryAfter+rand.N(c.pause)); err != nil {
			c.note(n, answer{})
			return a, fmt.Errorf("no answer for good: %w", err)
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
