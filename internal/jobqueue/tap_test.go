package jobqueue_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/jobqueue"
	"example.com/holdfast/internal/pgtest"
)

// tapped is a client with some jobs in hand, and its tap.
func tapped(t *testing.T, pool *pgxpool.Pool, id string) (*river.Client[pgx.Tx], *jobqueue.Tap) {
	t.Helper()
	const most = 10
	workers, _ := newWorkers()
	client := newClient(t, pool, id, map[string]int{jobqueue.QueueNotification: most}, workers)
	return client, jobqueue.NewTap(client, jobqueue.QueueNotification, most)
}

// turn turns a tap.
func turn(t *testing.T, tap *jobqueue.Tap, share float64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	require.NoError(t, tap.Set(ctx, share))
}

// workedBy waits until so many jobs are done, and says how many of them a client has had.
func workedBy(t *testing.T, pool *pgxpool.Pool, id string, all int) int {
	t.Helper()
	waitFor(t, pool, all, "SELECT count(*) FROM river_job WHERE state = 'completed'")
	return count(t, pool, fmt.Sprintf("SELECT count(*) FROM river_job WHERE '%s' = ANY (attempted_by)", id))
}

func enqueueMany(t *testing.T, pool *pgxpool.Pool, n int) {
	t.Helper()
	for i := range n {
		enqueue(t, pool, job(jobqueue.QueueNotification, i, now(t, pool)))
	}
}

func TestATapThatIsClosedFetchesNothingAndOpensAgain(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	one, first := tapped(t, pool, "one")
	other, second := tapped(t, pool, "other")
	turn(t, first, 0) // before the start
	start(t, one)
	start(t, other)
	enqueueMany(t, pool, 20)
	require.Zero(t, workedBy(t, pool, "one", 20))
	turn(t, first, 0.25)
	turn(t, second, 0)
	turn(t, second, 0)
	enqueueMany(t, pool, 20)
	require.Equal(t, 20, workedBy(t, pool, "one", 40))
	turn(t, first, 1)
	enqueueMany(t, pool, 20)
	require.Equal(t, 40, workedBy(t, pool, "one", 60))
}

func TestATapWaitsForWhatIsInHandAndTakesNothingMeanwhile(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	begun, release := make(chan struct{}, 10), make(chan struct{})
	workers := river.NewWorkers()
	river.AddWorker(workers, &scriptedWorker{work: func(context.Context, *river.Job[ping]) error {
		begun <- struct{}{}
		<-release
		return nil
	}})
	client := newClient(t, pool, "me", map[string]int{jobqueue.QueueNotification: 1}, workers)
	start(t, client)
	tap := jobqueue.NewTap(client, jobqueue.QueueNotification, 1)
	enqueueMany(t, pool, 1)
	<-begun
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	require.ErrorIs(t, tap.Set(ctx, 0), context.DeadlineExceeded)
	enqueueMany(t, pool, 1)
	close(release)
	turn(t, tap, 0)
	require.Equal(t, 1, count(t, pool, "SELECT count(*) FROM river_job WHERE state = 'available'"))
	turn(t, tap, 1)
	waitFor(t, pool, 2, "SELECT count(*) FROM river_job WHERE state = 'completed'")
}
