package order_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/order/ordertest"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/transfer/transfertest"
)

// longest is the jitter that waits as long as it may, so that a retry never comes by itself.
func longest() float64 { return 0.999 }

// patient is a world whose retries wait for the test.
func patient(t *testing.T) world {
	t.Helper()
	w := newWorld(t)
	w.Orders.SetRandom(longest)
	return w
}

// breaking is a patient world in which a point breaks whenever it is passed, until the world is healed.
func breaking(t *testing.T, point string) world {
	t.Helper()
	w := patient(t)
	w.inject, _ = crashing(point, jobsMax)
	return w
}

// tries works everything that is due a number of times, without waiting for the time of a retry.
func (w world) tries(t *testing.T, times int) {
	t.Helper()
	for range times {
		w.wakeNow(t)
		w.run(t)
	}
}

func (w world) dead(t *testing.T) []order.Order {
	t.Helper()
	dead, err := w.Orders.DeadLetters(t.Context(), 10)
	require.NoError(t, err)
	return dead
}

func (w world) deadDeliveries(t *testing.T) []outbox.Dead {
	t.Helper()
	dead, err := outbox.DeadDeliveries(t.Context(), w.Pool, 10)
	require.NoError(t, err)
	return dead
}

func TestWhatBreaksAgainAndAgainIsCanceledWithItsReason(t *testing.T) {
	t.Parallel()
	w := breaking(t, order.FaultBeforeReserve)
	item := w.Item(1)
	item.Slot = w.Slot
	pending := w.Place(t, "k1", item)
	w.tries(t, order.BrokenMax-1)
	o := w.Order(t, pending)
	require.Equal(t, order.Pending, o.State)
	require.Equal(t, []int32{order.BrokenMax - 1, order.BrokenMax - 1}, []int32{o.Attempts, o.Failures})
	require.Empty(t, w.dead(t))
	w.tries(t, 1)
	w.requireState(t, pending, order.Canceled, order.ReasonPoison, order.PaymentNone)

	w.inject, _ = crashing(order.FaultAfterPay, jobsMax)
	reserved := w.Place(t, "k2", item)
	for w.Order(t, reserved).State != order.Canceled {
		w.tries(t, 1)
	}
	w.finish(t)
	w.Bundle.Bundle.WaitQuiet(t)
	w.finish(t)
	w.requireState(t, reserved, order.Canceled, order.ReasonPoison, order.PaymentReversed)
	require.EqualValues(t, 1, w.Count(t, "SELECT count(*) FROM transfers WHERE reverses IS NULL"),
		"the payment was asked for, so it went back")

	dead := w.dead(t)
	require.Len(t, dead, 2)
	require.Equal(t, []uuid.UUID{reserved, pending}, []uuid.UUID{dead[0].ID, dead[1].ID}, "the latest first")
	require.Len(t, dead[0].Lines, 1)
	w.requireStock(t, 10, 0)
	require.Zero(t, w.Booked(t, w.Slot))
	w.requirePaid(t, 0)
	w.CheckInvariants(t)
}

func TestAPoisonousWayBackIsParkedAndSeen(t *testing.T) {
	t.Parallel()
	w := patient(t)
	id := w.unheard(t, w.Item(1))
	w.cancel(t, "c1", id)
	w.inject, _ = crashing(order.FaultBeforeReverse, jobsMax)
	w.run(t)
	require.EqualValues(t, 1, w.Order(t, id).Failures)
	w.tries(t, order.BrokenMax)
	w.requireState(t, id, order.Canceled, order.ReasonClient, order.PaymentReversing)
	o := w.Order(t, id)
	require.EqualValues(t, order.BrokenMax+1, o.Failures)
	require.Greater(t, o.WakeAt.Sub(o.UpdatedAt), 59*time.Minute, "it is looked at each hour")
	require.Len(t, w.dead(t), 1)
	require.Zero(t, w.sweepNow(t), "it has its job")
	w.CheckInvariants(t)

	w.inject = nil
	w.tries(t, 1)
	w.Bundle.Bundle.WaitQuiet(t)
	w.finish(t)
	w.requireState(t, id, order.Canceled, order.ReasonClient, order.PaymentReversed)
	require.Empty(t, w.dead(t))
	w.requirePaid(t, 0)
	w.CheckInvariants(t)
}

func (w world) sweepNow(t *testing.T) int {
	t.Helper()
	n, err := w.Orders.Sweep(t.Context())
	require.NoError(t, err)
	return n
}

// hasty is the world of a process that waits for no lock for long.
func (w world) hasty(t *testing.T) world {
	t.Helper()
	cfg := w.Pool.Config()
	cfg.ConnConfig.RuntimeParams["lock_timeout"] = "20ms"
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	inner, outer := *w.Bundle.Bundle, *w.Bundle
	inner.Pool, outer.Bundle = pool, &inner
	outer.Orders = outer.Service(t, "hasty", nil)
	outer.Orders.SetRandom(longest)
	return world{Bundle: &outer}
}

