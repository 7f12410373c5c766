// Package groupcommit turns concurrent calls into batches: while one transaction is in flight the
// next batch gathers, one transaction commits the batch, and each caller gets its own outcome.
//
// It refuses to wait for a batch to fill, to queue without a bound in items and, where there is a WaitMax, in
// time (ErrFull and ErrLate come at once), and to know what an item is.
//
// Invariant: an item is handed to flush by one flight at a time, and every item that was taken gets
// exactly one answer, even if flush panics; where Drop says so, one whose caller left before its flight began
// is not done and gets none. An item that fails alone never fails its neighbours: a batch that fails for a
// reason that one item can cause is split until that item is by itself.
package groupcommit

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"example.com/holdfast/internal/tracing"
)

// The errors of a combiner that did not take an item: nothing happened to it.
var (
	ErrFull    = errors.New("group commit: queue is full")
	ErrStopped = errors.New("group commit: stopped")
	// ErrLate is ErrFull by time: what waits already would take longer than WaitMax.
	ErrLate = fmt.Errorf("%w: the wait would be too long", ErrFull)
)

// Flush does a batch in one transaction and returns an outcome per item, in the same order. An
// error means that nothing of the batch is known to have happened. It bounds its own time, and it does
// an item that it is handed again only once. The slice is its own.
type Flush[Item, Outcome any] func(ctx context.Context, items []Item) ([]Outcome, error)

// PanicError is what a caller gets whose item made flush panic.
type PanicError struct {
	// Value is what flush panicked with.
	Value any
	// Stack is where it did.
	Stack []byte
}

// Error names the value; the stack is for logs.
func (e *PanicError) Error() string { return fmt.Sprintf("flush panicked: %v", e.Value) }

// Config says how a combiner works. Every number but WaitMax has to be positive; Again and Alone are needed.
type Config struct {
	Name string
	// BatchMax is the largest batch, in items.
	BatchMax int
	// QueueMax is how many items may wait, in items.
	QueueMax int
	// WaitMax is the longest that an item may be expected to wait for its flight; one that would wait longer,
	// or end after its caller's deadline, is refused with ErrLate. Zero is no bound: what ends work is never
	// refused for its wait.
	WaitMax time.Duration
	// Now is the clock that WaitMax goes by; without one it is not needed.
	Now func() time.Time
	// Drop says that an item whose caller has left before its flight began is not done: nothing happens to
	// it. So a flight that was held up is followed by those who still wait, and not by those who have gone.
	Drop bool
	// Flights is how many batches may be in flight at once.
	Flights int
	// Attempts is how often a batch is tried as a whole while Again says so.
	Attempts int
	// Again says whether the same batch may succeed when it is done again at once.
	Again func(error) bool
	// Alone says whether one item of the batch may have caused the error. A panic always may.
	Alone func(error) bool
	// Observe is told the size of each batch that was committed; nil is allowed.
	Observe func(size int)
}

type call[Item, Outcome any] struct {
	item Item
	done chan answer[Outcome]
	// left is closed when the caller leaves; nil where the item is done all the same.
	left <-chan struct{}
	// trace is the traceparent of the caller's wait, or "".
	trace string
}

type answer[Outcome any] struct {
	outcome Outcome
	err     error
	// batch is the traceparent of the batch that the answer is of, or "".
	batch string
}

// Combiner hands batches of items to a Flush. It works between Start and Stop.
type Combiner[Item, Outcome any] struct {
	cfg     Config
	flush   Flush[Item, Outcome]
	queue   chan call[Item, Outcome]
	pace    *pace // nil where nobody asks
	flights sync.WaitGroup
	refuse  sync.Once
	ended   sync.Once
	stop    chan struct{} // closed when no further batch may begin
	stopped chan struct{} // closed when no answer can come any more

	// waits and commits name the spans of a caller and of a batch.
	waits, commits string
}

