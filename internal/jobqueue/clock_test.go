package jobqueue_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/jobqueue"
	"example.com/holdfast/internal/pgtest"
)

// skews are by how much Postgres's clock is off from the application's.
var skews = []time.Duration{2 * time.Hour, -2 * time.Hour}

// skewed is a pool for which Postgres's clock is off. Go does not let its own clock be set from outside, so
// the server's is: its functions are found in a schema that comes before its own. River's statements and
// ours call them without a schema, and no fake clock reaches what River reads from time.Now.
func skewed(t *testing.T, by time.Duration) *pgxpool.Pool {
	t.Helper()
	db := pgtest.DB(t)
	offset := fmt.Sprintf("interval '%d seconds'", int(by.Seconds()))
	_, err := db.Pool.Exec(t.Context(), `
CREATE SCHEMA skewed;
CREATE FUNCTION skewed.now() RETURNS timestamptz LANGUAGE sql STABLE
    AS $$ SELECT pg_catalog.now() + `+offset+` $$;
CREATE FUNCTION skewed.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
    AS $$ SELECT pg_catalog.clock_timestamp() + `+offset+` $$;
ALTER TABLE instances ALTER heartbeat_at SET DEFAULT skewed.clock_timestamp(),
                      ALTER started_at SET DEFAULT skewed.clock_timestamp()`)
	require.NoError(t, err)
	cfg, err := pgxpool.ParseConfig(db.URL)
	require.NoError(t, err)
	cfg.MaxConns = 8
	cfg.ConnConfig.RuntimeParams["search_path"] = "skewed, pg_catalog, public"
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	off := time.Until(now(t, pool))
	require.InDelta(t, by.Seconds(), off.Seconds(), 60, "the clock of this pool is off")
	return pool
}

// forSkews runs a test for each of the skews.
func forSkews(t *testing.T, test func(t *testing.T, pool *pgxpool.Pool)) {
	t.Helper()
	for _, by := range skews {
		t.Run("postgres "+by.String(), func(t *testing.T) {
			t.Parallel()
			test(t, skewed(t, by))
		})
	}
}

func TestWithAnotherClockADueJobIsWorkedAndALaterOneWaitsForItsTime(t *testing.T) {
	t.Parallel()
	forSkews(t, func(t *testing.T, pool *pgxpool.Pool) {
		t.Helper()
		workers, worked := newWorkers()
		client := newClient(t, pool, "me", map[string]int{jobqueue.QueueRisk: 2}, workers)
		start(t, client)
		at := now(t, pool)
		later := at.Add(700 * time.Millisecond)
		enqueue(t, pool, job(jobqueue.QueueRisk, 3, at.Add(time.Hour)), job(jobqueue.QueueRisk, 2, later),
			job(jobqueue.QueueRisk, 1, at))
		for n, due := range []time.Time{at, later} {
			got := receive(t, worked) // the deadline is far from two hours
			require.Equal(t, n+1, got.Args.N)
			require.False(t, got.AttemptedAt.Before(due), "job %d began early", n+1)
			t.Logf("job %d began %s after it was due", n+1, got.AttemptedAt.Sub(due))
		}
		require.Equal(t, 1, count(t, pool, "SELECT count(*) FROM river_job WHERE state = 'available'"))
	})
}

// TestWithAnotherClockNobodyTakesAJobFromALivingWorker waits for a round of River's rescuer, which a job
// that runs for longer than any limit shows, and for rounds of our reaper.
func TestWithAnotherClockNobodyTakesAJobFromALivingWorker(t *testing.T) {
	t.Parallel()
	forSkews(t, func(t *testing.T, pool *pgxpool.Pool) {
		t.Helper()
		enqueue(t, pool, job(jobqueue.QueueRisk, 1, now(t, pool)))
		inHand := fetchOne(t, pool, jobqueue.QueueRisk) // its client leads, and rescues
		_, err := pool.Exec(t.Context(), `
INSERT INTO river_job (args, kind, max_attempts, queue, state, attempt, attempted_at, attempted_by)
VALUES ('{}', 'canary', 1, 'nobody', 'running', 1, now() - interval '200 years', '{fetcher}')`)
		require.NoError(t, err)
		waitFor(t, pool, 1, "SELECT count(*) FROM river_job WHERE kind = 'canary' AND state = 'discarded'")
		for range 3 {
			require.NoError(t, newInstance(pool, "fetcher").BeatOnce(t.Context()))
			reap(t, pool)
		}
		var state string
		require.NoError(t, pool.QueryRow(t.Context(), "SELECT state FROM river_job WHERE id = $1", inHand.ID).
			Scan(&state))
		require.Equal(t, "running", state)
		require.Zero(t, count(t, pool, "SELECT count(*) FROM river_job WHERE state = 'available'"))
	})
}

