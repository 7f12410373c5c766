package transfer_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/internal/transfer/transfertest"
)

// together calls do n times at once and returns what each call returned.
func together[T any](n int, do func(i int) T) []T {
	results := make([]T, n)
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	ready.Add(n)
	for i := range n {
		done.Go(func() {
			ready.Done()
			<-start
			results[i] = do(i)
		})
	}
	ready.Wait()
	close(start)
	done.Wait()
	return results
}

// outcome is what one caller got.
type outcome struct {
	response idempotency.Response
	err      error
}

// processes are two services with pools of their own, as two API processes are.
func (w world) processes(t *testing.T) []*transfer.Service {
	t.Helper()
	return []*transfer.Service{w.Service(t, "api-1"), w.Service(t, "api-2")}
}

func TestOneKeyFromManyCallersIsOneTransfer(t *testing.T) {
	t.Parallel()
	for _, callers := range []int{50, 200} {
		w := newWorld(t)
		api := w.processes(t)
		outcomes := together(callers, func(i int) outcome {
			response, err := api[i%len(api)].Create(t.Context(), w.Request("k1", w.Item(250)))
			return outcome{response, err}
		})
		fresh := 0
		for _, o := range outcomes {
			require.NoError(t, o.err)
			require.Equal(t, outcomes[0].response.Body, o.response.Body)
			require.Equal(t, outcomes[0].response.Status, o.response.Status)
			if !o.response.Replayed {
				fresh++
			}
		}
		require.Equal(t, 1, fresh)
		require.EqualValues(t, 1, w.Count(t, "SELECT count(*) FROM transfers"))
		_, held := w.Balance(t, w.From)
		require.EqualValues(t, 250, held)
		w.CheckInvariants(t)
	}
}

func TestAHotAccountIsDrainedToItsLastUnitAndNoFurther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	api := w.processes(t)
	const callers, each, fits = 50, 7, 31
	hot := w.Account(t, fits*each+each-1)
	outcomes := together(callers, func(i int) outcome {
		item := w.Item(each)
		item.FromAccount = hot
		response, err := api[i%len(api)].Create(t.Context(), w.Request(fmt.Sprint("k", i), item))
		return outcome{response, err}
	})
	accepted := 0
	for _, o := range outcomes {
		require.NoError(t, o.err)
		if code := transfertest.Read(t, o.response).Code; code == "" {
			accepted++
		} else {
			require.Equal(t, problem.InsufficientFunds, code)
		}
	}
	require.Equal(t, fits, accepted)
	w.runAll(t.Context(), t)
	posted, held := w.Balance(t, hot)
	require.Equal(t, []int64{each - 1, 0}, []int64{posted, held})
	w.CheckInvariants(t)
}

func TestCrossingTransfersNeverDeadlock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	api := w.processes(t)
	w.StartWorker(t, "worker")
	const callers, rounds = 16, 12
	errs := together(callers, func(i int) error {
		for n := range rounds {
			item := w.Item(1)
			if i%2 == 1 {
				item.FromAccount, item.ToAccount = item.ToAccount, item.FromAccount
			}
			request := w.Request(fmt.Sprint("k", i, "-", n), item)
			if _, err := api[i/2%2].Create(t.Context(), request); err != nil {
				return err
			}
		}
		return nil
	})
	for _, err := range errs {
		require.NoError(t, err)
	}
	w.WaitQuiet(t)
	settled := w.Count(t, "SELECT count(*) FROM transfers WHERE state = 'settled'")
	require.EqualValues(t, callers*rounds, settled)
	posted, held := w.Balance(t, w.From)
	require.Equal(t, []int64{transfertest.Funds, 0}, []int64{posted, held})
	require.Zero(t, w.Count(t, "SELECT count(*) FROM river_job WHERE state IN ('retryable', 'discarded')"))
	w.CheckInvariants(t)
}

func TestManyCancelsAgainstTheSettlementEndInOneOutcome(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const rounds, callers = 5, 10
	w.StartWorker(t, "worker")
	for round := range rounds {
		id := w.Create(t, fmt.Sprint("k", round), 10)
		outcomes := together(callers, func(i int) outcome {
			response, err := w.Transfers.Act(t.Context(),
				w.Action(fmt.Sprint("c", round, "-", i), id, transfer.Cancel, "changed my mind"))
			return outcome{response, err}
		})
		done := 0
		for _, o := range outcomes {
			require.NoError(t, o.err)
			if answer := transfertest.Read(t, o.response); answer.Code == "" {
				require.Equal(t, transfer.Canceled, answer.State)
				done++
			} else {
				require.Equal(t, problem.IllegalTransition, answer.Code)
			}
		}
		got := w.WaitTerminal(t, id)
		require.Equal(t, got.State == transfer.Canceled, done == 1, "%s after %d cancels", got.State, done)
		require.LessOrEqual(t, done, 1)
	}
	w.WaitQuiet(t)
	w.CheckInvariants(t)
}

func TestFiftySettlementsOfOneHoldPayOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.inReview(t, "k1", 250)
	w.act(t, "approve", id, transfer.Approve, "fine")
	var args []byte
	const settleJob = "SELECT args FROM river_job WHERE kind = 'transfer_settle' ORDER BY id DESC LIMIT 1"
	require.NoError(t, w.Pool.QueryRow(t.Context(), settleJob).Scan(&args))
	api := w.processes(t)
	for _, err := range together(50, func(i int) error {
		return api[i%2].RunJob(t.Context(), "transfer_settle", int64(i), 1, args)
	}) {
		require.NoError(t, err)
	}
	require.Equal(t, transfer.Settled, w.Get(t, id).State)
	posted, _ := w.Balance(t, w.To)
	require.Equal(t, transfertest.Funds+250, posted)
	require.EqualValues(t, 2, w.Count(t, "SELECT count(*) FROM postings WHERE entry_id = $1", id))
	w.runAll(t.Context(), t)
	w.CheckInvariants(t)
}

func TestOneClientReferenceFromManyCallersIsOneTransfer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	api := w.processes(t)
	debits := make([]uuid.UUID, 5) // no common lock orders the callers
	for i := range debits {
		debits[i] = w.Account(t, 1_000)
	}
	outcomes := together(50, func(i int) outcome {
		item := w.Item(1)
		item.FromAccount, item.ClientReference = debits[i%len(debits)], "order 1"
		response, err := api[i%len(api)].Create(t.Context(), w.Request(fmt.Sprint("k", i), item))
		return outcome{response, err}
	})
	accepted := 0
	for _, o := range outcomes {
		require.NoError(t, o.err)
		if code := transfertest.Read(t, o.response).Code; code == "" {
			accepted++
		} else {
			require.Equal(t, problem.ReferenceUsed, code)
		}
	}
	require.Equal(t, 1, accepted)
	require.EqualValues(t, 1, w.Count(t, "SELECT count(*) FROM transfers"))
	w.CheckInvariants(t)
}
