package jobqueue_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/jobqueue"
	"example.com/holdfast/internal/pgtest"
)

// scriptedWorker ends each job as it is told.
type scriptedWorker struct {
	river.WorkerDefaults[ping]
	work func(context.Context, *river.Job[ping]) error
}

func (w *scriptedWorker) Work(ctx context.Context, job *river.Job[ping]) error {
	return w.work(ctx, job)
}

// scripted starts a worker of QueueRisk for some jobs at once.
func scripted(
	t *testing.T, pool *pgxpool.Pool, id string, work func(context.Context, *river.Job[ping]) error,
) *river.Client[pgx.Tx] {
	t.Helper()
	workers := river.NewWorkers()
	river.AddWorker(workers, &scriptedWorker{work: work})
	client := newClient(t, pool, id, map[string]int{jobqueue.QueueRisk: 4}, workers)
	start(t, client)
	return client
}

// waitFor waits until a query counts what it should.
func waitFor(t *testing.T, pool *pgxpool.Pool, want int, sql string) {
	t.Helper()
	holds := func() bool { return count(t, pool, sql) == want }
	require.Eventually(t, holds, waitMax, 5*time.Millisecond, sql)
}

func TestAJobThatIsCutOffIsThereAgainAsOldAsItWasAndAsksFirst(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	at := now(t, pool).Add(-time.Minute)
	enqueue(t, pool, inLane(job(jobqueue.QueueRisk, 1, at), 2))
	begun := make(chan *river.Job[ping], 100)
	first := scripted(t, pool, "first", func(ctx context.Context, job *river.Job[ping]) error {
		begun <- job
		<-ctx.Done()
		return fmt.Errorf("call a dependency: %w", ctx.Err())
	})
	receive(t, begun)
	require.NoError(t, first.StopAndCancel(t.Context()))
	// Until its last fetch the client may have taken up again what it gave back.
	cut := 1 + len(begun)
	require.Equal(t, cut, count(t, pool, "SELECT count(*) FROM river_job WHERE state = 'completed'"))

	workers, worked := newWorkers()
	other := newClient(t, pool, "other", map[string]int{jobqueue.QueueRisk: 1}, workers)
	start(t, other)
	got := receive(t, worked)
	require.Equal(t, 1, got.Args.N)
	require.Greater(t, got.Attempt, 1, "what it called may have been sent")
	require.Equal(t, 2, got.Priority)
	require.WithinDuration(t, at, got.ScheduledAt, time.Microsecond)
}

func TestAJobThatSucceedsWhileItsProcessStopsIsDone(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	enqueue(t, pool, job(jobqueue.QueueRisk, 1, now(t, pool)))
	begun := make(chan *river.Job[ping], 1)
	client := scripted(t, pool, "me", func(ctx context.Context, job *river.Job[ping]) error {
		begun <- job
		<-ctx.Done()
		return nil
	})
	receive(t, begun)
	require.NoError(t, client.StopAndCancel(t.Context()))
	require.Equal(t, 1, count(t, pool, "SELECT count(*) FROM river_job"))
	require.Equal(t, 1, count(t, pool, "SELECT count(*) FROM river_job WHERE state = 'completed'"))
}

var errUnable = errors.New("unable")

// poison puts jobs into QueueRisk that cannot be worked, each in its way.
func poison(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	enqueue(t, pool,
		jobqueue.Job{Queue: jobqueue.QueueRisk, Kind: "unknown", Args: ping{1}, At: now(t, pool)},
		jobqueue.Job{Queue: jobqueue.QueueRisk, Kind: "ping", Args: "no object", At: now(t, pool)},
		job(jobqueue.QueueRisk, failing, now(t, pool)), job(jobqueue.QueueRisk, panicking, now(t, pool)))
}

const (
	poisoned  = 4
	failing   = -1
	panicking = -2
)

