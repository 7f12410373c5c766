// Package jobqueue wakes work up: it puts jobs into River's table, watches over the workers that
// claim them, and tells how old the waiting work is.
//
// A job is only a wake-up. The package refuses to carry decisions, deadlines or attempts in jobs:
// they stand in the rows that a job names, so losing, doubling or reordering jobs changes nothing.
// River's own retries are not used for business work.
//
// Invariant: a job's scheduled time is the wake-up time of the rows that it names, so a row that is
// older than the oldest live job of its queue has lost its job (see OldestLive).
package jobqueue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// The queues: one per dependency, so that a slow one fills its own queue only.
const (
	QueueRisk         = "risk_api"
	QueueNotification = "notification_api"
	QueueDB           = "db"
)

// maxAttempts is what River may do with a job that cannot even be decoded. Business attempts are
// counted in rows.
const maxAttempts = 3

// notifyChannel is where River's clients listen for new jobs, after the schema and a dot.
const notifyChannel = "river_insert"

// Job is a wake-up at a time.
type Job struct {
	Queue string
	Kind  string
	Args  any
	// At is when the job is due, by Postgres's clock.
	At time.Time
}

// insertJobs puts jobs where River fetches them. A job that is due later is available too: River's
// fetch compares scheduled_at with Postgres's now, while its scheduler would compare with its own
// clock, every five seconds. One notification per queue wakes the fetchers of what a client waits for.
const insertJobs = `
WITH added AS (
    INSERT INTO river_job (args, kind, max_attempts, queue, state, scheduled_at)
    SELECT u.args, u.kind, $5, u.queue, 'available', u.at
      FROM (SELECT unnest($1::jsonb[]) AS args, unnest($2::text[]) AS kind,
                   unnest($3::text[]) AS queue, unnest($4::timestamptz[]) AS at) AS u
    RETURNING queue, scheduled_at
)
SELECT pg_notify(current_schema() || '.' || $6, json_build_object('queue', queue)::text)
  FROM (SELECT DISTINCT queue FROM added WHERE scheduled_at <= clock_timestamp() AND queue <> $7) AS due`

// Enqueue queues the insert of jobs into a batch.
func Enqueue(write *pgx.Batch, jobs []Job) error {
	if len(jobs) == 0 {
		return nil
	}
	args, kinds := make([][]byte, len(jobs)), make([]string, len(jobs))
	queues, at := make([]string, len(jobs)), make([]time.Time, len(jobs))
	for i, j := range jobs {
		encoded, err := json.Marshal(j.Args)
		if err != nil {
			return fmt.Errorf("encode job %s: %w", j.Kind, err)
		}
		args[i], kinds[i], queues[i], at[i] = encoded, j.Kind, j.Queue, j.At
	}
	write.Queue(insertJobs, args, kinds, queues, at, maxAttempts, notifyChannel, QueueNotification)
	return nil
}

// Querier is what reading one row takes.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

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
	return oldest(ctx, db, queue, []string{"available", "running", "retryable", "scheduled", "pending"})
}

// ReadyAge is how long the oldest due job of a queue has waited for a worker, by Postgres's clock;
// zero if none waits.
func ReadyAge(ctx context.Context, db Querier, queue string) (time.Duration, error) {
	at, ok, err := oldest(ctx, db, queue, []string{"available"})
	if err != nil || !ok {
		return 0, err
	}
	var age float64
	if err := db.QueryRow(ctx, "SELECT extract(epoch FROM clock_timestamp() - $1::timestamptz)::float8", at).
		Scan(&age); err != nil {
		return 0, fmt.Errorf("read age of queue %s: %w", queue, err)
	}
	return max(0, time.Duration(age*float64(time.Second))), nil
}

func oldest(ctx context.Context, db Querier, queue string, states []string) (time.Time, bool, error) {
	var at time.Time
	err := db.QueryRow(ctx, oldestLive, queue, states).Scan(&at)
	if errors.Is(err, pgx.ErrNoRows) {
		return time.Time{}, false, nil
	}
	if err != nil {
		return time.Time{}, false, fmt.Errorf("read oldest job of queue %s: %w", queue, err)
	}
	return at, true, nil
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
