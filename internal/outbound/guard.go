package outbound

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"example.com/holdfast/internal/breaker"
	"example.com/holdfast/internal/bulkhead"
)

// When the circuit breaker of a dependency opens and closes.
const (
	breakerWindow      = 10 * time.Second
	breakerCallsMin    = 20
	breakerFailPercent = 50
	breakerOpenFor     = 5 * time.Second
	breakerOpenJitter  = 2 * time.Second
	breakerProbes      = 3
	breakerProbeAgain  = time.Second
)

var (
	errOpen        = errors.New("circuit breaker open")
	errRetryBudget = errors.New("retry budget used up")
)

// guard is what a client has learned about its dependency, and whom it refuses for that: everybody
// while the breaker is open, and repeats without a token.
type guard struct {
	bulkhead *bulkhead.Bulkhead

	mu      sync.Mutex
	breaker *breaker.Breaker
	retries retryBudget
	latency latency
	load    adaptive
}

// pass is what a call was let through with. It is given back by leave, or by learn after an attempt.
type pass struct {
	ticket breaker.Ticket
	repeat bool
}

func newGuard(b *bulkhead.Bulkhead, random func() float64) *guard {
	return &guard{
		bulkhead: b,
		retries:  retryBudget{tokens: repeatsMax},
		breaker: breaker.New(breaker.Config{
			Window: breakerWindow, CallsMin: breakerCallsMin, FailPercent: breakerFailPercent,
			OpenFor: breakerOpenFor, OpenJitter: breakerOpenJitter, Random: random,
			Probes: breakerProbes, ProbeAgain: breakerProbeAgain,
		}),
	}
}

// enter asks the breaker and then, for a repeat, the retry budget.
func (g *guard) enter(now time.Time, repeat bool) (pass, *Error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	ticket, wait, ok := g.breaker.Admit(now)
	if !ok {
		return pass{}, &Error{Kind: KindOpen, RetryAfter: wait, Err: fmt.Errorf("refused: %w", errOpen)}
	}
	if !repeat {
		return pass{ticket: ticket}, nil
	}
	if wait, ok := g.retries.take(now); !ok {
		g.breaker.Done(now, ticket, breaker.Untold)
		err := fmt.Errorf("refused: %w", errRetryBudget)
		return pass{}, &Error{Kind: KindRetryBudget, RetryAfter: wait, Err: err}
	}
	return pass{ticket: ticket, repeat: true}, nil
}

// leave gives back the pass of a call that made no attempt.
func (g *guard) leave(now time.Time, p pass) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.breaker.Done(now, p.ticket, breaker.Untold)
	if p.repeat {
		g.retries.add(1)
	}
}

// trial is an attempt and what it came to.
type trial struct {
	pass    pass
	place   bulkhead.Place
	began   time.Time
	timeout time.Duration
	short   bool // it had less time than the client's attempts have
	kind    Kind // empty if the attempt panicked
	status  int
}

// learn takes back the pass of a call with what its attempt came to.
func (g *guard) learn(now time.Time, t trial) {
	g.mu.Lock()
	defer g.mu.Unlock()
	outcome, load := t.outcome(), t.load()
	if t.kind == KindTimeout && t.short && t.timeout < g.latency.p95() {
		outcome, load = breaker.Untold, signalNone // no dependency answers faster than it does
	}
	g.breaker.Done(now, t.pass.ticket, outcome)
	switch {
	case !t.pass.repeat:
		g.retries.add(repeatShare)
	case outcome == breaker.Succeeded:
		g.retries.add(1)
	}
	if t.kind == KindOK {
		g.latency.add(now.Sub(t.began))
	}
	g.adapt(g.load.note(load, t.began, now, t.place.InFlight, t.place.Limit))
}

// adapt moves the adapted limit; mu is held, so that one verdict follows the other.
func (g *guard) adapt(v verdict) {
	switch v {
	case verdictKeep:
	case verdictShrink:
		if limit := g.bulkhead.Stats().Limit; limit > 0 {
			g.bulkhead.SetAdaptive(shrunk(limit))
		}
	case verdictGrow:
		if stats := g.bulkhead.Stats(); stats.Adaptive > 0 && stats.Adaptive <= stats.Limit {
			g.bulkhead.SetAdaptive(grown(stats.Adaptive, stats.Cap))
		}
	}
}

// outcome is what the attempt tells the breaker. A dependency that refuses works.
func (t trial) outcome() breaker.Outcome {
	switch t.kind {
	case KindOK:
		return breaker.Succeeded
	case KindStatus4xx:
		if t.status == http.StatusTooManyRequests {
			return breaker.Failed
		}
		return breaker.Succeeded
	case KindTimeout, KindUnreachable, KindAmbiguous, KindStatus5xx, KindBadReply:
		return breaker.Failed
	case KindInTransaction, KindOpen, KindRetryBudget, KindFull, KindNoBudget, KindWithheld, KindCanceled:
	}
	return breaker.Untold
}

// load is what the attempt tells about the dependency's load. A status that does not mean load, a 500
// say, is an answer: fewer calls would not make it better.
func (t trial) load() signal {
	switch t.kind {
	case KindTimeout:
		return signalOverload
	case KindStatus4xx, KindStatus5xx:
		switch t.status {
		case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return signalOverload
		}
		return signalCalm
	case KindOK, KindBadReply:
		return signalCalm
	case KindInTransaction, KindOpen, KindRetryBudget, KindFull, KindNoBudget, KindWithheld, KindCanceled,
		KindUnreachable, KindAmbiguous:
	}
	return signalNone
}

// p95 is what 95 % of the recent successful attempts stayed below.
func (g *guard) p95() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.latency.p95()
}
