package jobqueue_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/jobqueue"
	"example.com/holdfast/internal/pgtest"
)

const waitMax = 15 * time.Second

func TestMain(m *testing.M) { pgtest.Main(m) }

// ping is a job of these tests.
type ping struct {
	N int `json:"n"`
}

func (ping) Kind() string { return "ping" }

// pingWorker hands every job on.
type pingWorker struct {
	river.WorkerDefaults[ping]
	worked chan *river.Job[ping]
}

func (w *pingWorker) Work(_ context.Context, job *river.Job[ping]) error {
	w.worked <- job
	return nil
}

func newWorkers() (*river.Workers, chan *river.Job[ping]) {
	worked := make(chan *river.Job[ping], 2_000)
	workers := river.NewWorkers()
	river.AddWorker(workers, &pingWorker{worked: worked})
	return workers, worked
}

// newClient makes a client that logs nothing.
func newClient(
	t *testing.T, pool *pgxpool.Pool, id string, inHand map[string]int, workers *river.Workers,
) *river.Client[pgx.Tx] {
	t.Helper()
	client, err := jobqueue.NewClient(jobqueue.Config{
		Pool: pool, ID: id, InHand: inHand, Workers: workers, Log: slog.New(slog.DiscardHandler),
		Now: time.Now, //nolint:forbidigo // a test waits by the real clock
	})
	require.NoError(t, err)
	return client
}

func start(t *testing.T, client *river.Client[pgx.Tx]) {
	t.Helper()
	require.NoError(t, client.Start(context.WithoutCancel(t.Context())))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), waitMax)
		defer cancel()
		require.NoError(t, client.StopAndCancel(ctx))
	})
}

// receive waits for one job.
func receive(t *testing.T, worked <-chan *river.Job[ping]) *river.Job[ping] {
	t.Helper()
	select {
	case job := <-worked:
		return job
	case <-time.After(waitMax):
		t.Fatal("no job was worked")
		return nil
	}
}

func now(t *testing.T, pool *pgxpool.Pool) time.Time {
	t.Helper()
	var at time.Time
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT clock_timestamp()").Scan(&at))
	return at
}

func enqueue(t *testing.T, pool *pgxpool.Pool, jobs ...jobqueue.Job) {
	t.Helper()
	var batch pgx.Batch
	require.NoError(t, jobqueue.Enqueue(&batch, jobs))
	require.NoError(t, pool.SendBatch(t.Context(), &batch).Close())
}

func job(queue string, n int, at time.Time) jobqueue.Job {
	return jobqueue.Job{Queue: queue, Kind: ping{}.Kind(), Args: ping{n}, At: at}
}

func insertOnly(t *testing.T, pool *pgxpool.Pool) *river.Client[pgx.Tx] {
	t.Helper()
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{})
	require.NoError(t, err)
	return client
}

func TestEnqueueWritesTheRowThatRiverWrites(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	_, err := insertOnly(t, pool).Insert(t.Context(), ping{7}, &river.InsertOpts{
		Queue: jobqueue.QueueDB, MaxAttempts: jobqueue.MaxAttempts,
	})
	require.NoError(t, err)
	enqueue(t, pool, job(jobqueue.QueueDB, 7, now(t, pool)))
	rows, err := pool.Query(t.Context(), `
SELECT to_jsonb(j) - '{id,created_at,scheduled_at}'::text[] FROM river_job j ORDER BY id`)
	require.NoError(t, err)
	written, err := pgx.CollectRows(rows, pgx.RowTo[map[string]any])
	require.NoError(t, err)
	require.Len(t, written, 2)
	require.Equal(t, written[0], written[1])
	require.Equal(t, "available", written[1]["state"])
}

func TestAnEnqueuedJobIsWorked(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	workers, worked := newWorkers()
	client := newClient(t, pool, "worker", map[string]int{
		jobqueue.QueueRisk: 2, jobqueue.QueueNotification: 2, jobqueue.QueueDB: 2,
	}, workers)
	start(t, client)
	for n, queue := range []string{jobqueue.QueueRisk, jobqueue.QueueNotification, jobqueue.QueueDB} {
		enqueue(t, pool, job(queue, n, now(t, pool)))
		got := receive(t, worked)
		require.Equal(t, ping{n}, got.Args)
		require.Equal(t, queue, got.Queue)
		require.Equal(t, 1, got.Attempt)
		require.Equal(t, []string{"worker"}, got.AttemptedBy)
	}
}

