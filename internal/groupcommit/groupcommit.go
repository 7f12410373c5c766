// Package groupcommit turns concurrent calls into batches: while one transaction is in flight the
// next batch gathers, one transaction commits the batch, and each caller gets its own outcome.
//
// It refuses to wait for a batch to fill, to queue without a bound (a full queue answers ErrFull at
// once) and to know what an item is.
//
// Invariant: an item is handed to flush by one flight at a time, and every item that was taken gets
// exactly one answer. An item that fails alone never fails its neighbours: when a batch fails for a
// reason that one item can cause, every item is done again by itself.
package groupcommit

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// The errors of a combiner that did not take an item: nothing happened to it.
var (
	ErrFull    = errors.New("group commit: queue is full")
	ErrStopped = errors.New("group commit: stopped")
)

// Flush does a batch in one transaction and returns an outcome per item, in the same order. An
// error means that nothing of the batch is known to have happened.
type Flush[Item, Outcome any] func(ctx context.Context, items []Item) ([]Outcome, error)

// Config says how a combiner works. Every number has to be positive.
type Config struct {
	Name string
	// BatchMax is the largest batch, in items.
	BatchMax int
	// QueueMax is how many items may wait, in items.
	QueueMax int
	// Flights is how many batches may be in flight at once.
	Flights int
	// Attempts is how often a batch is tried as a whole while Again says so.
	Attempts int
	// Again says whether the same batch may succeed when it is done again at once.
	Again func(error) bool
	// Alone says whether one item of the batch may have caused the error.
	Alone func(error) bool
	// Observe is told the size of each batch that was committed; nil is allowed.
	Observe func(size int)
}

type call[Item, Outcome any] struct {
	item Item
	done chan answer[Outcome]
}

type answer[Outcome any] struct {
	outcome Outcome
	err     error
}

// Combiner hands batches of items to a Flush. It works between Start and Stop.
type Combiner[Item, Outcome any] struct {
	cfg   Config
	flush Flush[Item, Outcome]
	queue chan call[Item, Outcome]
	stop  chan struct{}
	group sync.WaitGroup
}

// New makes a combiner that is not started yet.
func New[Item, Outcome any](cfg Config, flush Flush[Item, Outcome]) *Combiner[Item, Outcome] {
	return &Combiner[Item, Outcome]{
		cfg: cfg, flush: flush,
		queue: make(chan call[Item, Outcome], cfg.QueueMax),
		stop:  make(chan struct{}),
	}
}

// Start begins to take items. The context carries values only: a batch belongs to many callers, so
// no single caller's deadline ends it.
func (c *Combiner[Item, Outcome]) Start(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	for range c.cfg.Flights {
		c.group.Go(func() { c.fly(ctx) })
	}
}

// Stop finishes the batches in flight, refuses what still waits with ErrStopped, and returns. No Do
// may begin after it.
func (c *Combiner[Item, Outcome]) Stop() {
	close(c.stop)
	c.group.Wait()
}

// Do hands in one item and waits for its outcome. A caller whose context ends leaves with the
// context's error; its item has one definite outcome all the same.
func (c *Combiner[Item, Outcome]) Do(ctx context.Context, item Item) (Outcome, error) {
	var none Outcome
	it := call[Item, Outcome]{item: item, done: make(chan answer[Outcome], 1)}
	select {
	case <-c.stop:
		return none, ErrStopped
	case c.queue <- it:
	default:
		return none, fmt.Errorf("%s: %w", c.cfg.Name, ErrFull)
	}
	select {
	case a := <-it.done:
		return a.outcome, a.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// fly gathers what is waiting, flushes it, and begins again.
func (c *Combiner[Item, Outcome]) fly(ctx context.Context) {
	batch := make([]call[Item, Outcome], 0, c.cfg.BatchMax)
	for {
		select {
		case first := <-c.queue:
			batch = append(batch[:0], first)
		case <-c.stop:
			c.drain()
			return
		}
		batch = c.gather(batch)
		c.commit(ctx, batch)
		clear(batch)
	}
}

func (c *Combiner[Item, Outcome]) gather(batch []call[Item, Outcome]) []call[Item, Outcome] {
	for len(batch) < c.cfg.BatchMax {
		select {
		case it := <-c.queue:
			batch = append(batch, it)
		default:
			return batch
		}
	}
	return batch
}

// commit answers every call of the batch.
func (c *Combiner[Item, Outcome]) commit(ctx context.Context, batch []call[Item, Outcome]) {
	outcomes, err := c.try(ctx, batch)
	if err != nil && len(batch) > 1 && c.cfg.Alone(err) {
		for i := range batch {
			c.commit(ctx, batch[i:i+1])
		}
		return
	}
	for i, it := range batch {
		if err != nil {
			it.done <- answer[Outcome]{err: err}
		} else {
			it.done <- answer[Outcome]{outcome: outcomes[i]}
		}
	}
	if err == nil && c.cfg.Observe != nil {
		c.cfg.Observe(len(batch))
	}
}

// try flushes the batch as a whole, again while that may help.
func (c *Combiner[Item, Outcome]) try(ctx context.Context, batch []call[Item, Outcome]) ([]Outcome, error) {
	items := make([]Item, len(batch))
	for i := range batch {
		items[i] = batch[i].item
	}
	var err error
	for range c.cfg.Attempts {
		var outcomes []Outcome
		outcomes, err = c.flush(ctx, items)
		if err == nil && len(outcomes) != len(items) {
			return nil, fmt.Errorf("%s: %d outcomes for %d items", c.cfg.Name, len(outcomes), len(items))
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

// drain refuses what came in while the combiner stopped.
func (c *Combiner[Item, Outcome]) drain() {
	for {
		select {
		case it := <-c.queue:
			it.done <- answer[Outcome]{err: ErrStopped}
		default:
			return
		}
	}
}
