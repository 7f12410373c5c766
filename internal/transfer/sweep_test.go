package transfer_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/outbound"
	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/internal/transfer/transfertest"
)

// age lets every row and job look as old as an interval says, so that the sweeper's grace is over.
func (w world) age(t *testing.T, interval string) {
	t.Helper()
	w.Exec(t, "UPDATE transfers SET wake_at = wake_at - $1::interval WHERE wake_at IS NOT NULL", interval)
	w.Exec(t, "UPDATE river_job SET scheduled_at = scheduled_at - $1::interval", interval)
}

func (w world) sweepOnce(t *testing.T) int {
	t.Helper()
	n, err := w.Transfers.Sweep(t.Context())
	require.NoError(t, err)
	return n
}

func TestALostJobIsWokenAgainOnceAfterTheGrace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 3 {
		w.Create(t, fmt.Sprint("k", i), 1)
	}
	w.Exec(t, "DELETE FROM river_job")
	require.Zero(t, w.sweepOnce(t), "within the grace the job may still come")
	w.age(t, "1 minute")
	require.NotEmpty(t, w.Breaks(t, invariantNamed(t, "transfer_never_forgotten")))
	require.Equal(t, 3, w.sweepOnce(t))
	require.EqualValues(t, 1, w.Count(t, "SELECT count(*) FROM river_job"), "they share a job")
	require.Zero(t, w.sweepOnce(t))
	w.age(t, "1 minute")
	require.Zero(t, w.sweepOnce(t), "now they have a job, however old")
	w.runAll(t.Context(), t)
	require.EqualValues(t, 3, w.Count(t, "SELECT count(*) FROM transfers WHERE state = 'settled'"))
	w.CheckInvariants(t)
}

func TestEveryStepIsFoundByTheSweeper(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	review := w.inReview(t, "k1", 1)
	w.act(t, "a1", review, transfer.Approve, "fine") // waits for transfer_settle
	w.Create(t, "k2", 1)                             // waits for transfer_screen
	ended := w.Create(t, "k3", 1)
	w.act(t, "c3", ended, transfer.Cancel, "") // waits for transfer_notify
	w.Exec(t, "DELETE FROM river_job")
	w.age(t, "1 minute")
	require.Equal(t, 3, w.sweepOnce(t))
	require.EqualValues(t, 3, w.Count(t, "SELECT count(DISTINCT kind) FROM river_job"))
	w.runAll(t.Context(), t)
	require.Zero(t, w.Count(t, "SELECT count(*) FROM transfers WHERE wake_at IS NOT NULL"))
	w.CheckInvariants(t)
}

func TestABacklogIsNotTakenForForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const backlog = 40
	for i := range backlog { // jobs and rows of many ages, and nobody works
		w.Create(t, fmt.Sprint("k", i), 1)
		w.age(t, "10 seconds")
	}
	require.EqualValues(t, backlog, w.Count(t, "SELECT count(*) FROM river_job WHERE state = 'available'"))
	require.Zero(t, w.sweepOnce(t))
	w.Exec(t, "UPDATE river_job SET state = 'running' WHERE id % 2 = 0")
	require.Zero(t, w.sweepOnce(t), "what a worker has in hand is not forgotten either")
	w.Exec(t, "UPDATE river_job SET state = 'available'")
	for range 10 {
		w.runOne(t.Context(), t)
		require.Zero(t, w.sweepOnce(t))
	}
	w.runAll(t.Context(), t)
	w.CheckInvariants(t)
}

func TestARetryThatIsSetForLaterIsNotDisturbed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Risk.Always(transfertest.Fault{Kind: outbound.KindStatus5xx})
	id := w.Create(t, "k1", 1)
	for range 5 {
		w.wakeNow(t)
		w.run(t.Context(), t)
	}
	before := w.Get(t, id)
	require.Zero(t, w.sweepOnce(t))
	require.Equal(t, before, w.Get(t, id))
	require.Zero(t, w.run(t.Context(), t))
}

func TestALargeLossIsWokenInOneSweep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := make([]transfer.New, transfer.BulkMaxItems)
	for i := range items {
		items[i] = w.Item(1)
	}
	const bulks = transfer.SweepBatchRows/transfer.BulkMaxItems + 1
	for i := range bulks {
		w.create(t, fmt.Sprint("k", i), items...)
	}
	w.Exec(t, "DELETE FROM river_job")
	w.age(t, "1 minute")
	require.Equal(t, bulks*transfer.BulkMaxItems, w.sweepOnce(t))
	require.Zero(t, w.sweepOnce(t))
}

func TestTwoSweepersWakeEachRowOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const rows = 20
	for i := range rows {
		w.Create(t, fmt.Sprint("k", i), 1)
	}
	w.Exec(t, "DELETE FROM river_job")
	w.age(t, "1 minute")
	services := append(w.processes(t), w.Transfers)
	woken := 0
	for _, n := range together(12, func(i int) int {
		n, err := services[i%len(services)].Sweep(t.Context())
		if err != nil {
			return rows + 1
		}
		return n
	}) {
		woken += n
	}
	require.Equal(t, rows, woken)
	require.EqualValues(t, rows, w.Count(t, "SELECT sum(attempts) FROM transfers"))
}

// jobArgs are those of the one job of a kind.
func (w world) jobArgs(t *testing.T, kind string) []byte {
	t.Helper()
	var args []byte
	const read = "SELECT args FROM river_job WHERE kind = $1"
	require.NoError(t, w.Pool.QueryRow(t.Context(), read, kind).Scan(&args))
	return args
}

func TestWhoWasTakenForDeadFindsItsWorkDone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.Create(t, "k1", 250)
	release := w.Risk.Hold()
	stale := make(chan error)
	work := func(args []byte) { stale <- w.Transfers.RunJob(t.Context(), "transfer_screen", 1, 1, args) }
	args := w.jobArgs(t, "transfer_screen")
	go work(args) // hangs in its call
	<-w.Risk.Entered()
	w.Exec(t, "DELETE FROM river_job")
	require.Equal(t, 1, w.sweep(t))
	args = w.jobArgs(t, "transfer_screen")
	go work(args)
	<-w.Risk.Entered()
	release()
	require.NoError(t, <-stale, "who comes too late reports success")
	require.NoError(t, <-stale)
	w.runAll(t.Context(), t)
	require.Equal(t, transfer.Settled, w.Get(t, id).State)
	require.Equal(t, 1, w.Risk.Calls(w.screenKey(id)).Effects)
	require.Equal(t, 1, w.Notify.Calls(w.notifyKey(id)).Effects)
	w.CheckInvariants(t)
}
