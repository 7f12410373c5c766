package drill

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/internal/problem"
	"example.com/holdfast/loadtest/rig"
)

const (
	// callersPerRate is how many callers a stream has for each request of a second: enough for answers
	// that take this many seconds.
	callersPerRate = 2
	callersMin     = 8
	callersMax     = 600
	// requestMax bounds one request of the load.
	requestMax = 15 * time.Second
)

// stream is one kind of request at a fixed rate that waits for nobody: an open loop.
type stream struct {
	name string
	rate float64
	// most bounds a request, its repeats included; zero is requestMax.
	most time.Duration
	// send makes the nth request; a status of zero means that there was nothing to send.
	send func(ctx context.Context, n int) (answer, error)
}

// patience is how long a request of the stream may take.
func (s stream) patience() time.Duration {
	if s.most > 0 {
		return s.most
	}
	return requestMax
}

// callers is how many it takes to send without waiting for anybody. A stream with a patience of its own means
// it: it has a caller for each of its requests that may be under way.
func (s stream) callers() int {
	if s.most > 0 {
		return max(callersMin, int(s.rate*s.most.Seconds()))
	}
	return max(callersMin, min(callersMax, int(s.rate*callersPerRate)))
}

// answer is what came back: the status, the id of what was made, or the code of a problem.
type answer struct {
	status int
	id     uuid.UUID
	code   string
	// retryAfter is when to come again, if the answer says so.
	retryAfter time.Duration
	// current is the secret that was asked for; events and nextCursor are a page of the feed.
	current    string
	events     []json.RawMessage
	nextCursor string
}

// tally is what came of a stream's requests in one phase.
type tally struct {
	// taken is the latency of those that were answered with success, from when they were meant to be sent.
	taken           rig.Histogram
	max             time.Duration
	refused, failed uint64
	// refusals is the latency of those that were refused for a moment.
	refusals rig.Histogram
	// wrong counts answers that are neither a success nor a refusal that says to come again.
	wrong map[string]uint64
}

func (t *tally) count(a answer, err error, took time.Duration) {
	switch status := a.status; {
	case err != nil:
		t.failed++
	case status >= 200 && status < 300:
		t.taken.Add(took)
		t.max = max(t.max, took)
	case status == http.StatusServiceUnavailable, status == http.StatusTooManyRequests,
		a.code == string(problem.KeyInProgress): // a lock of its own made it wait too long
		t.refused++
		t.refusals.Add(took)
	default:
		t.wrong[fmt.Sprintf("%d %s", status, a.code)]++
	}
}

// asked is how many requests were answered for good or for a moment.
func (t *tally) asked() uint64 { return t.taken.Count() + t.refused }

// spread is the latency of what was taken.
func (t *tally) spread() spread {
	return spread{
		n:   int(t.taken.Count()), //nolint:gosec // a count of one run
		p50: t.taken.Quantile(0.5), p99: t.taken.Quantile(0.99), max: t.max,
	}
}

// refusalSpread is the latency of what was refused, from when it was due.
func (t *tally) refusalSpread() spread {
	h := &t.refusals
	return spread{
		n:   int(h.Count()), //nolint:gosec // a count of one run
		p50: h.Quantile(0.5), p99: h.Quantile(0.99), max: h.Quantile(1),
	}
}

// unexpected lists answers that no load should get.
func (t *tally) unexpected(stream string) []string {
	var all []string
	if t.failed > 0 {
		all = append(all, fmt.Sprintf("%s: %d without an answer", stream, t.failed))
	}
	for what, n := range t.wrong {
		all = append(all, fmt.Sprintf("%s: %d times %s", stream, n, what))
	}
	return all
}

// phase is a part of a load. What was meant to be sent in it counts in it, whenever it was answered.
type phase struct {
	name     string
	from, to time.Time // by our clock
	mu       sync.Mutex
	tallies  map[string]*tally
}

func (p *phase) count(stream string, a answer, err error, took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.of(stream).count(a, err, took)
}

// of is the tally of a stream. Read it when the load has ended.
func (p *phase) of(stream string) *tally {
	t := p.tallies[stream]
	if t == nil {
		t = &tally{wrong: map[string]uint64{}}
		p.tallies[stream] = t
	}
	return t
}

// load is streams that run until end.
type load struct {
	now     func() time.Time
	current atomic.Pointer[phase]
	phases  []*phase
	cancel  context.CancelFunc
	group   sync.WaitGroup
}

// startLoad begins to send.
func startLoad(ctx context.Context, now func() time.Time, streams []stream) *load {
	l := &load{now: now}
	l.next("before")
	// Who is told to end sends nothing more, and still gets the answers to what was sent.
	sending, cancel := context.WithCancel(ctx)
	l.cancel = cancel
	for _, s := range streams {
		begin := now()
		var tickets atomic.Int64
		for range s.callers() {
			l.group.Go(func() { l.call(sending, s, begin, &tickets) })
		}
	}
	return l
}

// next begins a phase.
func (l *load) next(name string) *phase {
	p := &phase{name: name, from: l.now(), tallies: map[string]*tally{}}
	if last := l.current.Swap(p); last != nil {
		last.to = p.from
	}
	l.phases = append(l.phases, p)
	return p
}

// end sends nothing more and waits for the answers.
func (l *load) end() {
	l.cancel()
	l.group.Wait()
	l.current.Load().to = l.now()
}

// call takes tickets: the number of a ticket is the time at which its request is meant to be sent.
func (l *load) call(ctx context.Context, s stream, begin time.Time, tickets *atomic.Int64) {
	gap := float64(time.Second) / s.rate
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for {
		n := tickets.Add(1) - 1
		due := begin.Add(time.Duration(float64(n) * gap))
		timer.Reset(due.Sub(l.now()))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		p := l.current.Load()
		request, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.patience())
		a, err := s.send(request, int(n))
		cancel()
		if a.status != 0 || err != nil {
			p.count(s.name, a, err, l.now().Sub(due))
		}
	}
}
