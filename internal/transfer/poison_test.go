package transfer_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/outbound"
	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/internal/transfer/transfertest"
)

func TestWhatBreaksAgainAndAgainIsGivenUpWithItsReason(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Risk.Always(transfertest.Fault{Panics: true})
	poison := w.Create(t, "k1", 250)
	w.runAll(t.Context(), t)
	got := w.Get(t, poison)
	require.Equal(t, transfer.Failed, got.State)
	require.Equal(t, transfer.ReasonPoison, got.Reason)
	posted, held := w.Balance(t, w.From)
	require.Equal(t, []int64{transfertest.Funds, 0}, []int64{posted, held})
	require.Equal(t, transfer.NotificationSent, got.Notification, "its end is told like any other")

	w.Risk.Always(transfertest.Fault{})
	w.Notify.Always(transfertest.Fault{Panics: true})
	mute := w.Create(t, "k2", 250)
	w.runAll(t.Context(), t)
	got = w.Get(t, mute)
	require.Equal(t, transfer.Settled, got.State)
	require.Equal(t, transfer.NotificationFailed, got.Notification)

	dead, err := w.Transfers.DeadLetters(t.Context(), 10)
	require.NoError(t, err)
	require.Len(t, dead, 2)
	require.Equal(t, mute, dead[0].ID, "the latest first")
	require.Equal(t, poison, dead[1].ID)

	attempts, err := w.Transfers.Attempts(t.Context(), w.ref(poison))
	require.NoError(t, err)
	require.Len(t, attempts, transfer.BrokenMax-1, "the last one is the end's own event")
	require.Equal(t, []string{"screen", "broken"}, []string{attempts[0].Step, attempts[0].Kind})
	require.Contains(t, attempts[0].Detail, "panics")
	w.CheckInvariants(t)
}

func TestAPoisonousPayoutIsParkedAndSeen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.settling(t)
	w.Rail.Always(transfertest.Fault{Panics: true})
	for range transfer.BrokenMax {
		w.wakeNow(t)
		w.run(t.Context(), t)
	}
	got := w.Get(t, id)
	require.Equal(t, transfer.Settling, got.State, "its money may have left")
	require.EqualValues(t, transfer.BrokenMax, got.Failures)
	dead, err := w.Transfers.DeadLetters(t.Context(), 10)
	require.NoError(t, err)
	require.Len(t, dead, 1)

	w.Rail.Always(transfertest.Fault{})
	w.runAll(t.Context(), t)
	require.Equal(t, transfer.Settled, w.Get(t, id).State)
	dead, err = w.Transfers.DeadLetters(t.Context(), 10)
	require.NoError(t, err)
	require.Empty(t, dead)
	w.requireOneEffect(t, id)
}

func TestALockThatOthersHoldIsNobodysFault(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hasty := w.hasty(t)
	id := w.Create(t, "k1", 250)
	tx, err := w.DB.Pool.Begin(t.Context()) //nolint:forbidigo // somebody else's transaction
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) })
	_, err = tx.Exec(t.Context(), "SELECT FROM balances WHERE account_id = $1 FOR UPDATE", w.From)
	require.NoError(t, err)
	own := w
	own.Bundle = &transfertest.Bundle{}
	*own.Bundle = *w.Bundle
	own.Transfers = hasty
	for n := range transfer.BrokenMax + 1 {
		own.wakeNow(t)
		require.Equal(t, 1, own.run(t.Context(), t))
		got := w.Get(t, id)
		require.Equal(t, []int32{int32(n) + 1, 0}, []int32{got.Attempts, got.Failures})
		require.True(t, got.WakeAt.After(got.UpdatedAt), "the next try has its time")
	}
	dead, err := w.Transfers.DeadLetters(t.Context(), 10)
	require.NoError(t, err)
	require.Empty(t, dead)
	require.NoError(t, tx.Rollback(t.Context()))

	w.runAll(t.Context(), t)
	require.Equal(t, transfer.Settled, w.Get(t, id).State)
	require.Equal(t, 1, w.Risk.Calls(w.screenKey(id)).Sends)
	attempts, err := w.Transfers.Attempts(t.Context(), w.ref(id))
	require.NoError(t, err)
	require.Equal(t, "held_up", attempts[0].Kind)
	w.CheckInvariants(t)
}

func TestWhatIsHeldUpForTooLongBreaks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.Create(t, "k1", 250)
	w.Exec(t, `INSERT INTO events (tenant_id, aggregate_id, seq, type, to_state, actor, at)
	           SELECT tenant_id, id, 2, 'forged', 'forged', 'bug', now() FROM transfers`)
	for range transfer.PassingMax + transfer.BrokenMax { // each move looks as if another was faster
		w.wakeNow(t)
		w.run(t.Context(), t)
	}
	got := w.Get(t, id)
	require.EqualValues(t, transfer.BrokenMax, got.Failures)
	require.EqualValues(t, transfer.PassingMax+transfer.BrokenMax, got.Attempts)
	require.Equal(t, got.PromiseAt, got.WakeAt, "its end breaks too, so it is parked within its promise")
}

