package order_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/app"
	"example.com/holdfast/internal/groupcommit"
	"example.com/holdfast/internal/order"
)

// givenBack reads the arguments of the jobs that are as old as a job in hand and wait for another worker.
func (w world) givenBack(t *testing.T, j job, attempt int) []string {
	t.Helper()
	var args []string
	require.NoError(t, w.Pool.QueryRow(t.Context(), `
SELECT coalesce(array_agg(j.args::text ORDER BY j.id), '{}')
  FROM river_job j JOIN river_job old USING (kind, queue, priority, scheduled_at)
 WHERE j.state = 'available' AND old.state = 'running' AND old.id = $1 AND j.attempt = $2`,
		j.ID, attempt).Scan(&args))
	return args
}

// take claims the next job, which has to be of a kind.
func (w world) take(t *testing.T, kind string) job {
	t.Helper()
	j, found := w.next(t)
	require.True(t, found)
	require.Equal(t, kind, j.Kind)
	return j
}

// done completes a job that was worked by hand.
func (w world) done(t *testing.T, j job) {
	t.Helper()
	w.Exec(t, "UPDATE river_job SET state = 'completed', finalized_at = now() WHERE id = $1", j.ID)
}

func TestAStepOfAStoppedServiceIsLeftToOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stopped := w.Service(t, "stopped", nil)
	stopped.Stop()
	id := w.Place(t, "k1", w.Item(1))
	leave := func(kind string) {
		j := w.take(t, kind)
		was := w.Order(t, id)
		require.NoError(t, stopped.RunJob(t.Context(), j.Kind, j.ID, j.Attempt, j.Args))
		back := w.givenBack(t, j, 1)
		require.Len(t, back, 1, kind)
		require.JSONEq(t, string(j.Args), back[0])
		require.Equal(t, was, w.Order(t, id), "nothing is written down about it")
		w.done(t, j)
	}
	leave("order_reserve")
	w.work(t, w.take(t, "order_reserve"))
	release := w.hold(t)
	leave("order_pay")
	w.work(t, w.take(t, "order_pay"))
	release()
	w.paid(t, id)
	leave("order_payment")
	require.Zero(t, w.Count(t, "SELECT max(attempts) FROM deliveries"))
	require.Equal(t, "payment", w.run(t))
	w.requireState(t, id, order.Confirmed, "", order.PaymentSettled)
	require.EqualValues(t, 1, w.Count(t, "SELECT count(*) FROM transfers"))
	_, err := stopped.Create(t.Context(), w.Request("k2", w.Item(1)))
	require.ErrorIs(t, err, groupcommit.ErrStopped)
	w.CheckInvariants(t)
}

//nolint:contextcheck // the context is the one that ended; the test itself goes on
func TestAJobThatAStopKeptFromBeingReadIsGivenBackAsItIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	leave := func(kind string) {
		j := w.take(t, kind)
		for attempt, again := range map[int]int{1: 0, 2: 1} {
			require.NoError(t, w.Orders.RunJob(gone, j.Kind, j.ID, attempt, j.Args))
			back := w.givenBack(t, j, again)
			require.Len(t, back, 1)
			require.JSONEq(t, string(j.Args), back[0])
		}
		w.done(t, j)
	}
	id := w.Place(t, "k1", w.Item(1))
	leave("order_reserve")
	release := w.hold(t)
	w.run(t)
	release()
	w.paid(t, id)
	leave("order_payment")
	w.run(t)
	w.requireState(t, id, order.Confirmed, "", order.PaymentSettled)
	w.CheckInvariants(t)
}

// stoppingPayments end the worker while the payment of one order is under way and that of the other is done.
type stoppingPayments struct {
	app.Payments
	last uuid.UUID
	paid chan struct{}
	stop context.CancelFunc
}

// Pay is that of the world for the first order; the last one is not answered any more.
func (p *stoppingPayments) Pay(ctx context.Context, pay order.Payment) (uuid.UUID, error) {
	if pay.Order.ID != p.last {
		defer close(p.paid)
		return p.Payments.Pay(context.WithoutCancel(ctx), pay)
	}
	<-p.paid
	p.stop()
	<-ctx.Done()
	return uuid.Nil, ctx.Err()
}

func TestAWorkerThatStopsKeepsWhatItDidAndGivesTheRestBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.hold(t)
	_, err := w.Orders.Create(t.Context(), w.Request("k1", w.Item(1), w.Item(1)))
	require.NoError(t, err)
	w.work(t, w.take(t, "order_reserve"))
	w.forgetAll(t) // the two may have been reserved by two transactions, which gave them a job each
	require.Equal(t, 2, w.sweepNow(t))
	page, err := w.Orders.List(t.Context(), w.Tenant, order.Filter{Limit: 2})
	require.NoError(t, err)
	first, last := page.Orders[0], page.Orders[1]

	ctx, cancel := context.WithCancel(t.Context())
	s := w.Service(t, "stopping", &stoppingPayments{
		Payments: app.NewPayments(w.Transfers), last: last.ID, paid: make(chan struct{}), stop: cancel,
	})
	j := w.take(t, "order_pay")
	require.NoError(t, s.RunJob(ctx, j.Kind, j.ID, j.Attempt, j.Args))
	require.NotEqual(t, uuid.Nil, w.Order(t, first.ID).PaymentTransfer)
	require.Equal(t, last, w.Order(t, last.ID))
	back := w.givenBack(t, j, 1)
	require.Len(t, back, 1)
	require.JSONEq(t, fmt.Sprintf(`{"orders": {%q: [%q]}}`, w.Tenant, last.ID), back[0])
	w.done(t, j)
	require.Equal(t, "pay", w.run(t))
	require.NotEqual(t, uuid.Nil, w.Order(t, last.ID).PaymentTransfer)
	w.CheckInvariants(t)
}
