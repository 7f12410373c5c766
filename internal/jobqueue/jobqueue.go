// Package jobqueue wakes work up: it puts jobs into River's table, watches over the workers that
// claim them, and tells how old the waiting work is.
//
// A job is only a wake-up. The package refuses to carry decisions, deadlines or attempts in jobs:
// they stand in the rows that a job names, so losing, doubling or reordering jobs changes nothing.
// River's own retries are not used: what failed comes again, or is laid aside, by our SQL and Postgres's
// clock.
//
// Invariant: a job's scheduled time is the wake-up time of the rows that it names, so a row that is
// older than the oldest live job of its queue has lost its job (see OldestLive).
package jobqueue

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// The queues: one per dependency, so that a slow one fills its own queue only.
const (
	QueueRisk         = "risk_api"
	QueuePayout       = "payout_rail"
	QueueNotification = "notification_api"
	QueueDB           = "db"
)

// Queues lists every queue.
func Queues() []string { return []string{QueueRisk, QueuePayout, QueueNotification, QueueDB} }

// maxAttempts is how often a job is tried that nobody can work. Business attempts are counted in rows.
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
	// Lane is the job's place among those of its queue: 1 is fetched first and Lanes last, each in the
	// order of At. Zero counts as 1.
	Lane int
	// Again says that calls of the job may have been made without record, so that its worker asks before
	// it sends: it finds the job tried before.
	Again bool
	// Traces are those of the job's rows.
	Traces Traces
}

// Lanes is how many lanes a queue has. It is the number of River's priorities.
const Lanes = 4

// lane is the priority that River knows, or an error for a lane that is none.
func (j Job) lane() (int16, error) {
	if j.Lane < 0 || j.Lane > Lanes {
		return 0, fmt.Errorf("job %s: lane %d is none of 1 to %d", j.Kind, j.Lane, Lanes)
	}
	return int16(max(1, j.Lane)), nil
}

// tried is how often a job counts as tried before its first worker has it: a fetch adds one, so a job
// that comes again is tried the second time.
func tried(again bool) int16 {
	if again {
		return 1
	}
	return 0
}

// insertJobs puts jobs where River fetches them. A job that is due later is available too: River's
// fetch compares scheduled_at with Postgres's now, while its scheduler would compare with its own
// clock, every five seconds. One notification per queue wakes the fetchers of what a client waits for.
// Where no job is traced there is no array of metadata, and each is filled up as the shorter of two is.
const insertJobs = `
WITH added AS (
    INSERT INTO river_job (args, kind, max_attempts, queue, state, scheduled_at, priority, attempt, metadata)
    SELECT u.args, u.kind, $7, u.queue, 'available', u.at, u.lane, u.tried, coalesce(u.metadata, '{}')
      FROM (SELECT unnest($1::jsonb[]) AS args, unnest($2::text[]) AS kind,
                   unnest($3::text[]) AS queue, unnest($4::timestamptz[]) AS at,
                   unnest($5::smallint[]) AS lane, unnest($6::smallint[]) AS tried,
                   unnest($10::jsonb[]) AS metadata) AS u
    RETURNING queue, scheduled_at
)
SELECT pg_notify(current_schema() || '.' || $8, json_build_object('queue', queue)::text)
  FROM (SELECT DISTINCT queue FROM added WHERE scheduled_at <= clock_timestamp() AND queue <> $9) AS due`

// Enqueue queues the insert of jobs into a batch.
func Enqueue(write *pgx.Batch, jobs []Job) error {
	if len(jobs) == 0 {
		return nil
	}
	args, kinds := make([][]byte, len(jobs)), make([]string, len(jobs))
	queues, at := make([]string, len(jobs)), make([]time.Time, len(jobs))
	lanes, tries := make([]int16, len(jobs)), make([]int16, len(jobs))
	for i, j := range jobs {
		encoded, err := json.Marshal(j.Args)
		if err != nil {
			return fmt.Errorf("encode job %s: %w", j.Kind, err)
		}
		if lanes[i], err = j.lane(); err != nil {
			return err
		}
		args[i], kinds[i], queues[i], at[i] = encoded, j.Kind, j.Queue, j.At
		tries[i] = tried(j.Again)
	}
	metadata, err := metadataOf(jobs)
	if err != nil {
		return err
	}
	write.Queue(insertJobs, args, kinds, queues, at, lanes, tries, maxAttempts, notifyChannel,
		QueueNotification, metadata)
	return nil
}

// Querier is what reading one row takes.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}