// New makes a combiner that is not started yet. It panics if cfg is not complete, since that is a
// mistake of the program and not of a run.
func New[Item, Outcome any](cfg Config, flush Flush[Item, Outcome]) *Combiner[Item, Outcome] {
	smallest := min(cfg.BatchMax, cfg.QueueMax, cfg.Flights, cfg.Attempts)
	if smallest < 1 || cfg.Again == nil || cfg.Alone == nil ||
		cfg.WaitMax < 0 || cfg.WaitMax > 0 && cfg.Now == nil {
		panic(fmt.Sprintf("group commit %s: incomplete config", cfg.Name))
	}
	c := &Combiner[Item, Outcome]{
		cfg: cfg, flush: flush, waits: "wait for " + cfg.Name, commits: "commit " + cfg.Name,
		queue:   make(chan call[Item, Outcome], cfg.QueueMax),
		stop:    make(chan struct{}),
		stopped: make(chan struct{}),
	}
	if cfg.WaitMax > 0 {
		c.pace = &pace{begun: make([]time.Time, cfg.Flights)}
	}
	return c
}

// Start begins to take items, once. The context carries values only: a batch belongs to many callers, so
// no single caller's deadline ends it.
func (c *Combiner[Item, Outcome]) Start(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	for flight := range c.cfg.Flights {
		c.flights.Go(func() { c.fly(ctx, flight) })
	}
}

// Stop finishes the batches in flight, refuses what still waits and what comes later with ErrStopped,
// and returns. It may be called more than once.
func (c *Combiner[Item, Outcome]) Stop() {
	c.refuse.Do(func() { close(c.stop) })
	c.flights.Wait()
	c.ended.Do(func() { close(c.stopped) })
}

// Do hands in one item and waits for its outcome. A caller whose context ends leaves with the
// context's error; its item has one definite outcome all the same, or was dropped and has none.
func (c *Combiner[Item, Outcome]) Do(ctx context.Context, item Item) (Outcome, error) {
	ctx, span := tracing.Start(ctx, tracing.Internal, c.waits)
	a := c.wait(ctx, item, span.Parent())
	span.Link(a.batch)
	span.End(a.err)
	return a.outcome, a.err
}

func (c *Combiner[Item, Outcome]) wait(ctx context.Context, item Item, trace string) answer[Outcome] {
	if err := ctx.Err(); err != nil {
		return answer[Outcome]{err: fmt.Errorf("%s: not taken: %w", c.cfg.Name, err)}
	}
	if c.stopping() {
		return answer[Outcome]{err: fmt.Errorf("%s: %w", c.cfg.Name, ErrStopped)}
	}
	if c.late(ctx) {
		return answer[Outcome]{err: fmt.Errorf("%s: %w", c.cfg.Name, ErrLate)}
	}
	it := call[Item, Outcome]{item: item, done: make(chan answer[Outcome], 1), trace: trace}
	if c.cfg.Drop {
		it.left = ctx.Done()
	}
	select {
	case c.queue <- it:
	default:
		return answer[Outcome]{err: fmt.Errorf("%s: %w", c.cfg.Name, ErrFull)}
	}
	select {
	case a := <-it.done:
		return a
	case <-ctx.Done():
		return it.outcomeOr(fmt.Errorf("%s: %w", c.cfg.Name, ctx.Err()))
	case <-c.stopped:
		return it.outcomeOr(fmt.Errorf("%s: %w", c.cfg.Name, ErrStopped))
	}
}

// late says whether an item that comes now would begin too late, or end when its caller has left.
func (c *Combiner[Item, Outcome]) late(ctx context.Context) bool {
	if c.pace == nil {
		return false
	}
	now := c.cfg.Now()
	begins, ends := c.pace.forecast(now, len(c.queue)/c.cfg.BatchMax)
	deadline, limited := ctx.Deadline()
	return begins > c.cfg.WaitMax || limited && ends > deadline.Sub(now)
}

// dropped says that the caller has left an item that is not done then. The caller goes by its own context: it
// needs no answer.
func (it call[Item, Outcome]) dropped() bool {
	select {
	case <-it.left:
		return true
	default:
		return false
	}
}

// outcomeOr prefers an answer that came at the same time as the reason to leave.
func (it call[Item, Outcome]) outcomeOr(err error) answer[Outcome] {
	select {
	case a := <-it.done:
		return a
	default:
		return answer[Outcome]{err: err}
	}
}

