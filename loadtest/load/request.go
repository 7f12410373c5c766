package load

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/internal/problem"
)

const (
	// requestMax bounds one request.
	requestMax = 15 * time.Second
	// answerMaxBytes bounds what is read of an answer.
	answerMaxBytes = 1 << 20
	// againMax is how often a request that got no answer is sent again after the load, againPause what is
	// between two tries.
	againMax   = 5
	againPause = time.Second
)

// answer is what came back.
type answer struct {
	status int
	body   []byte
	code   string // of a problem
	err    error  // there is no answer
	// retryAfter is what a refusal asks to wait; negative if it does not say.
	retryAfter time.Duration
}

// unclear says that the answer does not tell what became of the request.
func (a answer) unclear() bool {
	return a.err != nil || a.status >= 500 && a.code != string(problem.Overloaded)
}

// passing says that the answer is a refusal for a moment.
func (a answer) passing() bool {
	return a.status == http.StatusServiceUnavailable || a.status == http.StatusTooManyRequests ||
		a.code == string(problem.KeyInProgress)
}

// request is one call of the API.
type request struct {
	method, path, key string
	body              []byte
}

// do sends a request, once.
func (r *run) do(ctx context.Context, c *caller, q request) answer {
	var content io.Reader = http.NoBody
	if q.body != nil {
		content = bytes.NewReader(q.body)
	}
	out, err := http.NewRequestWithContext(ctx, q.method, r.base+q.path, content)
	if err != nil {
		return answer{err: err}
	}
	out.Header.Set("Authorization", "Bearer "+c.secret)
	if q.body != nil {
		out.Header.Set("Content-Type", "application/json")
		out.GetBody = nil // so that the transport does not send it again by itself
	}
	if q.key != "" {
		out.Header.Set("Idempotency-Key", q.key)
	}
	in, err := r.http.Do(out)
	if err != nil {
		return answer{err: err}
	}
	text, err := io.ReadAll(io.LimitReader(in.Body, answerMaxBytes))
	_ = in.Body.Close() // it has been read
	a := answer{status: in.StatusCode, body: text, err: err, retryAfter: -1}
	if a.status >= http.StatusBadRequest {
		var p struct {
			Code string `json:"code"`
		}
		_ = json.Unmarshal(text, &p) // what is no problem has no code
		a.code = p.Code
	}
	if s, err := strconv.Atoi(in.Header.Get("Retry-After")); err == nil && s >= 0 {
		a.retryAfter = time.Duration(s) * time.Second
	}
	return a
}

// perform sends what is due, and counts what comes back.
func (r *run) perform(ctx context.Context, a arrival, due time.Time) {
	c := r.callers[a.caller]
	var e *entry
	switch a.kind {
	case Repeat:
		e = c.tenant.book.sent(a.pick)
	case Conflict:
		e = c.tenant.book.transfer(a.pick)
	case Transfer, Order, Read:
	}
	if e == nil && (a.kind == Repeat || a.kind == Conflict) {
		a.kind = Transfer // there is nothing to repeat yet
	}
	var got answer
	good := http.StatusAccepted
	switch a.kind {
	case Transfer, Order:
		e = &entry{arrival: a}
		c.tenant.book.add(e)
		got = r.submit(ctx, c, e)
	case Repeat:
		got = r.submit(ctx, c, e)
	case Conflict:
		other := entry{arrival: e.arrival}
		other.amount++
		body := r.body(c.tenant, &other)
		got = r.do(ctx, c, request{http.MethodPost, "/v1/transfers", e.key(r.name()), body})
		good = 0
	case Read:
		got = r.read(ctx, c, a)
		good = http.StatusOK
	}
	r.counts.answer(a, c.class, got, outcome{
		took: r.o.Now().Sub(due),
		good: got.err == nil && (got.status == good || good == 0 && got.code == string(problem.KeyReused)),
	})
}

// name begins all keys of the run.
func (r *run) name() string { return "load-" + strconv.FormatInt(r.began.UnixNano(), 36) }

// submit sends an entry's request, and notes what it was answered.
func (r *run) submit(ctx context.Context, c *caller, e *entry) answer {
	path := "/v1/transfers"
	if e.kind == Order {
		path = "/v1/orders"
	}
	key := e.key(r.name())
	a := r.do(ctx, c, request{http.MethodPost, path, key, r.body(c.tenant, e)})
	var made struct {
		ID        uuid.UUID `json:"id"`
		PromiseAt time.Time `json:"promise_at"`
	}
	if a.err == nil && a.status == http.StatusAccepted {
		if err := json.Unmarshal(a.body, &made); err != nil || made.ID == uuid.Nil {
			a.err = fmt.Errorf("answer to %s is not one of a %s: %w", key, e.kind, err)
		}
	}
	taken, changed := e.first(a, made.ID, made.PromiseAt)
	if taken {
		c.tenant.book.take(e)
	}
	if changed {
		c.tenant.book.change(fmt.Sprintf("key %s: %d %.120s", key, a.status, a.body))
	}
	return a
}

// body is what an entry's request says: the same whenever it is asked for.
func (r *run) body(t *tenant, e *entry) []byte {
	if e.kind == Order {
		const form = `{"customer_account":"%s","merchant_account":"%s","location":"%s",` +
			`"lines":[{"sku":"%s","quantity":1},{"sku":"%s","quantity":1}]}`
		return fmt.Appendf(nil, form, t.accounts[e.n%len(t.accounts)], t.merchant, location,
			t.skus[e.skus[0]], t.skus[e.skus[1]])
	}
	const form = `{"from_account":"%s","to_account":"%s","amount":{"value":%d,"currency":"%s"}}`
	return fmt.Appendf(nil, form, t.accounts[e.from], t.accounts[e.to], e.amount, r.o.Currency)
}

// read reads a transfer that was accepted lately, or a balance.
func (r *run) read(ctx context.Context, c *caller, a arrival) answer {
	path := "/v1/accounts/" + c.tenant.accounts[a.from].String() + "/balance"
	if e := c.tenant.book.transfer(a.pick); e != nil && a.pick%4 != 0 {
		id, _ := e.accepted()
		path = "/v1/transfers/" + id.String()
	}
	return r.do(ctx, c, request{method: http.MethodGet, path: path})
}

// askAgain sends what got no answer again, with its key: so it becomes known what had become of it.
func (r *run) askAgain(ctx context.Context) {
	var open []func()
	for _, c := range r.callers {
		for _, e := range c.tenant.book.entries {
			if r.callers[e.caller] == c && e.isUnclear() {
				open = append(open, func() { r.resolve(ctx, c, e) })
			}
		}
	}
	if len(open) == 0 {
		return
	}
	r.say("asks again about %d requests without a clear answer", len(open))
	var group sync.WaitGroup
	places := make(chan struct{}, settersMax)
	for _, ask := range open {
		places <- struct{}{}
		group.Go(func() { ask(); <-places })
	}
	group.Wait()
}

func (r *run) resolve(ctx context.Context, c *caller, e *entry) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for range againMax {
		<-pause.C
		once, cancel := context.WithTimeout(ctx, requestMax)
		a := r.submit(once, c, e)
		cancel()
		if !e.isUnclear() || !a.unclear() && !a.passing() {
			return
		}
		pause.Reset(againPause)
	}
}