// TestANewJobWakesAClient uses a client that would look by itself only after an hour.
func TestANewJobWakesAClient(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	workers, worked := newWorkers()
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Queues:  map[string]river.QueueConfig{jobqueue.QueueRisk: {MaxWorkers: 10}},
		Workers: workers, Logger: slog.New(slog.DiscardHandler),
		FetchCooldown: time.Millisecond, FetchPollInterval: time.Hour,
	})
	require.NoError(t, err)
	enqueue(t, pool, job(jobqueue.QueueRisk, 1, now(t, pool)))
	start(t, client)
	require.Equal(t, 1, receive(t, worked).Args.N, "its first look, and the only one for an hour")
	for n := 2; len(worked) == 0; n++ { // it begins to listen at some time
		require.Less(t, n, 1_000)
		enqueue(t, pool, job(jobqueue.QueueRisk, n, now(t, pool)))
		select {
		case got := <-worked:
			worked <- got
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func TestOnlyDueJobsThatSomebodyWaitsForAreAnnounced(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	_, err = conn.Exec(t.Context(), `LISTEN "public.`+jobqueue.NotifyChannel+`"`)
	require.NoError(t, err)
	at := now(t, pool)
	enqueue(t, pool, job(jobqueue.QueueDB, 1, at.Add(time.Hour)))
	enqueue(t, pool, job(jobqueue.QueueNotification, 2, at))
	enqueue(t, pool, job(jobqueue.QueueRisk, 3, at), job(jobqueue.QueueRisk, 4, at))
	enqueue(t, pool, job(jobqueue.QueueDB, 5, at))
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	var queues []string
	for range 2 {
		note, err := conn.Conn().WaitForNotification(ctx)
		require.NoError(t, err)
		var payload struct {
			Queue string `json:"queue"`
		}
		require.NoError(t, json.Unmarshal([]byte(note.Payload), &payload))
		queues = append(queues, payload.Queue)
	}
	require.Equal(t, []string{jobqueue.QueueRisk, jobqueue.QueueDB}, queues, "once per queue, and no more")
}

func TestAJobIsNotWorkedBeforeItsTime(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	workers, worked := newWorkers()
	client := newClient(t, pool, "worker", map[string]int{jobqueue.QueueDB: 2}, workers)
	start(t, client)
	later := now(t, pool).Add(300 * time.Millisecond)
	enqueue(t, pool, job(jobqueue.QueueDB, 1, later))
	got := receive(t, worked)
	require.False(t, got.AttemptedAt.Before(later), "worked %s early", later.Sub(*got.AttemptedAt))
}

func TestNothingToEnqueueQueuesNothingAndBadArgsAreAnError(t *testing.T) {
	t.Parallel()
	var batch pgx.Batch
	require.NoError(t, jobqueue.Enqueue(&batch, nil))
	require.Zero(t, batch.Len())
	require.Error(t, jobqueue.Enqueue(&batch, []jobqueue.Job{{Kind: "bad", Args: func() {}}}))
	require.Zero(t, batch.Len())
}

func setState(t *testing.T, pool *pgxpool.Pool, n int, state string) {
	t.Helper()
	tag, err := pool.Exec(t.Context(), `
UPDATE river_job SET state = $2::text::river_job_state,
       finalized_at = CASE WHEN $2 IN ('completed', 'cancelled', 'discarded') THEN now() END
 WHERE args ->> 'n' = $1`, strconv.Itoa(n), state)
	require.NoError(t, err)
	require.EqualValues(t, 1, tag.RowsAffected())
}

func TestTheOldestLiveJobWaitsOrRuns(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	_, ok, err := jobqueue.OldestLive(t.Context(), pool, jobqueue.QueueRisk)
	require.NoError(t, err)
	require.False(t, ok)
	at := now(t, pool)
	enqueue(t, pool, job(jobqueue.QueueRisk, 1, at.Add(-time.Hour)),
		job(jobqueue.QueueRisk, 2, at.Add(time.Hour)), job(jobqueue.QueueDB, 3, at.Add(-2*time.Hour)))
	for state, live := range map[string]bool{
		"available": true, "running": true, "retryable": true, "scheduled": true, "pending": true,
		"completed": false, "cancelled": false, "discarded": false,
	} {
		setState(t, pool, 1, state)
		oldest, ok, err := jobqueue.OldestLive(t.Context(), pool, jobqueue.QueueRisk)
		require.NoError(t, err)
		require.True(t, ok)
		want := at.Add(time.Hour)
		if live {
			want = at.Add(-time.Hour)
		}
		require.WithinDuration(t, want, oldest, time.Microsecond, state)
	}
}

func TestReadyAgeIsThatOfDueJobsThatNobodyHasClaimed(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	age := func() time.Duration {
		d, err := jobqueue.ReadyAge(t.Context(), pool, jobqueue.QueueRisk)
		require.NoError(t, err)
		return d
	}
	require.Zero(t, age())
	at := now(t, pool)
	enqueue(t, pool, job(jobqueue.QueueRisk, 1, at.Add(time.Hour)))
	require.Zero(t, age(), "a retry that is set for later does not wait")
	enqueue(t, pool, job(jobqueue.QueueRisk, 2, at.Add(-time.Minute)))
	require.GreaterOrEqual(t, age(), time.Minute)
	require.Less(t, age(), 2*time.Minute)
	setState(t, pool, 2, "running")
	require.Zero(t, age())
}

func TestTheProbesOfTheQueueReadOnlyItsIndex(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	_, err := pool.Exec(t.Context(), `
INSERT INTO river_job (args, kind, max_attempts, queue, state, scheduled_at)
SELECT '{}', 'ping', 3, 'risk_api', 'available', now() + n * interval '1 ms'
  FROM generate_series(1, 20000) n`)
	require.NoError(t, err)
	for _, analyzed := range []bool{false, true} {
		if analyzed {
			_, err := pool.Exec(t.Context(), "ANALYZE river_job")
			require.NoError(t, err)
		}
		requireProbe(t, pool, jobqueue.OldestLiveSQL, jobqueue.QueueRisk, []string{"available"})
		requireProbe(t, pool, jobqueue.ReadyAgesSQL, jobqueue.QueueRisk, jobqueue.Lanes)
	}
}
