package jobqueue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"example.com/holdfast/internal/pgtx"
)

const (
	// retryPause is what a job that failed waits before its second try; it waits twice that before the
	// third.
	retryPause = 500 * time.Millisecond
	// recordMax bounds the statement that gives a job back or records its failure.
	recordMax = 2 * time.Second
	// errorMaxBytes bounds what a job keeps of an error.
	errorMaxBytes = 2_000
)

// backstop decides what becomes of a job whose Work did not succeed, by Postgres's clock. River would set
// the time of the next try by the application's, which may be hours off, and take an attempt back from a
// job that was interrupted, so that its next worker would send without asking.
//
// It also keeps texts from River that Postgres refuses: one NUL in an error, and River tries for ever to
// record it, together with the end of every other job of the process.
//
// Where the database does not answer, River's own way is the second line, and the reaper the third: it
// takes over what counts as running for longer than any job may.
type backstop struct {
	river.MiddlewareDefaults
	pool  *pgxpool.Pool
	log   *slog.Logger
	lines lines
	hand  *Hand
}

// Work tells of a job, gives one back that ended because the process does, and takes one that failed.
func (b *backstop) Work(
	ctx context.Context, job *rivertype.JobRow, work func(context.Context) error,
) error {
	end := b.hand.begin(job.ID)
	defer end()
	err := b.lines.around(ctx, job, work)
	cause := context.Cause(ctx)
	switch {
	case err == nil:
		return nil
	case errors.Is(cause, rivertype.ErrJobCancelledRemotely):
		return storableError{err} // somebody ended this job by hand
	case cause != nil:
		err = b.handBack(ctx, job, err)
	default:
		err = b.fail(ctx, job, err)
	}
	if err != nil {
		return storableError{err}
	}
	return nil
}

// HandleError takes a job that River could not hand to a worker: of a kind that this program does not know,
// or a row that it cannot read.
func (b *backstop) HandleError(
	ctx context.Context, job *rivertype.JobRow, err error,
) *river.ErrorHandlerResult {
	if _, known := errors.AsType[storableError](err); !known {
		_ = b.fail(ctx, job, err) // it is logged, and River goes on with it
	}
	return nil
}

// HandlePanic has nothing to do: a worker's panic has become an error.
func (b *backstop) HandlePanic(
	context.Context, *rivertype.JobRow, any, string,
) *river.ErrorHandlerResult {
	return nil
}

// panicError is a panic of a worker.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprint("panic: ", e.value) }

func recovered(ctx context.Context, work func(context.Context) error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &panicError{value, debug.Stack()}
		}
	}()
	return work(ctx)
}

func (b *backstop) handBack(ctx context.Context, job *rivertype.JobRow, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordMax)
	defer cancel()
	rest := Returned{ID: job.ID, Args: json.RawMessage(job.EncodedArgs), Again: true}
	if err := HandBack(ctx, b.pool, rest); err != nil {
		return errors.Join(cause, err)
	}
	return nil
}

// failJob ends a job that failed and puts it back for another try, or lays it aside when it has had its
// tries. The new job has an id of its own, so what River still does with the old one does not reach it.
const failJob = `
WITH failed AS (
    UPDATE river_job j
       SET state = CASE WHEN j.attempt >= j.max_attempts THEN 'discarded'
                        ELSE 'cancelled' END::river_job_state,
           finalized_at = clock_timestamp(),
           errors = array_append(j.errors, jsonb_build_object(
               'at', clock_timestamp(), 'attempt', j.attempt, 'error', $2::text, 'trace', $3::text))
     WHERE j.id = $1 AND j.state = 'running'
    RETURNING j.*
)
INSERT INTO river_job (args, attempt, errors, kind, max_attempts, metadata, priority, queue, scheduled_at,
                       state, tags)
SELECT args, attempt, errors, kind, max_attempts, metadata, priority, queue,
       clock_timestamp() + attempt * $4::interval, 'available', tags
  FROM failed
 WHERE state = 'cancelled'`

// fail records the failure of a job. It returns the cause if it could not.
func (b *backstop) fail(ctx context.Context, job *rivertype.JobRow, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordMax)
	defer cancel()
	stack := ""
	if p, panicked := errors.AsType[*panicError](cause); panicked {
		stack = string(p.stack)
	}
	_, err := b.pool.Exec(ctx, failJob, job.ID, storable(cause.Error()), storable(stack),
		pgtx.Interval(retryPause))
	if err != nil {
		err = errors.Join(cause, fmt.Errorf("record failure of job %d: %w", job.ID, err))
	}
	b.log.ErrorContext(ctx, "job failed", slog.Int64("job", job.ID), slog.String("kind", job.Kind),
		slog.String("queue", job.Queue), slog.Int("attempt", job.Attempt),
		slog.Any("error", cmp.Or(err, cause)), slog.String("stack", stack))
	return err
}

// storableError is an error with a text that a row can hold.
type storableError struct{ error }

// Error is the storable text.
func (e storableError) Error() string { return storable(e.error.Error()) }

// Unwrap lets River see that a job was interrupted.
func (e storableError) Unwrap() error { return e.error }

// storable makes a text fit for a row: valid, without NUL, and bounded.
func storable(text string) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "?"), "\x00", "?")
	if len(text) > errorMaxBytes {
		text = strings.ToValidUTF8(text[:errorMaxBytes], "")
	}
	return text
}
