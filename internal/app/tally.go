package app

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/jobqueue"
	"example.com/holdfast/internal/mode"
	"example.com/holdfast/internal/outbound"
	"example.com/holdfast/internal/telemetry"
)

// tally counts what a process measures for those who judge the mode.
type tally struct {
	attempts, firsts, requests, failures atomic.Int64

	mu    sync.Mutex
	pools []*pooled
	last  mode.Report // of the counters, at the last report
}

// pooled is a pool, and how much was waited for its connections up to the last report.
type pooled struct {
	pool     *pgxpool.Pool
	waited   time.Duration
	acquired int64
}

// add watches over a pool that what clients wait for is done with.
func (t *tally) add(pool *pgxpool.Pool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pools = append(t.pools, &pooled{pool: pool})
}

// attempt counts an attempt at a dependency.
func (t *tally) attempt(repeat bool) {
	t.attempts.Add(1)
	if !repeat {
		t.firsts.Add(1)
	}
}

// report is what was measured since the last one.
func (t *tally) report(seen []outbound.Health) mode.Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := mode.Report{
		Attempts: t.attempts.Load(), Firsts: t.firsts.Load(), Requests: t.requests.Load(),
		Failures: t.failures.Load(),
	}
	since := mode.Report{
		Attempts: all.Attempts - t.last.Attempts, Firsts: all.Firsts - t.last.Firsts,
		Requests: all.Requests - t.last.Requests, Failures: all.Failures - t.last.Failures,
		Dependencies: map[string]mode.Demand{},
	}
	t.last = all
	for _, p := range t.pools {
		since.PoolWait = max(since.PoolWait, p.wait())
	}
	for _, h := range seen {
		if h.Dependency == jobqueue.QueueNotification {
			continue // what nobody waits for may saturate its places for as long as it likes
		}
		d := since.Dependencies[h.Dependency]
		since.Dependencies[h.Dependency] = mode.Demand{
			Wanted: d.Wanted + h.InFlight + h.Waiting, Places: d.Places + h.Limit,
		}
	}
	return since
}

// wait is how long a connection was waited for on average since the last report.
func (p *pooled) wait() time.Duration {
	s := p.pool.Stat()
	waited, acquired := s.AcquireDuration()-p.waited, s.AcquireCount()-p.acquired
	p.waited, p.acquired = s.AcquireDuration(), s.AcquireCount()
	if acquired == 0 {
		return 0
	}
	return waited / time.Duration(acquired)
}

// countedRequests counts the requests of an API in metrics and in the tally.
type countedRequests struct {
	*telemetry.Metrics

	tally *tally
}

// Request counts an answered request.
func (c countedRequests) Request(route, status string, took time.Duration) {
	c.tally.requests.Add(1)
	c.Metrics.Request(route, status, took)
}

// Failed counts one whose answer says that we could not, or do not know.
func (c countedRequests) Failed() {
	c.tally.failures.Add(1)
	c.Metrics.Failed()
}