// lock lets somebody else hold a lock until it is released.
func (w world) lock(t *testing.T, sql string) func() {
	t.Helper()
	tx, err := w.DB.Pool.Begin(t.Context()) //nolint:forbidigo // somebody else's transaction
	require.NoError(t, err)
	release := func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }
	t.Cleanup(release)
	_, err = tx.Exec(t.Context(), sql)
	require.NoError(t, err)
	return release
}

func TestALockThatOthersHoldIsNobodysFault(t *testing.T) {
	t.Parallel()
	w := patient(t)
	hasty := w.hasty(t)
	id := w.Place(t, "k1", w.Item(1))
	release := w.lock(t, "SELECT FROM stock FOR UPDATE")
	for n := range order.BrokenMax + 1 {
		hasty.tries(t, 1)
		o := w.Order(t, id)
		require.Equal(t, []int32{int32(n) + 1, 0}, []int32{o.Attempts, o.Failures})
		require.True(t, o.WakeAt.After(o.UpdatedAt), "the next try has its time")
	}
	release()
	require.Empty(t, w.dead(t))
	w.tries(t, 1)
	o := w.Order(t, id)
	require.Contains(t, []order.State{order.Reserved, order.Confirmed}, o.State, "it may be paid already")
	require.Zero(t, o.Attempts)
}

func TestAnEventThatIsHeldUpIsNobodysFault(t *testing.T) {
	t.Parallel()
	w := patient(t)
	hasty := w.hasty(t)
	id := w.unheard(t, w.Item(1))
	release := w.lock(t, "SELECT FROM orders FOR UPDATE")
	for range order.BrokenMax + 1 {
		w.Exec(t, "UPDATE deliveries SET wake_at = clock_timestamp()")
		w.Exec(t, "UPDATE river_job SET scheduled_at = clock_timestamp() WHERE kind = 'order_payment'")
		require.Equal(t, "payment", hasty.run(t))
	}
	release()
	require.EqualValues(t, 1, w.Count(t,
		"SELECT count(*) FROM deliveries WHERE failures = 0 AND attempts = $1", order.BrokenMax+1))
	require.Empty(t, w.deadDeliveries(t))
	w.tries(t, 1)
	w.requireState(t, id, order.Confirmed, "", order.PaymentSettled)
	w.CheckInvariants(t)
}

func TestWhatIsHeldUpForTooLongBreaks(t *testing.T) {
	t.Parallel()
	w := patient(t)
	id := w.Place(t, "k1", w.Item(1))
	w.Exec(t, `INSERT INTO events (tenant_id, aggregate_id, seq, type, to_state, actor, at)
	           SELECT tenant_id, id, 2, 'forged', 'forged', 'bug', now() FROM orders`)
	w.tries(t, order.PassingMax+order.BrokenMax) // each move looks as if another worker had been faster
	o := w.Order(t, id)
	require.Equal(t, []int32{order.PassingMax + order.BrokenMax, order.BrokenMax},
		[]int32{o.Attempts, o.Failures})
	require.Equal(t, o.PromiseAt, o.WakeAt, "its end breaks too, so it is parked within its promise")
}

func TestAPoisonWhoseEndBreaksTooIsParkedAndSeen(t *testing.T) {
	t.Parallel()
	w := breaking(t, order.FaultBeforeReserve)
	w.Exec(t, "ALTER TABLE orders ADD CONSTRAINT bug CHECK (reason <> 'poison')")
	id := w.Place(t, "k1", w.Item(1))
	w.tries(t, order.BrokenMax)
	o := w.Order(t, id)
	require.Equal(t, order.Pending, o.State)
	require.EqualValues(t, order.BrokenMax, o.Failures)
	require.Equal(t, o.PromiseAt, o.WakeAt)
	require.Len(t, w.dead(t), 1)
	w.Exec(t, "UPDATE orders SET promise_at = clock_timestamp() - interval '1 second'")
	w.tries(t, 1)
	o = w.Order(t, id)
	require.Greater(t, o.WakeAt.Sub(o.UpdatedAt), 59*time.Minute, "a broken promise is no reason to hurry")

	w.Exec(t, "ALTER TABLE orders DROP CONSTRAINT bug")
	w.tries(t, 1)
	w.requireState(t, id, order.Canceled, order.ReasonPoison, order.PaymentNone)
	w.CheckInvariants(t)
}

