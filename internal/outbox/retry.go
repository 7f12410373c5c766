package outbox

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/budget"
	"example.com/holdfast/internal/outbox/internal/outboxdb"
	"example.com/holdfast/internal/pgtx"
)

const (
	// brokenMax is how often the handling of a delivery may break before it is dead; the index of dead
	// deliveries names the same number.
	brokenMax = 5
	// parkedFor is when a dead delivery is looked at again: what it tells has happened, so it is never lost.
	parkedFor = time.Hour
	// retryGrain is the grain of retry times, so that the retries of a job share a wake-up.
	retryGrain = 50 * time.Millisecond
	// deadMaxRows bounds a page of DeadDeliveries.
	deadMaxRows = 200
)

// Failure is a delivery that could not be handled.
type Failure struct {
	Delivery Delivery
	// Broke says that the consumer's code is at fault. Otherwise it was held up, which counts against nobody.
	Broke bool
}

// wait is how long to wait before the next try. random gives numbers in [0, 1).
func (f Failure) wait(random func() float64) time.Duration {
	switch {
	case !f.Broke:
		return budget.Backoff(int(f.Delivery.Attempts)+1, random)
	case f.failures() < brokenMax:
		return budget.Backoff(int(f.failures()), random)
	}
	return parkedFor
}

// failures is how often the handling has broken by now.
func (f Failure) failures() int32 {
	if f.Broke {
		return f.Delivery.Failures + 1
	}
	return f.Delivery.Failures
}

// Retry sets the next try of deliveries that could not be handled, each with its job. A delivery that
// somebody else handled or tried meanwhile stays as it is.
func (s Subscription) Retry(
	ctx context.Context, pool *pgxpool.Pool, failed []Failure, random func() float64,
) error {
	failed = slices.SortedFunc(slices.Values(failed), func(a, b Failure) int {
		return compareRefs(a.Delivery.DeliveryRef, b.Delivery.DeliveryRef)
	})
	var now time.Time
	err := pgtx.Pipeline(ctx, pool, "retry deliveries",
		func(read *pgx.Batch) {
			pgtx.Read(read, func(r struct{ Now time.Time }) { now = r.Now }, "SELECT clock_timestamp()")
		},
		func(write *pgx.Batch) error {
			p := outboxdb.RetryDeliveriesParams{Consumer: s.Consumer}
			again := make([]Delivery, len(failed))
			refs := make([]DeliveryRef, len(failed))
			for i, f := range failed {
				d := f.Delivery
				d.WakeAt = now.Add(f.wait(random)).Truncate(retryGrain).Add(retryGrain)
				again[i], refs[i] = d, d.DeliveryRef
				p.FromAttempts = append(p.FromAttempts, d.Attempts)
				p.Failures, p.WakesAt = append(p.Failures, f.failures()), append(p.WakesAt, d.WakeAt)
			}
			p.Tenants, p.Aggregates, p.Seqs = columns(refs)
			if err := outboxdb.New().RetryDeliveries(ctx, pgtx.Into(write), p); err != nil {
				return err
			}
			return s.wake(write, again)
		})
	if err != nil {
		return fmt.Errorf("retry %d deliveries for %s: %w", len(failed), s.Consumer, err)
	}
	return nil
}

// Dead is a delivery whose handling breaks again and again.
type Dead struct {
	Consumer string
	Delivery
}

// DeadDeliveries reads the dead deliveries of all tenants and consumers, the latest event first. They are
// still looked at, so one that can be handled again goes by itself.
func DeadDeliveries(ctx context.Context, db outboxdb.DBTX, limit int) ([]Dead, error) {
	rows, err := outboxdb.New().SystemDeadDeliveries(ctx, db, int32(min(max(limit, 1), deadMaxRows)))
	if err != nil {
		return nil, fmt.Errorf("list dead deliveries: %w", err)
	}
	dead := make([]Dead, len(rows))
	for i, r := range rows {
		dead[i] = Dead{r.Consumer, fromRow(r)}
	}
	return dead, nil
}
