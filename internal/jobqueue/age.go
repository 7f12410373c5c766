package jobqueue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// oldestLive probes River's fetching index once per state and priority: an aggregate over the table
// would read all of it.
const oldestLive = `
SELECT min(probe.scheduled_at)
  FROM unnest($2::river_job_state[]) AS s (state)
 CROSS JOIN generate_series(1, 4) AS p (priority)
 CROSS JOIN LATERAL (
       SELECT j.scheduled_at FROM river_job j
        WHERE j.state = s.state AND j.queue = $1 AND j.priority = p.priority
        ORDER BY j.scheduled_at LIMIT 1) AS probe
HAVING min(probe.scheduled_at) IS NOT NULL`

// OldestLive is the scheduled time of the oldest job of a queue that waits or runs, or false if there
// is none. Rows that were due before it have no job.
func OldestLive(ctx context.Context, db Querier, queue string) (time.Time, bool, error) {
	live := []string{"available", "running", "retryable", "scheduled", "pending"}
	var at time.Time
	err := db.QueryRow(ctx, oldestLive, queue, live).Scan(&at)
	if errors.Is(err, pgx.ErrNoRows) {
		return time.Time{}, false, nil
	}
	if err != nil {
		return time.Time{}, false, fmt.Errorf("read oldest job of queue %s: %w", queue, err)
	}
	return at, true, nil
}

// readyAges probes River's fetching index once per lane, as oldestLive does.
const readyAges = `
SELECT array_agg(coalesce(greatest(0, extract(epoch FROM clock_timestamp() - probe.scheduled_at)), 0)::float8
                 ORDER BY lane.n)
  FROM generate_series(1, $2) AS lane (n)
  LEFT JOIN LATERAL (
       SELECT j.scheduled_at FROM river_job j
        WHERE j.state = 'available' AND j.queue = $1 AND j.priority = lane.n
        ORDER BY j.scheduled_at LIMIT 1) AS probe ON true`

// ReadyAges is for each lane of a queue how long its oldest due job has waited for a worker, by
// Postgres's clock; zero if none waits. Lane 1 comes first.
func ReadyAges(ctx context.Context, db Querier, queue string) ([Lanes]time.Duration, error) {
	var seconds []float64
	if err := db.QueryRow(ctx, readyAges, queue, Lanes).Scan(&seconds); err != nil {
		return [Lanes]time.Duration{}, fmt.Errorf("read ages of queue %s: %w", queue, err)
	}
	var ages [Lanes]time.Duration
	for i, s := range seconds {
		ages[i] = time.Duration(s * float64(time.Second))
	}
	return ages, nil
}

// ReadyAge is the largest of a queue's ReadyAges.
func ReadyAge(ctx context.Context, db Querier, queue string) (time.Duration, error) {
	ages, err := ReadyAges(ctx, db, queue)
	return slices.Max(ages[:]), err
}

// Horizon is the time before which due rows of a queue have no live job, by Postgres's clock, and at
// least grace ago. It makes the transaction REPEATABLE READ, so it has to come first in it: a row and the
// job that was committed with it are then seen together or not at all.
func Horizon(ctx context.Context, tx Querier, queue string, grace time.Duration) (time.Time, error) {
	var horizon time.Time
	if _, err := tx.Exec(ctx, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"); err != nil {
		return horizon, fmt.Errorf("set isolation: %w", err)
	}
	oldest, live, err := OldestLive(ctx, tx, queue)
	if err != nil {
		return horizon, err
	}
	if err := tx.QueryRow(ctx, "SELECT clock_timestamp() - make_interval(secs => $1)", grace.Seconds()).
		Scan(&horizon); err != nil {
		return horizon, fmt.Errorf("read time: %w", err)
	}
	if live && oldest.Before(horizon) {
		horizon = oldest
	}
	return horizon, nil
}