func TestADeadEventIsNeverLostAndBlocksNobody(t *testing.T) {
	t.Parallel()
	w := patient(t)
	release := w.hold(t)
	poison, well := w.Place(t, "k1", w.Item(1)), w.Place(t, "k2", w.Item(1))
	w.run(t)
	release()
	w.paid(t, poison)
	w.paid(t, well)
	w.Exec(t, `ALTER TABLE orders
	             ADD CONSTRAINT bug CHECK (client_reference IS NULL OR state <> 'confirmed')`)
	w.Exec(t, "UPDATE orders SET client_reference = 'poison' WHERE id = $1", poison)
	w.tries(t, 1)
	w.requireState(t, well, order.Confirmed, "", order.PaymentSettled)
	w.tries(t, order.BrokenMax-2)
	require.Empty(t, w.deadDeliveries(t))
	w.tries(t, 1)
	dead := w.deadDeliveries(t)
	require.Len(t, dead, 1)
	require.Equal(t, []string{"order", "transfer.settled"}, []string{dead[0].Consumer, dead[0].Type})
	require.Equal(t, w.paid(t, poison).ID, dead[0].AggregateID)
	require.Greater(t, dead[0].WakeAt.Sub(dead[0].At), 59*time.Minute, "it is looked at each hour")
	require.Empty(t, w.run(t), "it waits")
	require.NoError(t, w.Orders.RunJob(t.Context(), "order_payment", 0, 2, w.jobArgs(t, "order_payment")))
	require.Equal(t, dead, w.deadDeliveries(t), "a job that comes again does nothing")
	w.requireState(t, poison, order.Reserved, "", order.PaymentPending)
	require.Empty(t, w.dead(t), "the order itself is well")
	w.CheckInvariants(t)

	w.Exec(t, "ALTER TABLE orders DROP CONSTRAINT bug")
	w.tries(t, 1)
	w.requireState(t, poison, order.Confirmed, "", order.PaymentSettled)
	require.Empty(t, w.deadDeliveries(t))
	w.CheckInvariants(t)
}

func TestAnOrderWhoseEventIsDeadStillEndsWithItsPromise(t *testing.T) {
	t.Parallel()
	w := patient(t)
	id := w.unheard(t, w.Item(1))
	w.inject, _ = crashing(order.FaultBeforeHear, jobsMax)
	w.tries(t, order.BrokenMax)
	require.Len(t, w.deadDeliveries(t), 1)
	w.endPromise(t)
	w.run(t)
	w.requireState(t, id, order.Canceled, order.ReasonExpired, order.PaymentReversed)
	w.inject = nil
	w.Bundle.Bundle.WaitQuiet(t)
	w.tries(t, 2)
	w.requireState(t, id, order.Canceled, order.ReasonExpired, order.PaymentReversed)
	w.requirePaid(t, 0)
	w.CheckInvariants(t)
}

// awayPayments are those of a dependency that is away.
type awayPayments struct{}

func (awayPayments) Pay(context.Context, order.Payment) (uuid.UUID, error) {
	return uuid.Nil, problem.New(problem.Unavailable, "away")
}

func (awayPayments) Reverse(context.Context, order.Payment) error {
	return problem.New(problem.Unavailable, "away")
}

func TestAnEventWaitsWhileItsPaymentCannotBeAskedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.reserved(t, "event", w.Item(1))
	w.Exec(t, "UPDATE orders SET wake_at = promise_at") // its own step is not due
	w.Exec(t, "DELETE FROM river_job WHERE kind = 'order_pay'")
	forged := w.Bundle.Bundle.Item(1)
	forged.ClientReference = "order:" + id.String()
	_, err := w.Transfers.Create(t.Context(), w.Bundle.Bundle.Request("forged", forged))
	require.NoError(t, err)
	transfertest.Eventually(t, "there is an event that names the order", func() bool {
		return w.Count(t, "SELECT count(*) FROM deliveries") == 1
	})
	away := w
	outer := *w.Bundle
	away.Bundle, outer.Orders = &outer, w.Service(t, "away", awayPayments{})
	outer.Orders.SetRandom(longest)
	for range order.PassingMax + order.BrokenMax {
		w.Exec(t, "UPDATE deliveries SET wake_at = clock_timestamp()")
		j := job{Kind: "order_payment", Attempt: 1, Args: w.jobArgs(t, "order_payment")}
		require.NoError(t, outer.Orders.RunJob(t.Context(), j.Kind, j.ID, j.Attempt, j.Args))
	}
	require.Empty(t, w.deadDeliveries(t))
	require.Zero(t, w.Count(t, "SELECT max(failures) FROM deliveries"))
	require.Zero(t, w.Order(t, id).Failures)
	require.Equal(t, ordertest.Price, w.Order(t, id).Total.Value)
	w.finish(t)
	w.requireState(t, id, order.Canceled, order.ReasonPayment, order.PaymentReversed)
}

func (w world) jobArgs(t *testing.T, kind string) []byte {
	t.Helper()
	var args []byte
	const read = "SELECT args FROM river_job WHERE kind = $1 ORDER BY id LIMIT 1"
	require.NoError(t, w.Pool.QueryRow(t.Context(), read, kind).Scan(&args))
	return args
}
