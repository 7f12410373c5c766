package transfer_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/internal/transfer/transfertest"
)

func TestAReviewIsDecidedByAnOperator(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct {
		event transfer.Event
		want  transfer.State
	}{
		{transfer.Approve, transfer.Settled},
		{transfer.Block, transfer.Blocked},
		{transfer.Cancel, transfer.Canceled},
	} {
		event, want := c.event, c.want
		id := w.inReview(t, "k"+string(event), 250)
		require.Equal(t, "large", w.Get(t, id).Reason)
		reviews, err := w.Transfers.Reviews(t.Context(), 10)
		require.NoError(t, err)
		require.Len(t, reviews, 1)
		require.Equal(t, id, reviews[0].ID)

		w.act(t, "a"+string(event), id, event, "looked at it")
		w.runAll(t.Context(), t)
		got := w.Get(t, id)
		require.Equal(t, want, got.State)
		require.Equal(t, "looked at it", got.Reason)
		require.Equal(t, "ref-"+id.String(), got.RiskReference)
		_, held := w.Balance(t, w.From)
		require.Zero(t, held)
	}
	posted, _ := w.Balance(t, w.To)
	require.Equal(t, transfertest.Funds+250, posted, "only the approved one was paid")
	w.CheckInvariants(t)
}

func TestAReviewThatNobodyDecidesExpires(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.inReview(t, "k1", 250)
	require.Zero(t, w.run(t.Context(), t), "its job is for the end of the review")
	w.wakeNow(t)
	w.run(t.Context(), t)
	require.Equal(t, transfer.InReview, w.Get(t, id).State, "a job that comes early changes nothing")

	w.endPromise(t)
	w.Exec(t, `UPDATE transfers SET wake_at = now() - interval '1 minute'`)
	n, err := w.Transfers.Sweep(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, n)
	w.runAll(t.Context(), t)
	got := w.Get(t, id)
	require.Equal(t, transfer.Expired, got.State)
	require.Equal(t, transfer.ReasonDeadline, got.Reason)
	require.EqualValues(t, 1, w.Count(t, "SELECT count(*) FROM holds WHERE status = 'expired'"))
	w.CheckInvariants(t)
}

func TestADecisionAfterTheDeadlineFindsTheEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.inReview(t, "k1", 250)
	w.endPromise(t)
	require.Equal(t, transfer.Expired, w.act(t, "a1", id, transfer.Approve, "too late").State)
	w.runAll(t.Context(), t)
	w.CheckInvariants(t)
}

func TestAnActionIsDoneOnceAndAnsweredTheSame(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.Create(t, "k1", 250)
	first, err := w.Transfers.Act(t.Context(), w.Action("c1", id, transfer.Cancel, ""))
	require.NoError(t, err)
	again, err := w.Transfers.Act(t.Context(), w.Action("c1", id, transfer.Cancel, ""))
	require.NoError(t, err)
	require.True(t, again.Replayed)
	require.Equal(t, first.Body, again.Body)
	require.Equal(t, "cancel", w.Get(t, id).Reason, "an end has a reason even if nobody gives one")
	require.EqualValues(t, 2, w.Count(t, "SELECT count(*) FROM events WHERE aggregate_id = $1", id))

	other := w.Create(t, "k2", 1)
	_, err = w.Transfers.Act(t.Context(), w.Action("c1", other, transfer.Cancel, ""))
	require.True(t, problem.Is(err, problem.KeyReused))
	w.runAll(t.Context(), t)
	w.CheckInvariants(t)
}

func TestIllegalActionsAreStoredRefusalsAndNeverSilent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ended := w.settled(t, 1)
	open, before := w.Create(t, "k2", 1), w.Get(t, ended)
	for key, c := range map[string]struct {
		id    uuid.UUID
		event transfer.Event
	}{
		"cancel ended":  {ended, transfer.Cancel},
		"approve ended": {ended, transfer.Approve},
		"block ended":   {ended, transfer.Block},
	} {
		for range 2 {
			require.Equal(t, problem.IllegalTransition, w.act(t, key, c.id, c.event, "").Code, key)
		}
	}
	require.Equal(t, before, w.Get(t, ended))
	for _, e := range []transfer.Event{transfer.Settle, transfer.Expire, transfer.Fail, transfer.Review} {
		_, err := w.Transfers.Act(t.Context(), w.Action("x"+string(e), open, e, ""))
		require.Error(t, err, "%s is not for people", e)
	}
	_, err := w.Transfers.Act(t.Context(), w.Action("nobody", uuid.New(), transfer.Cancel, ""))
	require.True(t, problem.Is(err, problem.NotFound))
	_, err = w.Transfers.Act(t.Context(), w.Action("text", open, transfer.Cancel, "a\x00"))
	require.True(t, problem.Is(err, problem.ValidationFailed))
	w.CheckInvariants(t)
}

func TestAnApprovedTransferHasANewPromise(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.inReview(t, "k1", 250)
	review := w.Get(t, id)
	require.Equal(t, 24*time.Hour, review.PromiseAt.Sub(review.UpdatedAt))
	require.Equal(t, review.PromiseAt, review.WakeAt)
	w.act(t, "a1", id, transfer.Approve, "fine")
	approved := w.Get(t, id)
	require.Equal(t, time.Minute, approved.PromiseAt.Sub(approved.UpdatedAt))
	require.Equal(t, transfer.Canceled, w.act(t, "c1", id, transfer.Cancel, "changed my mind").State)
	w.runAll(t.Context(), t)
	w.CheckInvariants(t)
}
