package jobqueue

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// DeadJob is a job that had its tries and was laid aside. Nothing is lost with it: its rows say what is
// left to do, and the sweeper wakes them by another job. It tells that something is wrong with the job
// itself.
type DeadJob struct {
	ID       int64
	Kind     string
	Queue    string
	Attempts int16
	// LastError is why the last try failed.
	LastError string
	// At is when the job was laid aside.
	At time.Time
}

// deadMaxRows bounds one look at the dead jobs.
const deadMaxRows = 200

// discarded reads River's index on state and finalized_at from its end.
const discarded = `
SELECT j.id, j.kind, j.queue, j.attempt,
       coalesce(j.errors[cardinality(j.errors)] ->> 'error', '') AS last_error, j.finalized_at
  FROM river_job j
 WHERE j.state = 'discarded' AND j.finalized_at IS NOT NULL
 ORDER BY j.finalized_at DESC
 LIMIT least($1::int, $2::int)`

// Reader is what reading rows takes.
type Reader interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Discarded lists the jobs that were laid aside, the last one first, at most deadMaxRows. They are kept for
// keepDiscarded.
func Discarded(ctx context.Context, db Reader, limit int) ([]DeadJob, error) {
	rows, err := db.Query(ctx, discarded, limit, deadMaxRows)
	if err != nil {
		return nil, fmt.Errorf("list discarded jobs: %w", err)
	}
	jobs, err := pgx.CollectRows(rows, pgx.RowToStructByPos[DeadJob])
	if err != nil {
		return nil, fmt.Errorf("list discarded jobs: %w", err)
	}
	return jobs, nil
}
