package transfer_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/groupcommit"
	"example.com/holdfast/internal/outbound/risk"
	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/internal/transfer/transfertest"
)

func TestAWorkerThatStopsWritesDownThatItHeardNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.StartWorker(t, "first")
	release := w.Risk.Hold()
	id := w.Create(t, "k1", 250)
	<-w.Risk.Entered()
	require.NoError(t, first.Stop(t.Context()))
	require.EqualValues(t, 1, w.Get(t, id).Attempts)
	require.Positive(t, w.Count(t, "SELECT count(*) FROM river_job WHERE state = 'available'"),
		"the sweeper is not needed for a stop that was asked for")
	require.Zero(t, w.Count(t, "SELECT count(*) FROM river_job WHERE state = 'running'"))

	release()
	w.StartWorker(t, "second")
	require.Equal(t, transfer.Settled, w.WaitTerminal(t, id).State)
	w.WaitQuiet(t)
	require.Equal(t, transfertest.Calls{Sends: 1, Finds: 1, Effects: 1}, w.Risk.Calls(w.screenKey(id)))
	w.CheckInvariants(t)
}

func TestAnAnswerThatComesWhileTheWorkerStopsIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.Create(t, "k1", 250)
	ctx, cancel := context.WithCancel(t.Context())
	w.Risk.Decide(func(risk.Request) risk.Decision {
		cancel()
		return risk.Decision{Outcome: risk.OutcomeApprove}
	})
	require.NoError(t, w.Transfers.RunJob(ctx, "transfer_screen", 1, 1, w.jobArgs(t, "transfer_screen")))
	require.Equal(t, transfer.Settled, w.Get(t, id).State)
	w.runAll(t.Context(), t)
	w.CheckInvariants(t)
}

func TestAStepOfAStoppedServiceIsLeftToOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.Create(t, "k1", 250)
	stopped := transfer.NewService(w.Config(t, "stopped"))
	stopped.Start(t.Context())
	stopped.Stop()
	w.Exec(t, "UPDATE river_job SET state = 'running', attempt = 1, attempted_by = '{stopped}'")
	job := w.Count(t, "SELECT id FROM river_job")
	args := w.jobArgs(t, "transfer_screen")
	require.NoError(t, stopped.RunJob(t.Context(), "transfer_screen", job, 1, args))
	require.EqualValues(t, 1, w.Count(t, `
SELECT count(*) FROM river_job j JOIN river_job old USING (args, scheduled_at, priority)
 WHERE j.state = 'available' AND j.attempt = 1 AND old.id = $1`, job), "given back, as old as it was")
	w.finish(t, job, "completed")
	_, err := stopped.Create(t.Context(), w.Request("k2", w.Item(1)))
	require.ErrorIs(t, err, groupcommit.ErrStopped)
	w.runAll(t.Context(), t)
	require.Equal(t, transfer.Settled, w.Get(t, id).State)
	w.CheckInvariants(t)
}

func TestAJobThatAStopKeptFromBeingReadIsGivenBackAsItIs(t *testing.T) {
	t.Parallel()
	for attempt, again := range map[int]int{1: 0, 2: 1} {
		w := newWorld(t)
		w.Create(t, "k1", 250)
		w.Exec(t, "UPDATE river_job SET state = 'running', attempted_by = '{stopped}'")
		job := w.Count(t, "SELECT id FROM river_job")
		args := w.jobArgs(t, "transfer_screen")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.NoError(t, w.Transfers.RunJob(ctx, "transfer_screen", job, attempt, args))
		require.EqualValues(t, 1, w.Count(t, `
SELECT count(*) FROM river_job j JOIN river_job old USING (args, scheduled_at, priority)
 WHERE j.state = 'available' AND j.attempt = $2 AND old.id = $1`, job, again))
	}
}

func TestPoisonousJobsHarmNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.StartWorker(t, "worker")
	for kind, args := range map[string]string{
		"transfer_screen": `"text"`,
		"transfer_settle": `{"transfers": {"no uuid": ["no uuid"]}}`,
		"transfer_notify": `{"transfers": {"` + w.Tenant.String() + `": ["` + w.From.String() + `"]}}`,
		"transfer_dance":  `{}`,
	} {
		w.Exec(t, `INSERT INTO river_job (args, kind, max_attempts, queue, state)
		           VALUES ($1, $2, 1, 'risk_api', 'available')`, []byte(args), kind)
	}
	id := w.Create(t, "k1", 250)
	require.Equal(t, transfer.Settled, w.WaitTerminal(t, id).State)
	transfertest.Eventually(t, "the poison is put aside", func() bool {
		return w.Count(t, "SELECT count(*) FROM river_job WHERE state = 'discarded'") == 3
	})
	w.WaitQuiet(t)
	w.CheckInvariants(t)
}
