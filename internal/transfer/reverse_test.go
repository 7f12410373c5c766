package transfer_test

import (
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/outbound/risk"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/internal/transfer/transfertest"
)

func TestAFullReversalTakesEverythingBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.settled(t, 250)
	back := transfertest.Read(t, w.reverse(t, "r1", id, 0)).ID
	require.EqualValues(t, 250, w.Get(t, id).Reversed, "at once, so that nobody reverses it again")
	w.runAll(t.Context(), t)
	got := w.Get(t, back)
	require.Equal(t, transfer.Settled, got.State)
	require.Equal(t, id, got.Reverses)
	require.Equal(t, []uuid.UUID{w.To, w.From}, []uuid.UUID{got.FromAccount, got.ToAccount})
	posted, held := w.Balance(t, w.From)
	require.Equal(t, []int64{transfertest.Funds, 0}, []int64{posted, held})
	w.CheckInvariants(t)
}

func TestPartsAreReversedUpToTheWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.settled(t, 250)
	for i, c := range []struct {
		amount int64
		code   problem.Code
	}{
		{100, ""},
		{151, problem.ReversalTooLarge},
		{50, ""},
		{0, ""}, // the rest
		{1, problem.ReversalTooLarge},
		{0, problem.ReversalTooLarge},
	} {
		response := w.reverse(t, fmt.Sprint("r", i), id, c.amount)
		require.Equal(t, c.code, transfertest.Read(t, response).Code, "reversal %d", i)
		w.runAll(t.Context(), t)
	}
	posted, _ := w.Balance(t, w.To)
	require.Equal(t, transfertest.Funds, posted)
	require.EqualValues(t, 4, w.Count(t, "SELECT count(*) FROM transfers"))
	w.CheckInvariants(t)
}

func TestARepeatedReversalAnswersTheSameAndMovesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.settled(t, 250)
	first := w.reverse(t, "r1", id, 0)
	w.runAll(t.Context(), t)
	before := w.tables(t)
	again := w.reverse(t, "r1", id, 0)
	require.True(t, again.Replayed)
	require.Equal(t, first.Body, again.Body)
	require.Equal(t, first.Status, again.Status)
	require.Equal(t, before, w.tables(t))

	require.Equal(t, problem.ReversalTooLarge, transfertest.Read(t, w.reverse(t, "r2", id, 0)).Code)
	before["idempotency_keys"]++ // the refusal is an outcome
	require.Equal(t, before, w.tables(t))
	w.CheckInvariants(t)
}

func TestConcurrentReversalsStayWithinTheWhole(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		amount   int64
		accepted int
	}{"parts": {30, 8}, "all that is left": {0, 1}} {
		w := newWorld(t)
		id := w.settled(t, 250)
		api := w.processes(t)
		accepted := 0
		for _, o := range together(20, func(i int) outcome {
			response, err := api[i%2].Reverse(t.Context(), w.Reversal(fmt.Sprint("r", i), id, c.amount))
			return outcome{response, err}
		}) {
			require.NoError(t, o.err, name)
			if code := transfertest.Read(t, o.response).Code; code == "" {
				accepted++
			} else {
				require.Equal(t, problem.ReversalTooLarge, code, name)
			}
		}
		require.Equal(t, c.accepted, accepted, name)
		w.runAll(t.Context(), t)
		w.CheckInvariants(t)
	}
}

func TestOnlySettledTransfersAreReversed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	open := w.Create(t, "k1", 250)
	code := func(key string, id uuid.UUID) problem.Code {
		return transfertest.Read(t, w.reverse(t, key, id, 0)).Code
	}
	require.Equal(t, problem.NotReversible, code("r1", open))
	w.runAll(t.Context(), t)
	require.Equal(t, problem.NotReversible, code("r1", open), "the refusal is stored")
	back := transfertest.Read(t, w.reverse(t, "r2", open, 0)).ID
	w.runAll(t.Context(), t)
	require.Equal(t, problem.NotReversible, code("r3", back), "a reversal is corrected by a new transfer")

	w.Risk.Answer(risk.OutcomeBlock, "fraud")
	blocked := w.Create(t, "k2", 1)
	w.runAll(t.Context(), t)
	require.Equal(t, problem.NotReversible, code("r4", blocked))

	_, err := w.Transfers.Reverse(t.Context(), w.Reversal("r5", uuid.New(), 0))
	require.True(t, problem.Is(err, problem.NotFound))
	w.CheckInvariants(t)
}

func TestAReversalThatDoesNotSettleGivesItsAmountBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.settled(t, 250)
	ends := []struct {
		state transfer.State
		end   func(back uuid.UUID)
	}{
		{transfer.Blocked, func(uuid.UUID) {
			w.Risk.Answer(risk.OutcomeBlock, "fraud")
			w.runAll(t.Context(), t)
		}},
		{transfer.Canceled, func(back uuid.UUID) { w.act(t, "cancel", back, transfer.Cancel, "") }},
		{transfer.Expired, func(uuid.UUID) { w.endPromise(t); w.runAll(t.Context(), t) }},
		{transfer.Failed, func(uuid.UUID) {
			w.Exec(t, "UPDATE balances SET status = 'closed' WHERE account_id = $1", w.From)
			w.Risk.Answer(risk.OutcomeApprove, "")
			w.runAll(t.Context(), t)
			w.Exec(t, "UPDATE balances SET status = 'active' WHERE account_id = $1", w.From)
		}},
	}
	for i, e := range ends {
		back := transfertest.Read(t, w.reverse(t, fmt.Sprint("r", i), id, 0)).ID
		require.EqualValues(t, 250, w.Get(t, id).Reversed)
		e.end(back)
		require.Equal(t, e.state, w.Get(t, back).State)
		require.Zero(t, w.Get(t, id).Reversed, e.state)
		w.CheckInvariants(t)
	}
}

func TestAReversalNeedsTheFundsOfTheReceiver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	poor := w.Account(t, 0)
	item := w.Item(250)
	item.ToAccount = poor
	id := transfertest.Read(t, w.create(t, "k1", item)).ID
	w.runAll(t.Context(), t)
	spend := w.Item(200)
	spend.FromAccount, spend.ToAccount = poor, w.To
	w.create(t, "k2", spend)
	require.Equal(t, problem.InsufficientFunds, transfertest.Read(t, w.reverse(t, "r1", id, 0)).Code)
	require.Zero(t, w.Get(t, id).Reversed)
	require.Empty(t, transfertest.Read(t, w.reverse(t, "r2", id, 50)).Code)
	w.CheckInvariants(t)
}
