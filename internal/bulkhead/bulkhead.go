// Package bulkhead bounds how many callers use one dependency at once.
//
// A caller that finds no free place waits its turn, first come first served, no longer than it said,
// and is then refused. The limit can change while callers hold places: growing admits waiters at
// once, shrinking admits nobody until enough holders have finished. A limit can have an end, for one that
// is only lent; from then on nobody is admitted. The package never cancels a holder, never adapts the
// limit by itself and does no I/O.
//
// Invariant: a caller is admitted only while fewer than the limit are in flight and the limit has not ended.
package bulkhead

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// maxWaiters bounds the queue of one bulkhead; whoever comes later is refused at once.
const maxWaiters = 16_384

// ErrFull is what every refusal for want of a place matches with errors.Is.
var ErrFull = errors.New("bulkhead full")

// FullError is a refusal: nobody let the caller in within its wait.
type FullError struct {
	Name     string
	Waited   time.Duration
	InFlight int
	Limit    int
	Waiting  int
}

// Error names the bulkhead, the wait and the places.
func (e *FullError) Error() string {
	return fmt.Sprintf("bulkhead %s full after waiting %v (in flight %d, limit %d, waiting %d)",
		e.Name, e.Waited, e.InFlight, e.Limit, e.Waiting)
}

// Is makes every FullError match ErrFull.
func (e *FullError) Is(target error) bool { return target == ErrFull }

// Stats is a consistent snapshot of one bulkhead; the counters only grow.
type Stats struct {
	Name     string
	InFlight int
	Limit    int
	Waiting  int

	Admitted  uint64        // callers let in
	Queued    uint64        // callers let in after waiting
	Refused   uint64        // callers turned away with ErrFull
	Abandoned uint64        // callers whose context ended first
	WaitTotal time.Duration // time that queued callers spent waiting
}

// Bulkhead is a bounded number of places. Make it with New.
type Bulkhead struct {
	name    string
	now     func() time.Time
	release func() // one value for all callers, so that Acquire does not allocate

	mu      sync.Mutex
	stats   Stats
	until   time.Time // end of the limit; zero for none
	waiters list.List // of *waiter, oldest first
}

type waiter struct {
	since    time.Time
	admitted bool          // guarded by Bulkhead.mu
	ready    chan struct{} // closed on admission
}

// New returns a bulkhead with limit places. A limit of zero or less admits nobody until SetLimit.
// The clock measures waits and the end of a limit.
func New(name string, limit int, now func() time.Time) *Bulkhead {
	b := &Bulkhead{name: name, now: now, stats: Stats{Name: name, Limit: max(limit, 0)}}
	b.release = b.giveBack
	return b
}

// Acquire takes a place, waiting at most maxWait for it. The caller calls the returned release exactly once.
// The error is a *FullError after the wait, or the context's error when that ends first.
func (b *Bulkhead) Acquire(ctx context.Context, maxWait time.Duration) (func(), error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("bulkhead %s: %w", b.name, err)
	}
	b.mu.Lock()
	if b.waiters.Len() == 0 && b.hasPlace() {
		b.stats.InFlight++
		b.stats.Admitted++
		b.mu.Unlock()
		return b.release, nil
	}
	if maxWait <= 0 || b.waiters.Len() >= maxWaiters {
		defer b.mu.Unlock()
		return nil, b.refuse(0)
	}
	w := &waiter{since: b.now(), ready: make(chan struct{})}
	place := b.waiters.PushBack(w)
	b.mu.Unlock()

	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	select {
	case <-w.ready:
		return b.release, nil
	case <-timer.C:
		return b.leave(place, nil)
	case <-ctx.Done():
		return b.leave(place, ctx.Err())
	}
}

// leave takes a waiter out of the queue. One that was admitted in the meantime keeps its place,
// so that no place is lost between admission and departure.
func (b *Bulkhead) leave(place *list.Element, cause error) (func(), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w, _ := place.Value.(*waiter)
	if w.admitted {
		return b.release, nil
	}
	b.waiters.Remove(place)
	if cause != nil {
		b.stats.Abandoned++
		return nil, fmt.Errorf("bulkhead %s after waiting %v: %w", b.name, b.now().Sub(w.since), cause)
	}
	return nil, b.refuse(b.now().Sub(w.since))
}

// refuse counts and describes a refusal; mu is held.
func (b *Bulkhead) refuse(waited time.Duration) error {
	b.stats.Refused++
	return &FullError{
		Name: b.name, Waited: waited,
		InFlight: b.stats.InFlight, Limit: b.stats.Limit, Waiting: b.waiters.Len(),
	}
}

func (b *Bulkhead) giveBack() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stats.InFlight == 0 {
		panic("bulkhead " + b.name + ": release without acquire")
	}
	b.stats.InFlight--
	b.admitWaiters()
}

// admitWaiters lets the oldest waiters in while there are places; mu is held.
func (b *Bulkhead) admitWaiters() {
	for b.waiters.Len() > 0 && b.hasPlace() {
		w, _ := b.waiters.Remove(b.waiters.Front()).(*waiter)
		w.admitted = true
		b.stats.InFlight++
		b.stats.Admitted++
		b.stats.Queued++
		b.stats.WaitTotal += b.now().Sub(w.since)
		close(w.ready)
	}
}

// hasPlace says whether one more may come in now; mu is held.
func (b *Bulkhead) hasPlace() bool {
	return b.stats.InFlight < b.stats.Limit && (b.until.IsZero() || b.now().Before(b.until))
}

// SetLimit changes the number of places from now on; below zero counts as zero. Holders keep
// theirs, so in flight may exceed a smaller limit until they finish. From until on nobody is admitted;
// the zero time is no end. Waiters do not notice the end by themselves: they wait for a later SetLimit,
// no longer than they said.
func (b *Bulkhead) SetLimit(limit int, until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stats.Limit, b.until = max(limit, 0), until
	b.admitWaiters()
}

// Stats returns the counts of this moment.
func (b *Bulkhead) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	stats := b.stats
	stats.Waiting = b.waiters.Len()
	return stats
}
