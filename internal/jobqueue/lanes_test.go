package jobqueue_test

import (
	"context"
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

// fetchOne claims the next job of a queue as River would, with a worker for one job, and leaves it running.
func fetchOne(t *testing.T, pool *pgxpool.Pool, queue string) *river.Job[ping] {
	t.Helper()
	hold := make(chan struct{})
	worker := &holdingWorker{claimed: make(chan *river.Job[ping], 1), release: hold}
	workers := river.NewWorkers()
	river.AddWorker(workers, worker)
	client := newClient(t, pool, "fetcher", map[string]int{queue: 1}, workers)
	start(t, client)
	t.Cleanup(func() { close(hold) })
	return receive(t, worker.claimed)
}

// holdingWorker keeps its job until it is released.
type holdingWorker struct {
	river.WorkerDefaults[ping]
	claimed chan *river.Job[ping]
	release chan struct{}
}

func (w *holdingWorker) Work(_ context.Context, job *river.Job[ping]) error {
	w.claimed <- job
	<-w.release
	return nil
}

func inLane(j jobqueue.Job, lane int) jobqueue.Job {
	j.Lane = lane
	return j
}

func TestAJobOfAnEarlierLaneIsFetchedFirstAndTheOlderOneInItsLane(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	at := now(t, pool)
	job := func(n, lane int, ago time.Duration) jobqueue.Job {
		return inLane(job(jobqueue.QueueRisk, n, at.Add(-ago)), lane)
	}
	enqueue(t, pool, job(5, jobqueue.Lanes, time.Hour), job(4, 2, time.Minute), job(3, 1, time.Second),
		job(2, 0, time.Minute), job(1, 1, time.Hour))
	workers, worked := newWorkers()
	client := newClient(t, pool, "me", map[string]int{jobqueue.QueueRisk: 1}, workers)
	start(t, client)
	for n := 1; n <= 5; n++ {
		require.Equal(t, n, receive(t, worked).Args.N)
	}
}

func TestThereIsNoFifthLane(t *testing.T) {
	t.Parallel()
	for _, lane := range []int{-1, jobqueue.Lanes + 1} {
		var batch pgx.Batch
		require.ErrorContains(t, jobqueue.Enqueue(&batch, []jobqueue.Job{{Kind: "ping", Lane: lane}}), "lane")
		require.Zero(t, batch.Len())
	}
}

func TestAJobThatComesAgainIsTriedTheSecondTime(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	again := job(jobqueue.QueueRisk, 1, now(t, pool))
	again.Again = true
	enqueue(t, pool, again)
	require.Equal(t, 2, fetchOne(t, pool, jobqueue.QueueRisk).Attempt)
}

func TestWhatIsHandedBackIsAsOldAsItsJobAndGoesOnElsewhere(t *testing.T) {
	t.Parallel()
	for again, attempt := range map[bool]int{false: 1, true: 2} {
		pool := pgtest.New(t)
		enqueue(t, pool, inLane(job(jobqueue.QueueRisk, 1, now(t, pool).Add(-time.Minute)), 3))
		_, err := pool.Exec(t.Context(), `UPDATE river_job SET metadata = '{"trace": "x"}', tags = '{tag}'`)
		require.NoError(t, err)
		inHand := fetchOne(t, pool, jobqueue.QueueRisk)
		require.NoError(t, jobqueue.HandBack(t.Context(), pool, jobqueue.Returned{
			ID: inHand.ID, Args: ping{2}, Again: again,
		}))
		require.Equal(t, 1, count(t, pool, `
SELECT count(*)
  FROM river_job new
  JOIN river_job old USING (kind, queue, priority, max_attempts, metadata, scheduled_at, tags)
 WHERE new.state = 'available' AND old.state = 'running' AND new.args = '{"n": 2}'
   AND new.attempted_by IS NULL AND new.attempted_at IS NULL`))

		workers, worked := newWorkers()
		client := newClient(t, pool, "other", map[string]int{jobqueue.QueueRisk: 1}, workers)
		start(t, client)
		got := receive(t, worked)
		require.Equal(t, 2, got.Args.N)
		require.Equal(t, attempt, got.Attempt, "again: %v", again)
		require.Equal(t, []string{"other"}, got.AttemptedBy)
	}
}

func TestWhatWasTakenOverIsNotHandedBackAsWell(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	claim(t, pool, 1, "dead")
	var id int64
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT id FROM river_job").Scan(&id))
	reap(t, pool)
	require.NoError(t, jobqueue.HandBack(t.Context(), pool, jobqueue.Returned{ID: id, Args: ping{1}}))
	require.NoError(t, jobqueue.HandBack(t.Context(), pool, jobqueue.Returned{ID: id + 100, Args: ping{1}}))
	require.Equal(t, 1, count(t, pool, "SELECT count(*) FROM river_job WHERE state = 'available'"))
}

func TestARestThatCannotBeWrittenIsAnError(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	err := jobqueue.HandBack(t.Context(), pool, jobqueue.Returned{ID: 7, Args: func() {}})
	require.ErrorContains(t, err, "job 7")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	err = jobqueue.HandBack(gone, pool, jobqueue.Returned{ID: 7, Args: ping{1}})
	require.ErrorIs(t, err, context.Canceled)
}

func TestEachLaneHasAnAgeAndTheQueueTheLargest(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	ages := func() [jobqueue.Lanes]time.Duration {
		ages, err := jobqueue.ReadyAges(t.Context(), pool, jobqueue.QueueRisk)
		require.NoError(t, err)
		return ages
	}
	require.Equal(t, [jobqueue.Lanes]time.Duration{}, ages())
	at := now(t, pool)
	enqueue(t, pool,
		inLane(job(jobqueue.QueueRisk, 1, at.Add(-time.Minute)), 1),
		inLane(job(jobqueue.QueueRisk, 2, at.Add(-time.Hour)), 3),
		inLane(job(jobqueue.QueueRisk, 3, at.Add(time.Hour)), 4),
		inLane(job(jobqueue.QueueDB, 4, at.Add(-2*time.Hour)), 2))
	got := ages()
	require.Zero(t, got[1])
	require.Zero(t, got[3], "a job for later does not wait")
	for lane, want := range map[int]time.Duration{0: time.Minute, 2: time.Hour} {
		require.GreaterOrEqual(t, got[lane], want)
		require.Less(t, got[lane], want+time.Minute)
	}
	oldest, err := jobqueue.ReadyAge(t.Context(), pool, jobqueue.QueueRisk)
	require.NoError(t, err)
	require.GreaterOrEqual(t, oldest, got[2])
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = jobqueue.ReadyAge(gone, pool, jobqueue.QueueRisk)
	require.ErrorIs(t, err, context.Canceled)
}

func explain(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) string {
	t.Helper()
	rows, err := pool.Query(t.Context(), "EXPLAIN "+sql, args...)
	require.NoError(t, err)
	plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return strings.Join(plan, "\n")
}

func requireProbe(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	plan := explain(t, pool, sql, args...)
	require.Contains(t, plan, "Index Only Scan using river_job_prioritized_fetching_index")
	require.NotContains(t, plan, "Seq Scan")
	require.NotContains(t, plan, "Sort Key: j.")
}
