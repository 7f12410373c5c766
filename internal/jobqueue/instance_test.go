package jobqueue_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/jobqueue"
	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/pgtx"
)

func newInstance(pool *pgxpool.Pool, id string) *jobqueue.Instance {
	return &jobqueue.Instance{
		ID: id, Host: "here", Version: "test", Pool: pool, Log: slog.New(slog.DiscardHandler),
	}
}

// reap makes one round of the reaper of an instance that lives.
func reap(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	me := newInstance(pool, "me")
	require.NoError(t, me.BeatOnce(t.Context()))
	require.NoError(t, me.ReapOnce(t.Context()))
}

// claim makes a running job of an instance.
func claim(t *testing.T, pool *pgxpool.Pool, n int, by ...string) {
	t.Helper()
	enqueue(t, pool, job(jobqueue.QueueRisk, n, now(t, pool)))
	_, err := pool.Exec(t.Context(), `
UPDATE river_job SET state = 'running', attempt = 1, attempted_by = $2, attempted_at = clock_timestamp()
 WHERE args ->> 'n' = $1`,
		strconv.Itoa(n), by)
	require.NoError(t, err)
}

// silent lets an instance have beaten last some time ago.
func silent(t *testing.T, pool *pgxpool.Pool, id string, ago time.Duration) {
	t.Helper()
	require.NoError(t, newInstance(pool, id).BeatOnce(t.Context()))
	_, err := pool.Exec(t.Context(),
		"UPDATE instances SET heartbeat_at = clock_timestamp() - $2::interval WHERE id = $1",
		id, pgtx.Interval(ago))
	require.NoError(t, err)
}

func count(t *testing.T, pool *pgxpool.Pool, sql string) int {
	t.Helper()
	var n int
	require.NoError(t, pool.QueryRow(t.Context(), sql).Scan(&n))
	return n
}

func TestTheJobsOfTheDeadAreTakenOverAndThoseOfTheLivingAreNot(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	silent(t, pool, "dead", jobqueue.SilenceMax+time.Second)
	silent(t, pool, "quiet", jobqueue.SilenceMax/2)
	claim(t, pool, 1, "dead")
	claim(t, pool, 2, "quiet")
	claim(t, pool, 3, "unknown")
	claim(t, pool, 4, "quiet", "dead") // claimed last by the dead one
	claim(t, pool, 5, "dead", "quiet")
	enqueue(t, pool, job(jobqueue.QueueRisk, 6, now(t, pool)))

	me := newInstance(pool, "me")
	var reaped int64
	me.Reaped = func(jobs int64) { reaped += jobs }
	require.NoError(t, me.BeatOnce(t.Context()))
	require.NoError(t, me.ReapOnce(t.Context()))
	require.NoError(t, me.ReapOnce(t.Context()))
	require.EqualValues(t, 3, reaped)

	const stillRunning = "SELECT args ->> 'n' FROM river_job WHERE state = 'running' ORDER BY 1"
	rows, err := pool.Query(t.Context(), stillRunning)
	require.NoError(t, err)
	running, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Equal(t, []string{"2", "5"}, running)
	require.Equal(t, 3, count(t, pool, "SELECT count(*) FROM river_job WHERE state = 'cancelled'"))
	require.Equal(t, 3, count(t, pool, `
SELECT count(*)
  FROM river_job new
  JOIN river_job old USING (args, kind, queue, priority, max_attempts, metadata, attempt, scheduled_at)
 WHERE new.state = 'available' AND old.state = 'cancelled'`), "each is there again, as old as it was")
	require.Equal(t, 4, count(t, pool, "SELECT count(*) FROM river_job WHERE state = 'available'"))
}