// workOrFail works what is no poison.
func workOrFail(worked chan<- *river.Job[ping]) func(context.Context, *river.Job[ping]) error {
	return func(_ context.Context, job *river.Job[ping]) error {
		switch job.Args.N {
		case failing:
			return errUnable
		case panicking:
			panic("nul \x00 and \xff" + strings.Repeat("x", 2*jobqueue.ErrorMaxBytes))
		}
		worked <- job
		return nil
	}
}

func TestPoisonIsLaidAsideAfterItsTriesAndDisturbsNobody(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	poison(t, pool)
	worked := make(chan *river.Job[ping], 100)
	scripted(t, pool, "me", workOrFail(worked))
	const others = 20
	for n := range others {
		enqueue(t, pool, job(jobqueue.QueueRisk, n, now(t, pool)))
	}
	for range others {
		receive(t, worked)
	}
	waitFor(t, pool, poisoned, "SELECT count(*) FROM river_job WHERE state = 'discarded'")
	dead, err := jobqueue.Discarded(t.Context(), pool, 10)
	require.NoError(t, err)
	require.Len(t, dead, poisoned)
	errs := map[string]bool{}
	for i, d := range dead {
		require.EqualValues(t, jobqueue.MaxAttempts, d.Attempts)
		require.Equal(t, jobqueue.QueueRisk, d.Queue)
		require.LessOrEqual(t, len(d.LastError), jobqueue.ErrorMaxBytes)
		require.False(t, i > 0 && d.At.After(dead[i-1].At), "the last one comes first")
		errs[strings.Join([]string{d.Kind, strings.Fields(d.LastError)[0]}, " ")] = true
	}
	require.Equal(t, map[string]bool{
		"unknown job": true, "ping json:": true, "ping unable": true, "ping panic:": true,
	}, errs)
	require.Equal(t, poisoned, count(t, pool, `
SELECT count(*) FROM river_job WHERE state = 'discarded' AND cardinality(errors) = max_attempts`))
	waitFor(t, pool, 0, `
SELECT count(*) FROM river_job WHERE state IN ('available', 'running', 'retryable', 'scheduled', 'pending')`)
}

func TestAFailureThatCannotBeRecordedIsLeftToRiver(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	enqueue(t, pool, job(jobqueue.QueueRisk, failing, now(t, pool)))
	_, err := pool.Exec(t.Context(), `
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON river_job FOR EACH ROW EXECUTE FUNCTION refuse()`)
	require.NoError(t, err)
	scripted(t, pool, "me", workOrFail(nil))
	waitFor(t, pool, 1, "SELECT count(*) FROM river_job WHERE cardinality(errors) > 0")
}

func TestTheListOfTheDeadIsBoundedAndReadsItsIndex(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	none, err := jobqueue.Discarded(t.Context(), pool, 1)
	require.NoError(t, err)
	require.Empty(t, none)
	_, err = pool.Exec(t.Context(), `
INSERT INTO river_job (args, kind, max_attempts, queue, state, finalized_at)
SELECT '{}', 'ping', 3, 'risk_api', s::river_job_state, now() - n * interval '1 ms'
  FROM generate_series(1, 5000) n, unnest('{discarded,completed}'::text[]) s`)
	require.NoError(t, err)
	two, err := jobqueue.Discarded(t.Context(), pool, 2)
	require.NoError(t, err)
	require.Len(t, two, 2)
	require.Empty(t, two[0].LastError)
	all, err := jobqueue.Discarded(t.Context(), pool, 1_000_000)
	require.NoError(t, err)
	require.Len(t, all, jobqueue.DeadMaxRows)
	plan := explain(t, pool, jobqueue.DiscardedSQL, 2, jobqueue.DeadMaxRows)
	require.Contains(t, plan, "Index Scan Backward using river_job_state_and_finalized_at_index")
	require.NotContains(t, plan, "Sort")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = jobqueue.Discarded(gone, pool, 1)
	require.ErrorIs(t, err, context.Canceled)
}
