package order_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/fault"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/order/ordertest"
	"example.com/holdfast/internal/outbound"
	"example.com/holdfast/internal/transfer/transfertest"
)

var errCrash = errors.New("crash")

// points are all at which a worker may crash.
func points() []string {
	return []string{
		order.FaultBeforeReserve, order.FaultBeforePay, order.FaultAfterPay, order.FaultBeforeHear,
		order.FaultBeforeReverse, order.FaultAfterReverse, order.FaultAfterMove,
	}
}

// crashing lets the first passes of a point end as in a crash, and says how many there were.
func crashing(point string, times int) (func(string) error, func() int) {
	var mu sync.Mutex
	hits := 0
	inject := func(name string) error {
		mu.Lock()
		defer mu.Unlock()
		if name != point || hits >= times {
			return nil
		}
		hits++
		return errCrash
	}
	return inject, func() int {
		mu.Lock()
		defer mu.Unlock()
		return hits
	}
}

// TestFailsAtEachStep breaks the step at each point, and nobody repeats it but the sweeper: a job that
// failed is gone. Every order ends as it would have, and nothing is left behind.
func TestFailsAtEachStep(t *testing.T) {
	t.Parallel()
	for _, point := range points() {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			var hits func() int
			w.inject, hits = crashing(point, 3)
			item := w.Item(1)
			item.Slot = w.Slot
			lives(t, w, item)
			require.Equal(t, 3, hits())
		})
	}
}

// lives lets one order be confirmed, one be canceled while it pays, and one be canceled after its payment
// settled.
func lives(t *testing.T, w world, item order.New) {
	t.Helper()
	release := w.hold(t)
	confirmed, canceled, late := w.Place(t, "k1", item), w.Place(t, "k2", item), w.Place(t, "k3", item)
	until := func(what string, holds func() bool) {
		transfertest.Eventually(t, what, func() bool {
			w.run(t)
			w.forget(t)
			_, err := w.Orders.Sweep(t.Context())
			require.NoError(t, err)
			return holds()
		})
	}
	until("all pay", func() bool {
		return w.Count(t, "SELECT count(*) FROM orders WHERE payment_transfer_id IS NOT NULL") == 3
	})
	w.cancel(t, "c2", canceled)
	until("the payment is canceled", func() bool {
		return w.Count(t, "SELECT count(*) FROM transfers WHERE state = 'canceled'") == 1
	})
	release()
	w.paid(t, late)
	w.cancel(t, "c3", late)
	until("all have ended", func() bool {
		return w.Count(t, `SELECT (SELECT count(*) FROM orders WHERE wake_at IS NOT NULL)
		                        + (SELECT count(*) FROM deliveries)`) == 0
	})
	w.Bundle.Bundle.WaitQuiet(t)
	until("what the way back told is heard", func() bool {
		return w.Count(t, "SELECT count(*) FROM deliveries") == 0
	})
	w.requireState(t, confirmed, order.Confirmed, "", order.PaymentSettled)
	w.requireState(t, canceled, order.Canceled, order.ReasonClient, order.PaymentReversed)
	w.requireState(t, late, order.Canceled, order.ReasonClient, order.PaymentReversed)
	w.requireStock(t, 9, 0)
	require.EqualValues(t, 1, w.Booked(t, w.Slot))
	w.requirePaid(t, ordertest.Price)
	w.CheckInvariants(t)
}

// TestRepeatsEachStep works every job twice, and the second time as the first began: with what it was.
func TestRepeatsEachStep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.Place(t, "k1", w.Item(2))
	var jobs []job
	work := func() {
		for {
			j, found := w.next(t)
			if !found {
				return
			}
			jobs = append(jobs, j)
			w.work(t, j)
			w.work(t, j)
		}
	}
	work()
	w.paid(t, id)
	work()
	for _, j := range jobs { // and once more, in the order of their first time
		w.work(t, j)
	}
	require.Len(t, jobs, 3)
	w.requireState(t, id, order.Confirmed, "", order.PaymentSettled)
	w.requireStock(t, 8, 0)
	w.requirePaid(t, 2*ordertest.Price)
	require.EqualValues(t, 1, w.Count(t, "SELECT count(*) FROM transfers"))
	w.CheckInvariants(t)
}

func TestACrashBeforeTheReplyLeavesOneOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	inject, _ := crashing(order.FaultAfterPlace, 1)
	ctx := fault.With(t.Context(), inject)
	_, err := w.Orders.Create(ctx, w.Request("k1", w.Item(1)))
	require.ErrorIs(t, err, errCrash)
	response, err := w.Orders.Create(ctx, w.Request("k1", w.Item(1)))
	require.NoError(t, err)
	require.True(t, response.Replayed)
	require.EqualValues(t, 1, w.Count(t, "SELECT count(*) FROM orders"))
	w.CheckInvariants(t)
}