func TestManyReapersTakeEachJobOverOnce(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	const jobs = 20
	for n := range jobs {
		claim(t, pool, n, "dead")
	}
	var reaped atomic.Int64
	var group sync.WaitGroup
	for i := range 6 {
		group.Go(func() {
			me := newInstance(pool, fmt.Sprint("reaper-", i))
			me.Reaped = func(jobs int64) { reaped.Add(jobs) }
			if err := errors.Join(me.BeatOnce(t.Context()), me.ReapOnce(t.Context())); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	require.EqualValues(t, jobs, reaped.Load())
	require.Equal(t, jobs, count(t, pool, "SELECT count(*) FROM river_job WHERE state = 'available'"))
}

func TestATakenOverJobIsWorkedWithItsCountOfAttempts(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	workers, worked := newWorkers()
	claim(t, pool, 1, "dead")
	client := newClient(t, pool, "me", map[string]int{jobqueue.QueueRisk: 1}, workers)
	start(t, client)
	reap(t, pool)
	got := receive(t, worked)
	require.Equal(t, 1, got.Args.N)
	require.Equal(t, 2, got.Attempt, "its worker knows that it ran before")
}

func TestSilenceSaysNothingRightAfterTheDatabaseWasAway(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	me := newInstance(pool, "me")
	require.NoError(t, me.BeatOnce(t.Context()))
	claim(t, pool, 1, "not back yet")
	away, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, me.BeatOnce(away))
	for range jobqueue.CalmRounds {
		require.NoError(t, me.ReapOnce(t.Context()))
		require.Equal(t, 1, count(t, pool, "SELECT count(*) FROM river_job WHERE state = 'running'"))
	}
	require.NoError(t, me.ReapOnce(t.Context()))
	require.Zero(t, count(t, pool, "SELECT count(*) FROM river_job WHERE state = 'running'"))
}

// TestDeathIsFoundInTimeWhateverWasAway holds the numbers of the promise: work of a killed process goes on
// within five seconds of its death, and of the database's return.
func TestDeathIsFoundInTimeWhateverWasAway(t *testing.T) {
	t.Parallel()
	const calm = (time.Duration(jobqueue.CalmRounds) + 1) * jobqueue.BeatEvery
	const found = jobqueue.BeatEvery + jobqueue.PollUrgentEvery // a round of the reaper, and a fetch
	require.Less(t, jobqueue.SilenceMax+found, 5*time.Second)
	require.Less(t, calm+found, 5*time.Second)
	require.Greater(t, calm, jobqueue.BeatEvery+jobqueue.BeatTimeout,
		"by then everybody who lives has beaten again")
}

// TestTheOnlyProcessIsKilledAndComesBack shows that the reaper need not have outlived the death.
func TestTheOnlyProcessIsKilledAndComesBack(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	require.NoError(t, newInstance(pool, "killed").BeatOnce(t.Context()))
	claim(t, pool, 1, "killed")
	workers, worked := newWorkers()
	client := newClient(t, pool, "next", map[string]int{jobqueue.QueueRisk: 1}, workers)
	next := newInstance(pool, "next")
	require.NoError(t, next.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, next.Stop(context.WithoutCancel(t.Context()))) })
	start(t, client)
	got := receive(t, worked)
	require.Equal(t, 2, got.Attempt)
	var last time.Time
	require.NoError(t, pool.QueryRow(t.Context(),
		"SELECT heartbeat_at FROM instances WHERE id = 'killed'").Scan(&last))
	silence := got.AttemptedAt.Sub(last)
	t.Logf("worked again %s after the last heartbeat", silence)
	require.Greater(t, silence, jobqueue.SilenceMax)
	require.Less(t, silence, 15*time.Second, "five are promised, and this machine may be busy")
}

func TestAnInstanceThatWasAsleepTakesNothingOverBeforeItBeats(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	silent(t, pool, "asleep", time.Hour)
	claim(t, pool, 1, "asleep")
	me := newInstance(pool, "asleep")
	require.NoError(t, me.ReapOnce(t.Context()))
	require.NoError(t, me.BeatOnce(t.Context()))
	require.NoError(t, me.ReapOnce(t.Context()))
	require.Equal(t, 1, count(t, pool, "SELECT count(*) FROM river_job WHERE state = 'running'"))
}

func TestAJobThatItsLivingWorkerDoesNotHaveIsTakenOver(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	claim(t, pool, 1, "me")
	claim(t, pool, 2, "me")
	_, err := pool.Exec(t.Context(), `
UPDATE river_job SET attempted_at = clock_timestamp() - $1::interval WHERE args ->> 'n' = '1'`,
		pgtx.Interval(jobqueue.RunMax))
	require.NoError(t, err)
	reap(t, pool)
	require.Equal(t, 1, count(t, pool, `
SELECT count(*) FROM river_job WHERE state = 'available' AND args ->> 'n' = '1'`))
	require.Equal(t, 1, count(t, pool, "SELECT count(*) FROM river_job WHERE state = 'running'"))
}

