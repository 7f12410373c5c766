// Package bulkhead bounds how many callers use one dependency at once.
//
// A caller that finds no free place waits its turn, no longer than it said, and is then refused. Turns
// go by lane, lane 1 first, and within a lane first come first served. The number of places is the least
// of two limits: the cap that this process was given, perhaps until a moment only, and a limit below it
// that somebody adapts. Of that somebody may leave a share only. All of it can change while callers hold
// places: growing admits waiters at once, shrinking admits nobody until enough holders have finished. The
// package never cancels a holder, never adapts a limit by itself and does no I/O.
//
// Invariant: a caller is admitted only while fewer than the effective limit are in flight, and never
// once the permission to hold places has ended.
package bulkhead

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Lanes is how many lanes there are; the first is LaneFirst.
const (
	LaneFirst = 1
	Lanes     = 4
)

// maxWaiters bounds the queue of one bulkhead over all lanes; whoever comes later is refused at once.
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
	Waiting  int
	Cap      int // places that this process was given; 0 when the permission has ended
	Adaptive int // the adapted limit, 0 for none
	Limit    int // the effective limit: the share of the least of the two

	Admitted  uint64        // callers let in
	Queued    uint64        // callers let in after waiting
	Refused   uint64        // callers turned away with ErrFull
	Abandoned uint64        // callers whose context ended first
	WaitTotal time.Duration // time that queued callers spent waiting

	// FullSince is since when the demand, in flight and waiting, has been at least 90 % of the effective
	// limit, to the second. Zero when it was below in the last second.
	FullSince time.Time
}

// Bulkhead is a bounded number of places. Make it with New.
type Bulkhead struct {
	name string
	now  func() time.Time

	mu      sync.Mutex
	stats   Stats // Cap, Limit, Waiting and FullSince are filled in by Stats
	cap     int
	until   time.Time        // when the cap ends; zero for never
	share   float64          // of the limits, 0 to 1
	lanes   [Lanes]list.List // of *waiter, oldest first
	waiting int
	demand  meter
}

// Place is the right to use the dependency once. It is a value: acquiring one does not allocate.
type Place struct {
	InFlight int // on admission, this one included
	Limit    int // the effective limit on admission
	// Until is when the permission to hold places ended that the place was given out under; zero for never.
	// What its holder begins after that others do not know of.
	Until time.Time

	of *Bulkhead
}

// Release gives the place back. The caller calls it exactly once.
func (p Place) Release() { p.of.giveBack() }

type waiter struct {
	since time.Time
	lane  *list.List
	place Place         // set on admission; guarded by Bulkhead.mu until ready is closed
	ready chan struct{} // closed on admission
}

// New returns a bulkhead with limit places for ever and no adapted limit. A limit of zero or less admits
// nobody until SetLimit. The clock measures waits and judges when the permission ends.
func New(name string, limit int, now func() time.Time) *Bulkhead {
	b := &Bulkhead{name: name, now: now, cap: max(limit, 0), share: 1}
	b.stats.Name = name
	b.demand.start = now()
	return b
}

// Acquire takes a place, waiting at most maxWait for it; callers of a lower lane go first. A lane
// outside of LaneFirst to Lanes counts as the nearest. The error is a *FullError after the wait, or the
// context's error when that ends first.
func (b *Bulkhead) Acquire(ctx context.Context, maxWait time.Duration, lane int) (Place, error) {
	if err := ctx.Err(); err != nil {
		return Place{}, fmt.Errorf("bulkhead %s: %w", b.name, err)
	}
	b.mu.Lock()
	now := b.now()
	if limit := b.limit(now); b.waiting == 0 && b.stats.InFlight < limit {
		place := b.admit(limit)
		b.noteDemand(now)
		b.mu.Unlock()
		return place, nil
	}
	if maxWait <= 0 || b.waiting >= maxWaiters {
		defer b.mu.Unlock()
		return Place{}, b.refuse(now, 0)
	}
	w := &waiter{
		since: now, ready: make(chan struct{}), lane: &b.lanes[min(max(lane, LaneFirst), Lanes)-LaneFirst],
	}
	turn := w.lane.PushBack(w)
	b.waiting++
	b.noteDemand(now)
	b.mu.Unlock()

	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	select {
	case <-w.ready:
		return w.place, nil
	case <-timer.C:
		return b.leave(turn, nil)
	case <-ctx.Done():
		return b.leave(turn, ctx.Err())
	}
}

