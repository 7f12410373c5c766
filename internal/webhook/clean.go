package webhook

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/webhook/internal/webhookdb"
)

const (
	// attemptsKept is how long the log of attempts goes back.
	attemptsKept = 7 * 24 * time.Hour
	// cleanRows bounds one statement, cleanPages how many there are in one CleanUp.
	cleanRows  = 1_000
	cleanPages = 100
)

// CleanUp forgets old attempts, and moves the places of endpoints that have had nothing to do for long, so
// that a place that the log has forgotten means lost events. It says how many rows it changed; it is called
// now and then, at least once a day.
func CleanUp(ctx context.Context, pool *pgxpool.Pool) (int, error) {
	q, changed := webhookdb.New(), 0
	for range cleanPages {
		n, err := q.SystemForgetAttempts(ctx, pool, webhookdb.SystemForgetAttemptsParams{
			Keep: pgtx.Interval(attemptsKept), BatchSize: cleanRows,
		})
		if err != nil {
			return changed, fmt.Errorf("forget webhook attempts: %w", err)
		}
		changed += int(n)
		if n < cleanRows {
			break
		}
	}
	after := uuid.Nil
	for range cleanPages {
		rows, err := q.SystemMovePlaces(ctx, pool, webhookdb.SystemMovePlacesParams{
			After: after, PageSize: cleanRows,
		})
		if err != nil {
			return changed, fmt.Errorf("move places of webhook endpoints: %w", err)
		}
		for _, row := range rows {
			after = row.ID
			if row.Moved {
				changed++
			}
		}
		if len(rows) < cleanRows {
			break
		}
	}
	return changed, nil
}

// Release lets others take the endpoints that holders have who are dead, before their leases end. A holder
// that only slept is as one whose lease has ended: what it still sends are repeats.
func Release(ctx context.Context, pool *pgxpool.Pool, holders []string) error {
	if err := webhookdb.New().SystemReleaseEndpoints(ctx, pool, holders); err != nil {
		return fmt.Errorf("release endpoints of %d holders: %w", len(holders), err)
	}
	return nil
}