// fly gathers what is waiting, flushes it, and begins again.
func (c *Combiner[Item, Outcome]) fly(ctx context.Context, flight int) {
	batch := make([]call[Item, Outcome], 0, c.cfg.BatchMax)
	for !c.stopping() {
		select {
		case first := <-c.queue:
			if first.dropped() {
				continue
			}
			if c.pace != nil {
				c.pace.begin(flight, c.cfg.Now())
			}
			batch = c.gather(append(batch, first))
			c.commit(ctx, batch)
			if c.pace != nil {
				c.pace.end(flight, c.cfg.Now())
			}
			clear(batch)
			batch = batch[:0]
		case <-c.stop:
			return
		}
	}
}

// stopping comes before the queue: a select alone would go on with either.
func (c *Combiner[Item, Outcome]) stopping() bool {
	select {
	case <-c.stop:
		return true
	default:
		return false
	}
}

func (c *Combiner[Item, Outcome]) gather(batch []call[Item, Outcome]) []call[Item, Outcome] {
	for len(batch) < c.cfg.BatchMax {
		select {
		case it := <-c.queue:
			if !it.dropped() {
				batch = append(batch, it)
			}
		default:
			return batch
		}
	}
	return batch
}

// splitParts is into how many parts a batch is split that fails. Two would find a bad item in the fewest
// flushes, but an item that waits for a lock makes every part wait that it is in; single items would let
// one client cost all others a flush each. Sixteen is two levels for a batch of 256.
const splitParts = 16

// commit answers every call of the batch.
func (c *Combiner[Item, Outcome]) commit(ctx context.Context, batch []call[Item, Outcome]) {
	ctx, span := tracing.Share(ctx, tracing.Internal, c.commits, traces(batch))
	span.Int("holdfast.items", len(batch))
	trace := span.Parent()
	outcomes, err := c.try(ctx, batch)
	span.End(err)
	if err != nil && len(batch) > 1 && c.alone(err) {
		size := (len(batch) + splitParts - 1) / splitParts
		for part := range slices.Chunk(batch, size) {
			c.commit(tracing.Without(ctx), part)
		}
		return
	}
	for i, it := range batch {
		if err != nil {
			it.done <- answer[Outcome]{err: err, batch: trace}
		} else {
			it.done <- answer[Outcome]{outcome: outcomes[i], batch: trace}
		}
	}
	if err == nil && c.cfg.Observe != nil {
		c.cfg.Observe(len(batch))
	}
}

// traces are those of the callers of a batch that are traced.
func traces[Item, Outcome any](batch []call[Item, Outcome]) []string {
	var all []string
	for _, it := range batch {
		if it.trace != "" {
			all = append(all, it.trace)
		}
	}
	return all
}

func (c *Combiner[Item, Outcome]) alone(err error) bool {
	_, panicked := errors.AsType[*PanicError](err)
	return panicked || c.cfg.Alone(err)
}

// try flushes the batch as a whole, again while that may help.
func (c *Combiner[Item, Outcome]) try(ctx context.Context, batch []call[Item, Outcome]) ([]Outcome, error) {
	var err error
	for range c.cfg.Attempts {
		items := make([]Item, len(batch))
		for i := range batch {
			items[i] = batch[i].item
		}
		var outcomes []Outcome
		outcomes, err = c.flushOnce(ctx, items)
		if err == nil && len(outcomes) != len(batch) {
			return nil, fmt.Errorf("%s: %d outcomes for %d items", c.cfg.Name, len(outcomes), len(batch))
		}
		if err == nil {
			return outcomes, nil
		}
		if !c.cfg.Again(err) {
			break
		}
	}
	return nil, err
}

// flushOnce turns a panic into an error: callers wait for an answer, and other flights go on.
func (c *Combiner[Item, Outcome]) flushOnce(ctx context.Context, items []Item) ([]Outcome, error) {
	var outcomes []Outcome
	var err error
	func() {
		defer func() {
			if value := recover(); value != nil {
				err = fmt.Errorf("%s: %w", c.cfg.Name, &PanicError{Value: value, Stack: debug.Stack()})
			}
		}()
		outcomes, err = c.flush(ctx, items)
	}()
	return outcomes, err
}