func TestAPoisonWhoseEndBreaksTooIsParkedAndSeen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Risk.Always(transfertest.Fault{Panics: true})
	w.Exec(t, "ALTER TABLE transfers ADD CONSTRAINT bug CHECK (reason <> 'poison')")
	id := w.Create(t, "k1", 250)
	for range transfer.BrokenMax {
		w.wakeNow(t)
		w.run(t.Context(), t)
	}
	got := w.Get(t, id)
	require.Equal(t, transfer.Accepted, got.State)
	require.EqualValues(t, transfer.BrokenMax, got.Failures)
	require.Equal(t, got.PromiseAt, got.WakeAt, "within the promise it is not tried again at once")
	dead, err := w.Transfers.DeadLetters(t.Context(), 10)
	require.NoError(t, err)
	require.Len(t, dead, 1)

	w.Exec(t, "ALTER TABLE transfers DROP CONSTRAINT bug")
	w.runAll(t.Context(), t)
	require.Equal(t, transfer.ReasonPoison, w.Get(t, id).Reason)
	w.CheckInvariants(t)
}

func TestWhatADependencyHasNoPlaceForIsGivenBackAsItIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	full := transfertest.Fault{Kind: outbound.KindFull}
	w.Risk.Next(full, full)
	answers := transfertest.ReadAll(t, w.create(t, "k1", w.Item(1), w.Item(2), w.Item(3)))
	before := make([]transfer.Transfer, len(answers))
	for i, a := range answers {
		before[i] = w.Get(t, a.ID)
	}
	require.True(t, w.runOne(t.Context(), t))
	open := 0
	for _, was := range before {
		if got := w.Get(t, was.ID); got.State == transfer.Accepted {
			require.Equal(t, was, got, "nothing is written down about it")
			open++
		}
	}
	require.Equal(t, 2, open)
	require.EqualValues(t, 1, w.Count(t, `
SELECT count(*) FROM river_job j JOIN river_job old USING (kind, queue, priority, scheduled_at)
 WHERE j.state = 'available' AND j.attempt = 0 AND old.state = 'completed'`), "one job, as old as it was")
	w.runAll(t.Context(), t)
	for _, a := range answers {
		require.Equal(t, transfer.Settled, w.Get(t, a.ID).State)
		require.Equal(t, transfertest.Calls{Sends: 1, Effects: 1}, w.Risk.Calls(w.screenKey(a.ID)))
	}
	w.CheckInvariants(t)
}

func TestWhatHasNoPlaceDoesNotWaitForTheCallsOfItsNeighbours(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	answers := transfertest.ReadAll(t, w.create(t, "k1", w.Item(1), w.Item(2)))
	release := w.Risk.Hold()
	w.Risk.Next(transfertest.Fault{}, transfertest.Fault{Kind: outbound.KindFull})
	worker := w.StartWorker(t, "worker")
	transfertest.Eventually(t, "the one without a place is given back", func() bool {
		return w.Count(t, "SELECT count(*) FROM river_job WHERE state = 'running'") == 2
	})
	release()
	w.WaitQuiet(t)
	require.NoError(t, worker.Stop(t.Context()))
	for _, a := range answers {
		require.Equal(t, transfer.Settled, w.Get(t, a.ID).State)
		require.Equal(t, 1, w.Risk.Calls(w.screenKey(a.ID)).Sends)
	}
	w.CheckInvariants(t)
}

func TestTheLedgerOfAttemptsTellsEveryCallInVain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Risk.Next(
		transfertest.Fault{Kind: outbound.KindTimeout},
		transfertest.Fault{Kind: outbound.KindOpen}, // not made, so not in the ledger
		transfertest.Fault{Kind: outbound.KindStatus5xx},
	)
	id := w.settled(t, 250)
	attempts, err := w.Transfers.Attempts(t.Context(), w.ref(id))
	require.NoError(t, err)
	require.Len(t, attempts, 2)
	require.Equal(t, []string{"timeout", "status_5xx"}, []string{attempts[0].Kind, attempts[1].Kind})
	require.Equal(t, "screen", attempts[0].Step)
	quiet := w.Create(t, "k2", 1)
	tried, err := w.Transfers.Tried(t.Context(), []transfer.Ref{w.ref(id), w.ref(quiet)})
	require.NoError(t, err)
	require.Equal(t, map[transfer.Ref]transfer.Tried{w.ref(id): {Times: 2, Last: attempts[1]}}, tried)

	w.Exec(t, "UPDATE transfer_attempts SET at = now() - interval '8 days' WHERE kind = 'timeout'")
	require.NoError(t, w.Transfers.CleanUp(t.Context()))
	attempts, err = w.Transfers.Attempts(t.Context(), w.ref(id))
	require.NoError(t, err)
	require.Len(t, attempts, 1)
}