// TestAJobThatIsNotInHandIsTakenOverSoon is that of a fetch whose reply was lost with its connection.
func TestAJobThatIsNotInHandIsTakenOverSoon(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	me := newInstance(pool, "me")
	var passed atomic.Int64
	me.Hand = jobqueue.NewHand(func() time.Time { return time.Unix(0, passed.Load()) })
	for n, by := range []string{"me", "me", "me", "me", "other"} {
		claim(t, pool, n+1, by)
	}
	require.NoError(t, newInstance(pool, "other").BeatOnce(t.Context()))
	_, err := pool.Exec(t.Context(), `
UPDATE river_job SET attempted_at = clock_timestamp() - $1::interval WHERE args ->> 'n' <> '4'`,
		pgtx.Interval(jobqueue.LostAfter))
	require.NoError(t, err)
	job := func(n string) int64 {
		var id int64
		require.NoError(t, pool.QueryRow(t.Context(), `
SELECT id FROM river_job WHERE args ->> 'n' = $1 AND state = 'running'`, n).Scan(&id))
		return id
	}
	me.Hand.Take(job("1"))
	me.Hand.Take(job("2"))()
	taken := func() string {
		require.NoError(t, me.BeatOnce(t.Context()))
		require.NoError(t, me.ReapOnce(t.Context()))
		var names string
		require.NoError(t, pool.QueryRow(t.Context(), `
SELECT coalesce(string_agg(args ->> 'n', ' ' ORDER BY args ->> 'n'), '')
  FROM river_job WHERE state = 'available'`).Scan(&names))
		return names
	}
	require.Equal(t, "3", taken(), "what is worked, has just ended, is young or another's stays")
	passed.Add(int64(jobqueue.LostAfter) + 1)
	require.Equal(t, "2 3", taken(), "an end that is not recorded for so long will not be")
	require.Len(t, me.Hand.List(), 1, "what has ended long ago is forgotten")
}

func TestAClientSaysWhatItHasInHand(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	hand := jobqueue.NewHand(time.Now) //nolint:forbidigo // a test waits by the real clock
	workers, worked := newWorkers()
	client, err := jobqueue.NewClient(jobqueue.Config{
		Pool: pool, ID: "me", InHand: map[string]int{jobqueue.QueueRisk: 1}, Workers: workers,
		Log: slog.New(slog.DiscardHandler), Hand: hand,
		Now: time.Now, //nolint:forbidigo // a test waits by the real clock
	})
	require.NoError(t, err)
	start(t, client)
	enqueue(t, pool, job(jobqueue.QueueRisk, 1, now(t, pool)))
	require.Equal(t, []int64{receive(t, worked).ID}, hand.List())
}

func TestAnInstanceBeatsFromStartToStop(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	me := newInstance(pool, "me")
	var reaped atomic.Int64
	me.Reaped = func(jobs int64) { reaped.Add(jobs) }
	require.NoError(t, me.Start(t.Context()))
	const beats = "SELECT count(*) FROM instances WHERE id = 'me' AND heartbeat_at > started_at"
	claim(t, pool, 1, "dead")
	claim(t, pool, 2, "me")
	require.Eventually(t, func() bool {
		return count(t, pool, beats) == 1 && reaped.Load() == 1
	}, waitMax, 5*time.Millisecond)
	require.NoError(t, me.Stop(t.Context()))
	require.Zero(t, count(t, pool, "SELECT count(*) FROM instances"))
	require.Equal(t, 1, count(t, pool, "SELECT count(*) FROM river_job WHERE state = 'running'"))
}

func TestThoseWhoAreLongGoneAreForgottenAndMayComeBack(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	silent(t, pool, "gone", time.Hour)
	silent(t, pool, "dead", 2*jobqueue.SilenceMax)
	reap(t, pool)
	require.Equal(t, 2, count(t, pool, "SELECT count(*) FROM instances"), "people should see the dead one")
	require.NoError(t, newInstance(pool, "gone").BeatOnce(t.Context()))
	require.Equal(t, 3, count(t, pool, "SELECT count(*) FROM instances"))
}

func TestAnInstanceThatCannotBeatDoesNotStart(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	_, err := pool.Exec(t.Context(), "DROP TABLE instances")
	require.NoError(t, err)
	require.ErrorContains(t, newInstance(pool, "me").Start(t.Context()), "write heartbeat of me")
	require.ErrorContains(t, newInstance(pool, "me").ReapOnce(t.Context()), "take over jobs of dead workers")
}

func TestWhoIsSilentIsToldUntilItIsForgotten(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	me := newInstance(pool, "me")
	var told [][]string
	me.Silent = func(_ context.Context, ids []string) error {
		told = append(told, ids)
		return nil
	}
	silent(t, pool, "well", time.Second)
	require.NoError(t, me.BeatOnce(t.Context()))
	require.NoError(t, me.ReapOnce(t.Context()))
	require.Empty(t, told)
	silent(t, pool, "dead", 4*time.Second)
	silent(t, pool, "long dead", time.Minute)
	require.NoError(t, me.ReapOnce(t.Context()))
	require.NoError(t, me.ReapOnce(t.Context()))
	require.Equal(t, [][]string{{"dead", "long dead"}, {"dead"}}, told)

	me.Silent = func(context.Context, []string) error { return errors.New("not now") }
	require.ErrorContains(t, me.ReapOnce(t.Context()), "not now")
}