// TestALostWorkerIsReplaced stops a worker in the middle of everything; another one ends all orders.
func TestALostWorkerIsReplaced(t *testing.T) {
	t.Parallel()
	b := ordertest.New(t)
	first := b.StartWorker(t, "first")
	var ids []uuid.UUID
	for range 30 {
		ids = append(ids, b.Place(t, uuid.NewString(), b.Item(1)))
	}
	transfertest.Eventually(t, "some are confirmed", func() bool {
		return b.Count(t, "SELECT count(*) FROM orders WHERE state <> 'pending'") > 0
	})
	require.NoError(t, first.Stop(t.Context()))
	require.Zero(t, b.Count(t, `SELECT count(*) FROM river_job
		WHERE kind LIKE 'order_%' AND state NOT IN ('available', 'completed')`),
		"what is left goes on by Postgres's clock, and waits for no retry")
	b.StartWorker(t, "second")
	requireEnds(t, b, ids, map[string]int{"confirmed ": 10, "canceled stock": 20})
	b.WaitQuiet(t)
	b.CheckInvariants(t)
}

// TestAPanicInOneStepLeavesTheOthers lets payments panic.
func TestAPanicInOneStepLeavesTheOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.reserved(t, "k1", w.Item(1))
	s := w.Service(t, "broken", &slowPayments{world: w, between: func() { panic("broken") }})
	j, found := w.next(t)
	require.True(t, found)
	require.NoError(t, s.RunJob(t.Context(), j.Kind, j.ID, j.Attempt, j.Args))
	w.requireState(t, id, order.Reserved, "", order.PaymentPending)
	o := w.Order(t, id)
	require.Equal(t, []int32{1, 1}, []int32{o.Attempts, o.Failures})
	w.wakeNow(t)
	release := w.hold(t)
	require.Equal(t, "pay", w.run(t))
	release()
	w.paid(t, id)
	w.run(t)
	w.requireState(t, id, order.Confirmed, "", order.PaymentSettled)
}

// TestAReversalThatIsBlockedIsTriedAgain lets the risk service refuse the first way back.
func TestAReversalThatIsBlockedIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.unheard(t, w.Item(1))
	w.cancel(t, "c1", id)
	w.Risk.Decide(blockFirst())
	w.finish(t)
	w.Bundle.Bundle.WaitQuiet(t)
	w.finish(t)
	w.Bundle.Bundle.WaitQuiet(t)
	w.requireState(t, id, order.Canceled, order.ReasonClient, order.PaymentReversed)
	require.EqualValues(t, 1, w.Count(t,
		"SELECT count(*) FROM transfers WHERE reverses IS NOT NULL AND state = 'blocked'"))
	require.EqualValues(t, 1, w.Count(t,
		"SELECT count(*) FROM transfers WHERE reverses IS NOT NULL AND state = 'settled'"))
	w.requirePaid(t, 0)
	w.CheckInvariants(t)
}

// TestAnEmptyMerchantDelaysTheWayBack lets the merchant have spent the money meanwhile.
func TestAnEmptyMerchantDelaysTheWayBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	item := w.Item(1)
	item.MerchantAccount = w.Account(t, 0)
	id := w.unheard(t, item)
	spend := w.Bundle.Bundle.Item(ordertest.Price)
	spend.FromAccount, spend.ToAccount = item.MerchantAccount, w.To
	_, err := w.Transfers.Create(t.Context(), w.Bundle.Bundle.Request("spend", spend))
	require.NoError(t, err)
	w.Bundle.Bundle.WaitQuiet(t)
	w.cancel(t, "c1", id)
	for range 3 {
		w.run(t)
		w.Exec(t, "UPDATE orders SET wake_at = clock_timestamp() WHERE wake_at IS NOT NULL")
		w.Exec(t, "UPDATE river_job SET scheduled_at = clock_timestamp() WHERE state = 'available'")
	}
	w.requireState(t, id, order.Canceled, order.ReasonClient, order.PaymentReversing)
	require.GreaterOrEqual(t, w.Order(t, id).Attempts, int32(3))
	w.CheckInvariants(t)

	spend.FromAccount, spend.ToAccount = w.From, item.MerchantAccount
	_, err = w.Transfers.Create(t.Context(), w.Bundle.Bundle.Request("refill", spend))
	require.NoError(t, err)
	w.Bundle.Bundle.WaitQuiet(t)
	w.finish(t)
	w.Bundle.Bundle.WaitQuiet(t)
	w.requireState(t, id, order.Canceled, order.ReasonClient, order.PaymentReversed)
	posted, _ := w.Balance(t, w.From)
	require.Equal(t, transfertest.Funds-ordertest.Price, posted, "only the refill is gone")
	w.CheckInvariants(t)
}

// TestASilentDependencyExpiresThePayment lets the risk service be away: the transfer expires, and with it
// the order is canceled.
func TestASilentDependencyExpiresThePayment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Risk.Always(transfertest.Fault{Kind: outbound.KindUnreachable})
	id := w.Place(t, "k1", w.Item(1))
	w.run(t)
	transfertest.Eventually(t, "the transfer expires", func() bool { // a worker may write its promise back
		w.Exec(t, "UPDATE transfers SET promise_at = clock_timestamp() WHERE state = 'accepted'")
		return w.Count(t, "SELECT count(*) FROM transfers WHERE state = 'expired'") == 1
	})
	w.run(t)
	w.requireState(t, id, order.Canceled, order.ReasonPayment, order.PaymentFailed)
	w.requireStock(t, 10, 0)
	w.requirePaid(t, 0)
	w.CheckInvariants(t)
}
