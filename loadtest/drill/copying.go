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
	// copiesOfEach is how often a request is sent at the same moment.
	copiesOfEach = 3
	// otherBodyEvery: of so many repeats one has another body.
	otherBodyEvery = 20
	// repeatsOfEach are the copies but the first.
	repeatsOfEach = copiesOfEach - 1
)

// copier is a client that sends each request several times at once, to one api after the other.
type copier struct {
	*traffic

	bases []string
	// pause is the longest pause before a copy that was told to come again does.
	pause time.Duration

	mu sync.Mutex
	// keys counts requests that got an answer for good, other copies with another body than the one that
	// was done, and refused those of them that were told so.
	keys, other, refused uint64
	// again counts answers that a copy has to come again.
	again uint64
	wrong []string
}

func newCopier(t *traffic, pause time.Duration) *copier {
	return &copier{traffic: t, bases: []string{t.base}, pause: pause}
}

func (c *copier) copies(rate float64) stream {
	return stream{name: transfers, rate: rate, most: insistMax, send: c.sendCopies}
}

// oneCopy is a copy of a request and what came of it.
type oneCopy struct {
	value int64 // what it moves: copies with the same value have the same body
	got   answer
	err   error
}

// sendCopies sends the nth request to all at once, and returns the answer that says it was accepted.
func (c *copier) sendCopies(ctx context.Context, n int) (answer, error) {
	sent := make([]oneCopy, copiesOfEach)
	start := make(chan struct{})
	var group sync.WaitGroup
	for i := range sent {
		sent[i].value = amountPlain
		if i > 0 && (n*repeatsOfEach+i)%otherBodyEvery == 0 {
			sent[i].value++
		}
		group.Go(func() {
			<-start
			sent[i].got, sent[i].err = c.insist(ctx, n, i, sent[i].value)
		})
	}
	close(start)
	group.Wait()
	return c.judge(n, sent)
}

// insist sends one copy until there is an answer for good.
func (c *copier) insist(ctx context.Context, n, i int, value int64) (answer, error) {
	body := newTransfer{
		From: c.account(n), To: c.account(n + 1), Amount: amount{Value: value, Currency: "EUR"},
	}
	for {
		a, err := c.do(ctx, request{
			http.MethodPost, c.bases[(n+i)%len(c.bases)] + "/v1/transfers", c.tenant.Key,
			fmt.Sprintf("%scopies-%d", c.prefix, n), body,
		})
		if err != nil || !passing(a) {
			return a, err
		}
		c.mu.Lock()
		c.again++
		c.mu.Unlock()
		if err := rest(ctx, a.retryAfter+rand.N(c.pause)); err != nil {
			return a, fmt.Errorf("no answer for good: %w", err)
		}
	}
}

// judge holds the copies of one key to each other: those with the body that was accepted have one answer,
// and the others are told that the key is used.
func (c *copier) judge(n int, sent []oneCopy) (answer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := oneCopy{}
	for _, one := range sent {
		if one.err != nil {
			return answer{}, one.err
		}
		if first.got.id == uuid.Nil && one.got.status == http.StatusAccepted {
			first = one
		}
	}
	if first.got.id == uuid.Nil {
		return sent[0].got, nil // counted as what it is
	}
	c.keys++
	for i, one := range sent {
		c.compare(fmt.Sprintf("key %d, copy %d", n, i), one, first)
	}
	c.traffic.mu.Lock()
	c.transfers = append(c.transfers, first.got.id)
	c.traffic.mu.Unlock()
	return first.got, nil
}

// compare holds a copy to the one that was accepted first. The caller has the lock.
func (c *copier) compare(name string, one, first oneCopy) {
	if one.value != first.value {
		c.other++
		if one.got.status == http.StatusConflict && one.got.code == string(problem.KeyReused) {
			c.refused++
		}
		return
	}
	if one.got.status != first.got.status || one.got.id != first.got.id {
		c.wrong = append(c.wrong, fmt.Sprintf("%s: %d %s %s, another one %s", name, one.got.status,
			one.got.code, one.got.id, first.got.id))
	}
}

// doneOnce claims that each key had one answer and one effect, however often it came.
func (s *stage) doneOnce(ctx context.Context, c *copier) {
	if s.err != nil {
		return
	}
	s.figure("keys, copies, answers to come again", "%d, %d, %d", c.keys, c.keys*copiesOfEach, c.again)
	s.claim(
		none("copies with another answer than the first one of the same body", c.wrong),
		equal("copies with another body told that the key is used", c.refused, c.other),
		equal("transfers, one for each key", s.count(ctx,
			"SELECT count(*) FROM transfers t WHERE t.tenant_id = $1", c.tenant.ID), c.keys),
		equal("screenings, one for each key", s.risk.Journal().Effects, c.keys),
		equal("entries of transfers, one for each key", s.count(ctx, `
			SELECT count(*) FROM entries e JOIN transfers t ON t.tenant_id = e.tenant_id AND t.id = e.id
			 WHERE t.tenant_id = $1`, c.tenant.ID), c.keys),
	)
}
