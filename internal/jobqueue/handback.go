package jobqueue

import (
	"context"
	"encoding/json"
	"fmt"
)

// Returned is what a worker gives back of a job that it has in hand.
type Returned struct {
	// ID is that of the job in hand.
	ID int64
	// Args is what is left of the job, in its kind's form.
	Args any
	// Again says that calls of what is left may have been made without record, by this worker or by one
	// before it, so that the next worker asks before it sends.
	Again bool
}

// handBack copies the job in hand, with what is left of it. Nobody is notified: who gives a job back had no
// place for it, and a fetcher that is woken would be in the same place. The poll finds it.
const handBack = `
INSERT INTO river_job (args, attempt, kind, max_attempts, metadata, priority, queue, scheduled_at, state,
                       tags)
SELECT $2::jsonb, $3::smallint, j.kind, j.max_attempts, j.metadata, j.priority, j.queue, j.scheduled_at,
       'available', j.tags
  FROM river_job j
 WHERE j.id = $1 AND j.state = 'running'`

// HandBack gives what is left of a job to whoever has a place for it. The rows that the job names are not
// touched: the new job is as old as the one in hand, since a job's scheduled time is the wake-up time of
// its rows, and it is due at once.
//
// The job in hand goes on, and covers what its worker still does of it; River completes it when Work
// returns nil. A worker that dies between the two leaves both, which is harmless as every double is. A job
// that was taken over meanwhile is not given back again: it is there already, and that is success.
func HandBack(ctx context.Context, db Querier, r Returned) error {
	args, err := json.Marshal(r.Args)
	if err != nil {
		return fmt.Errorf("encode rest of job %d: %w", r.ID, err)
	}
	if _, err := db.Exec(ctx, handBack, r.ID, args, tried(r.Again)); err != nil {
		return fmt.Errorf("hand back job %d: %w", r.ID, err)
	}
	return nil
}