// limit is the effective limit at a moment; mu is held.
func (b *Bulkhead) limit(now time.Time) int {
	if !b.until.IsZero() && !now.Before(b.until) {
		return 0
	}
	limit := b.cap
	if b.stats.Adaptive > 0 {
		limit = min(limit, b.stats.Adaptive)
	}
	if limit == 0 || b.share == 1 { // a limit that is none may be too large for a product
		return limit
	}
	return max(1, int(float64(limit)*b.share))
}

// admit gives out a place; mu is held and there is room.
func (b *Bulkhead) admit(limit int) Place {
	b.stats.InFlight++
	b.stats.Admitted++
	return Place{InFlight: b.stats.InFlight, Limit: limit, Until: b.until, of: b}
}

// leave takes a waiter out of the queue. One that was admitted in the meantime keeps its place,
// so that no place is lost between admission and departure.
func (b *Bulkhead) leave(turn *list.Element, cause error) (Place, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w, _ := turn.Value.(*waiter)
	if w.place.of != nil {
		return w.place, nil
	}
	now := b.now()
	w.lane.Remove(turn)
	b.waiting--
	b.noteDemand(now)
	if cause != nil {
		b.stats.Abandoned++
		return Place{}, fmt.Errorf("bulkhead %s after waiting %v: %w", b.name, now.Sub(w.since), cause)
	}
	return Place{}, b.refuse(now, now.Sub(w.since))
}

// refuse counts and describes a refusal; mu is held.
func (b *Bulkhead) refuse(now time.Time, waited time.Duration) error {
	b.stats.Refused++
	return &FullError{
		Name: b.name, Waited: waited,
		InFlight: b.stats.InFlight, Limit: b.limit(now), Waiting: b.waiting,
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

// admitWaiters lets waiters in while there are places, those of the first lane first; mu is held.
func (b *Bulkhead) admitWaiters() {
	now := b.now()
	limit := b.limit(now)
	for b.waiting > 0 && b.stats.InFlight < limit {
		w := b.nextWaiter()
		b.stats.Queued++
		b.stats.WaitTotal += now.Sub(w.since)
		w.place = b.admit(limit)
		close(w.ready)
	}
	b.noteDemand(now)
}

// nextWaiter takes the oldest waiter of the first lane that has one; mu is held and somebody waits.
func (b *Bulkhead) nextWaiter() *waiter {
	for i := range b.lanes {
		if first := b.lanes[i].Front(); first != nil {
			w, _ := b.lanes[i].Remove(first).(*waiter)
			b.waiting--
			return w
		}
	}
	panic("bulkhead " + b.name + ": waiters are counted that no lane has")
}

// noteDemand is called wherever demand or limit change; mu is held.
func (b *Bulkhead) noteDemand(now time.Time) {
	b.demand.note(now, b.stats.InFlight+b.waiting, b.limit(now))
}

// SetLimit gives this process so many places from now on; below zero counts as zero. From until on
// nobody is admitted any more until a later SetLimit; a zero until is for ever. Holders keep their
// places, so in flight may exceed a smaller limit until they finish.
func (b *Bulkhead) SetLimit(limit int, until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cap, b.until = max(limit, 0), until
	b.admitWaiters()
}

// SetAdaptive limits the places below what SetLimit gave; zero or less is no such limit.
func (b *Bulkhead) SetAdaptive(limit int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stats.Adaptive = max(limit, 0)
	b.admitWaiters()
}

// SetShare leaves a share of the limits, at least one place where there is one. A share outside of 0 to 1
// counts as the nearest.
func (b *Bulkhead) SetShare(share float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.share = min(max(share, 0), 1)
	b.admitWaiters()
}

// Stats returns the counts of this moment.
func (b *Bulkhead) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	b.noteDemand(now)
	stats := b.stats
	stats.Limit, stats.Waiting, stats.FullSince = b.limit(now), b.waiting, b.demand.since
	if b.until.IsZero() || now.Before(b.until) {
		stats.Cap = b.cap
	}
	return stats
}
