package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"example.com/holdfast/loadtest/rig"
)

// The bounds of a load.
const (
	// answerMax is how long after the end of a load its last answers may come.
	answerMax = 15 * time.Second
	// failuresMax ends a load whose requests get no answer.
	failuresMax = 100
	// openCallersMax bounds the connections of an open loop.
	openCallersMax = 512
)

// plan says how to load: so many callers that each wait for the answer, or a rate that does not.
type plan struct {
	callers int
	// rate is that of an open loop, in requests per second; zero makes it a closed loop.
	rate           float64
	ramp, duration time.Duration
	impatient      bool
	now            func() time.Time
}

// tally is what came of the requests that were sent, or meant to be sent, after the ramp.
type tally struct {
	accepted, refused rig.Histogram
	// all counts accepted requests with those of the ramp, sent all requests with those of the ramp.
	all, sent uint64
	failed    uint64
	// statuses counts answers that are neither 202 nor a refusal for a moment (429, 503).
	statuses map[int]uint64
}

func (t *tally) merge(other *tally) {
	t.accepted.Merge(&other.accepted)
	t.refused.Merge(&other.refused)
	t.all += other.all
	t.sent += other.sent
	t.failed += other.failed
	for status, n := range other.statuses {
		t.statuses[status] += n
	}
}

// caller is one connection with its own buffer and counts: nothing is shared while the load runs.
type caller struct {
	plan     plan
	addr     string
	request  sender
	conn     *conn
	tally    tally
	from     time.Time // where counting begins
	end      time.Time
	timer    *time.Timer
	tickets  *atomic.Int64
	lastWait time.Duration
}

// load runs a plan to its end.
func load(ctx context.Context, t *traffic, p plan) (tally, error) {
	begin := p.now()
	from, end := begin.Add(p.ramp), begin.Add(p.ramp+p.duration)
	var tickets atomic.Int64
	callers := make([]*caller, p.callers)
	errs := make([]error, p.callers)
	var group sync.WaitGroup
	for i := range callers {
		c := &caller{
			plan: p, addr: t.addr, request: t.newSender(i), from: from, end: end, tickets: &tickets,
			tally: tally{statuses: map[int]uint64{}}, timer: time.NewTimer(0),
		}
		<-c.timer.C
		callers[i] = c
		group.Go(func() { errs[i] = c.run(ctx, begin) })
	}
	group.Wait()
	total := tally{statuses: map[int]uint64{}}
	for _, c := range callers {
		total.merge(&c.tally)
	}
	return total, errors.Join(errs...)
}

func (c *caller) run(ctx context.Context, begin time.Time) error {
	var err error
	if c.conn, err = dial(ctx, c.addr, c.end.Add(answerMax)); err != nil {
		return err
	}
	defer func() { c.conn.close() }()
	if c.plan.rate > 0 {
		return c.open(ctx, begin)
	}
	return c.closed(ctx)
}

// closed sends the next request when the last one was answered; a refused caller waits as it was told.
func (c *caller) closed(ctx context.Context) error {
	for {
		start := c.plan.now()
		if !start.Before(c.end) || ctx.Err() != nil {
			return ctx.Err()
		}
		if err := c.once(ctx, start); err != nil {
			return err
		}
		if c.lastWait > 0 && !c.plan.impatient {
			c.wait(ctx, min(c.lastWait, c.end.Sub(c.plan.now())))
		}
	}
}

// open sends each request at its own time, whatever became of the others. All callers take tickets from
// one counter, and a ticket's number is its time.
func (c *caller) open(ctx context.Context, begin time.Time) error {
	gap := float64(time.Second) / c.plan.rate
	for {
		due := begin.Add(time.Duration(float64(c.tickets.Add(1)-1) * gap))
		if !due.Before(c.end) || ctx.Err() != nil {
			return ctx.Err()
		}
		c.wait(ctx, due.Sub(c.plan.now()))
		if err := c.once(ctx, due); err != nil {
			return err
		}
	}
}

// once sends a request and counts its answer; its latency counts from start.
func (c *caller) once(ctx context.Context, start time.Time) error {
	c.lastWait = 0
	c.tally.sent++
	a, err := c.conn.do(c.request.fresh())
	if err == nil {
		c.count(a, start)
	}
	if err == nil && !a.closes {
		return nil
	}
	if err != nil {
		if c.tally.failed++; c.tally.failed > failuresMax {
			return fmt.Errorf("more than %d requests of a caller without an answer: %w", failuresMax, err)
		}
	}
	c.conn.close()
	again, err := dial(ctx, c.addr, c.end.Add(answerMax))
	if err != nil {
		return err
	}
	c.conn = again
	return nil
}

func (c *caller) count(a answer, start time.Time) {
	counts := !start.Before(c.from)
	switch a.status {
	case http.StatusAccepted:
		c.tally.all++
		if counts {
			c.tally.accepted.Add(c.plan.now().Sub(start))
		}
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		c.lastWait = a.retryAfter
		if counts {
			c.tally.refused.Add(c.plan.now().Sub(start))
		}
	default:
		c.tally.statuses[a.status]++
	}
}

// wait lets the time pass, or returns when the load is given up.
func (c *caller) wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	c.timer.Reset(d)
	select {
	case <-c.timer.C:
	case <-ctx.Done():
		c.timer.Stop()
	}
}