func TestWithAnotherClockADeadWorkersJobIsTakenOver(t *testing.T) {
	t.Parallel()
	forSkews(t, func(t *testing.T, pool *pgxpool.Pool) {
		t.Helper()
		silent(t, pool, "dead", jobqueue.SilenceMax+time.Second)
		claim(t, pool, 1, "dead")
		workers, worked := newWorkers()
		client := newClient(t, pool, "me", map[string]int{jobqueue.QueueRisk: 1}, workers)
		me := newInstance(pool, "me")
		require.NoError(t, me.Start(t.Context()))
		t.Cleanup(func() { require.NoError(t, me.Stop(context.WithoutCancel(t.Context()))) })
		start(t, client)
		require.Equal(t, 2, receive(t, worked).Attempt)
	})
}

func TestWithAnotherClockAJobThatIsCutOffGoesOnAtOnce(t *testing.T) {
	t.Parallel()
	forSkews(t, func(t *testing.T, pool *pgxpool.Pool) {
		t.Helper()
		at := now(t, pool).Add(-time.Minute)
		enqueue(t, pool, job(jobqueue.QueueRisk, 1, at))
		begun := make(chan *river.Job[ping], 1)
		first := scripted(t, pool, "first", func(ctx context.Context, job *river.Job[ping]) error {
			begun <- job
			<-ctx.Done()
			return ctx.Err()
		})
		receive(t, begun)
		require.NoError(t, first.StopAndCancel(t.Context()))
		worked := make(chan *river.Job[ping], 1)
		scripted(t, pool, "other", workOrFail(worked))
		got := receive(t, worked)
		require.Equal(t, 2, got.Attempt)
		require.WithinDuration(t, at, got.ScheduledAt, time.Microsecond)
	})
}

func TestWithAnotherClockPoisonIsLaidAsideAsSoon(t *testing.T) {
	t.Parallel()
	forSkews(t, func(t *testing.T, pool *pgxpool.Pool) {
		t.Helper()
		poison(t, pool)
		enqueue(t, pool, job(jobqueue.QueueRisk, 1, now(t, pool)))
		worked := make(chan *river.Job[ping], 1)
		scripted(t, pool, "me", workOrFail(worked))
		receive(t, worked)
		waitFor(t, pool, poisoned, "SELECT count(*) FROM river_job WHERE state = 'discarded'")
	})
}

// TestRiverAloneRescuesAHealthyJobByTheWrongClock is why its rescuer is off.
func TestRiverAloneRescuesAHealthyJobByTheWrongClock(t *testing.T) {
	t.Parallel()
	pool := skewed(t, -2*time.Hour)
	worker := &holdingWorker{claimed: make(chan *river.Job[ping], 1), release: make(chan struct{})}
	workers := river.NewWorkers()
	river.AddWorker(workers, worker)
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Queues: map[string]river.QueueConfig{jobqueue.QueueRisk: {MaxWorkers: 1}}, Workers: workers,
		Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	enqueue(t, pool, job(jobqueue.QueueRisk, 1, now(t, pool)))
	start(t, client)
	t.Cleanup(func() { close(worker.release) })
	healthy := receive(t, worker.claimed)
	waitFor(t, pool, 1, fmt.Sprintf(`
SELECT count(*) FROM river_job WHERE id = %d AND state IN ('retryable', 'available')`, healthy.ID))
}
