package outbox

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/outbox/internal/outboxdb"
	"example.com/holdfast/internal/pgtx"
)

const (
	// LogPageMax bounds a page of the log.
	LogPageMax = 500
	// logKept is how long the log keeps an event, which is how long a reader may be away. The events
	// themselves are kept for ever.
	logKept = 30 * 24 * time.Hour
	// forgetBatchRows bounds one transaction of Forget, and forgetRoundsMax how many of them there are.
	forgetBatchRows = 1_000
	forgetRoundsMax = 50
)

// Logged is an event with its place in the log.
type Logged struct {
	// Place counts all events of the log, from 1. Those of one aggregate have places in the order of their
	// seq, and a place that is visible has no later one before it: reading on from the last place that one
	// has read misses nothing.
	Place int64
	Event
}

// ReadLog reads a tenant's events behind a place, in the order of their places. A page that is shorter than
// limit is the last one for now.
func ReadLog(
	ctx context.Context, db outboxdb.DBTX, tenantID uuid.UUID, after int64, limit int,
) ([]Logged, error) {
	rows, err := outboxdb.New().ReadLog(ctx, db, outboxdb.ReadLogParams{
		TenantID: tenantID, After: after, PageSize: logPage(limit),
	})
	if err != nil {
		return nil, fmt.Errorf("read log of tenant %s after %d: %w", tenantID, after, err)
	}
	events := make([]Logged, len(rows))
	for i, r := range rows {
		events[i] = fromLog(outboxdb.SystemReadLogRow(r))
	}
	return events, nil
}

// ReadWholeLog is ReadLog for the events of all tenants.
func ReadWholeLog(ctx context.Context, db outboxdb.DBTX, after int64, limit int) ([]Logged, error) {
	rows, err := outboxdb.New().SystemReadLog(ctx, db, outboxdb.SystemReadLogParams{
		After: after, PageSize: logPage(limit),
	})
	if err != nil {
		return nil, fmt.Errorf("read log after %d: %w", after, err)
	}
	events := make([]Logged, len(rows))
	for i, r := range rows {
		events[i] = fromLog(r)
	}
	return events, nil
}

func logPage(limit int) int32 { return int32(min(max(limit, 1), LogPageMax)) }

func fromLog(r outboxdb.SystemReadLogRow) Logged {
	return Logged{r.Place, Event{
		TenantID: r.TenantID, AggregateID: r.AggregateID, Seq: r.Seq, Type: r.Type,
		From: pgtx.OrZero(r.FromState), To: r.ToState, Reason: pgtx.OrZero(r.Reason), Actor: r.Actor,
		Cause: pgtx.OrZero(r.Cause), Trace: pgtx.OrZero(r.Trace), Data: r.Data, At: r.At,
	}}
}

// Extent says which places the log has: those after Forgotten, up to Last.
type Extent struct{ Forgotten, Last int64 }

// ReadExtent reads which places the log has.
func ReadExtent(ctx context.Context, db outboxdb.DBTX) (Extent, error) {
	row, err := outboxdb.New().SystemReadHead(ctx, db)
	if err != nil {
		return Extent{}, fmt.Errorf("read head of the log: %w", err)
	}
	return Extent{row.Forgotten, row.Last}, nil
}

// Forget deletes from the log, oldest first, what it has kept for long enough. It returns how many rows it
// deleted, at most forgetBatchRows times forgetRoundsMax.
func Forget(ctx context.Context, pool *pgxpool.Pool) (int, error) {
	total := 0
	for range forgetRoundsMax {
		gone, err := forgetBatch(ctx, pool)
		total += gone
		if err != nil || gone < forgetBatchRows {
			return total, err
		}
	}
	return total, nil
}

func forgetBatch(ctx context.Context, pool *pgxpool.Pool) (int, error) {
	var gone int32
	err := pgtx.Run(ctx, pool, "forget log", func(ctx context.Context, tx pgx.Tx) error {
		var err error
		gone, err = outboxdb.New().SystemForgetLog(ctx, tx, outboxdb.SystemForgetLogParams{
			Keep: pgtx.Interval(logKept), BatchSize: forgetBatchRows,
		})
		return err
	})
	return int(gone), err
}
