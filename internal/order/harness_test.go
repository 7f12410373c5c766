package order_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/fault"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/order/ordertest"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/internal/transfer/transfertest"
)

// world is a bundle whose jobs of orders the test works by itself, one after the other, so that it says
// what happens when. Screening of payments runs beside it. Jitter is none.
type world struct {
	*ordertest.Bundle
	// inject breaks steps; nil breaks none.
	inject func(point string) error
}

// broken is the test's context, in which steps are broken.
func (w world) broken(t *testing.T) context.Context {
	t.Helper()
	if w.inject == nil {
		return t.Context()
	}
	return fault.With(t.Context(), w.inject)
}

func newWorld(t *testing.T) world {
	t.Helper()
	w := world{Bundle: ordertest.New(t)}
	w.Orders.SetRandom(func() float64 { return 0 })
	w.StartPayments(t)
	return w
}

// jobsMax stops a test whose jobs wake each other for ever.
const jobsMax = 1_000

type job struct {
	ID      int64
	Kind    string
	Attempt int
	Args    []byte
}

// run works every job of an order that is due, also those that come meanwhile, and says which there were.
func (w world) run(t *testing.T) string {
	t.Helper()
	var kinds []string
	for range jobsMax {
		j, found := w.next(t)
		if !found {
			return strings.Join(kinds, " ")
		}
		kinds = append(kinds, strings.TrimPrefix(j.Kind, "order_"))
		w.work(t, j)
	}
	t.Fatalf("more than %d jobs", jobsMax)
	return ""
}

// next claims the next due job of an order, in the name of the worker that beats: the reaper would take it
// away from anybody else.
func (w world) next(t *testing.T) (job, bool) {
	t.Helper()
	rows, err := w.Pool.Query(t.Context(), `
UPDATE river_job
   SET state = 'running', attempt = attempt + 1, attempted_at = now(), attempted_by = '{payments}'
 WHERE id = (SELECT id FROM river_job WHERE state = 'available' AND scheduled_at <= clock_timestamp()
                AND kind LIKE 'order_%' ORDER BY scheduled_at, id LIMIT 1)
RETURNING id, kind, attempt, args`)
	require.NoError(t, err)
	jobs, err := pgx.CollectRows(rows, pgx.RowToStructByPos[job])
	require.NoError(t, err)
	if len(jobs) == 0 {
		return job{}, false
	}
	return jobs[0], true
}

// work works a job; one that could not even be read is gone all the same, so that the sweeper has to find its
// rows.
func (w world) work(t *testing.T, j job) {
	t.Helper()
	state := "completed"
	if err := w.Orders.RunJob(w.broken(t), j.Kind, j.ID, j.Attempt, j.Args); err != nil {
		state = "cancelled"
	}
	w.Exec(t, "UPDATE river_job SET state = $2::text::river_job_state, finalized_at = now() WHERE id = $1",
		j.ID, state)
}

// paid waits until the payment of an order has ended.
func (w world) paid(t *testing.T, id uuid.UUID) transfer.Transfer {
	t.Helper()
	o := w.Order(t, id)
	require.NotEqual(t, uuid.Nil, o.PaymentTransfer, "order is %s", o.State)
	return w.WaitTerminal(t, o.PaymentTransfer)
}

// finish works until nothing is left to do, and does not wait for the time of a retry.
func (w world) finish(t *testing.T) {
	t.Helper()
	transfertest.Eventually(t, "nothing is left to do", func() bool {
		w.Exec(t, `UPDATE orders SET wake_at = clock_timestamp()
		            WHERE wake_at > clock_timestamp() AND payment_transfer_id IS NULL`)
		w.Exec(t, `UPDATE river_job SET scheduled_at = clock_timestamp()
		            WHERE kind LIKE 'order_%' AND state = 'available' AND scheduled_at > clock_timestamp()`)
		w.run(t)
		w.forget(t)
		_, err := w.Orders.Sweep(t.Context())
		require.NoError(t, err)
		return w.Count(t, `SELECT (SELECT count(*) FROM orders WHERE wake_at IS NOT NULL)
		                        + (SELECT count(*) FROM deliveries)`) == 0
	})
}

// wakeNow brings the next try of every step and of every event forward, with its job.
func (w world) wakeNow(t *testing.T) {
	t.Helper()
	w.Exec(t, "UPDATE orders SET wake_at = clock_timestamp() WHERE wake_at > clock_timestamp()")
	w.Exec(t, "UPDATE deliveries SET wake_at = clock_timestamp() WHERE wake_at > clock_timestamp()")
	w.Exec(t, `UPDATE river_job SET scheduled_at = clock_timestamp()
	            WHERE kind LIKE 'order_%' AND state = 'available' AND scheduled_at > clock_timestamp()`)
}

// forget lets what is due and has lost its job look as if that was long ago.
func (w world) forget(t *testing.T) {
	t.Helper()
	if w.Count(t, "SELECT count(*) FROM river_job WHERE kind LIKE 'order_%' AND state = 'available'") > 0 {
		return
	}
	w.Exec(t, `UPDATE orders SET wake_at = clock_timestamp() - interval '1 minute'
	            WHERE wake_at < clock_timestamp() OR payment_transfer_id IS NULL AND wake_at IS NOT NULL`)
	w.Exec(t, "UPDATE deliveries SET wake_at = clock_timestamp() - interval '1 minute'")
}

// endPromise lets the promise of every open order have passed, and what they have reserved lapse.
func (w world) endPromise(t *testing.T) {
	t.Helper()
	w.Exec(t, `UPDATE orders SET promise_at = clock_timestamp() - interval '1 second',
	                             wake_at = clock_timestamp() - interval '1 second'
	            WHERE state IN ('pending', 'reserved')`)
	w.Exec(t, `UPDATE river_job SET scheduled_at = clock_timestamp()
	            WHERE kind LIKE 'order_%' AND state = 'available'`)
	w.lapse(t)
}

// lapse lets every reservation lapse.
func (w world) lapse(t *testing.T) {
	t.Helper()
	w.Exec(t, "UPDATE reservations SET expires_at = clock_timestamp() - interval '1 second'")
	w.Exec(t, "UPDATE slot_bookings SET expires_at = clock_timestamp() - interval '1 second'")
}

// reserved is an order that has stock, and has not paid yet.
func (w world) reserved(t *testing.T, key string, item order.New) uuid.UUID {
	t.Helper()
	id := w.Place(t, key, item)
	j, found := w.next(t)
	require.True(t, found)
	w.work(t, j)
	require.Equal(t, order.Reserved, w.Order(t, id).State)
	return id
}

// hold lets payments wait for their screening until release is called.
func (w world) hold(t *testing.T) func() {
	t.Helper()
	release := w.Risk.Hold()
	t.Cleanup(release)
	return release
}

// paying is a reserved order whose payment is under way: screening waits until release is called.
func (w world) paying(t *testing.T, key string, item order.New) (uuid.UUID, func()) {
	t.Helper()
	release := w.hold(t)
	id := w.Place(t, key, item)
	transfertest.Eventually(t, "the payment is accepted", func() bool {
		w.run(t)
		return w.Order(t, id).PaymentTransfer != uuid.Nil
	})
	return id, release
}

// unheard is a reserved order whose payment has ended, which it was not told yet.
func (w world) unheard(t *testing.T, item order.New) uuid.UUID {
	t.Helper()
	id, release := w.paying(t, "k1", item)
	release()
	w.paid(t, id)
	return id
}

// cancel cancels an order and returns the answer.
func (w world) cancel(t *testing.T, key string, id uuid.UUID) ordertest.Answer {
	t.Helper()
	response, err := w.Orders.Act(t.Context(), w.Cancel(key, id))
	require.NoError(t, err)
	return ordertest.Read(t, response)
}

// refused asks for one item that has to be refused, and returns the code.
func (w world) refused(t *testing.T, key string, item order.New) problem.Code {
	t.Helper()
	response, err := w.Orders.Create(t.Context(), w.Request(key, item))
	if err != nil {
		return problem.Of(err).Code
	}
	answer := ordertest.Read(t, response)
	require.Equal(t, uuid.Nil, answer.ID)
	return answer.Code
}

func (w world) requireStock(t *testing.T, onHand, reserved int64) {
	t.Helper()
	s := w.Stock(t, w.SKU)
	require.Equal(t, []int64{onHand, reserved}, []int64{s.OnHand, s.Reserved})
}

func (w world) requireState(
	t *testing.T, id uuid.UUID, state order.State, reason order.Reason, paid order.PaymentState,
) {
	t.Helper()
	o := w.Order(t, id)
	require.Equal(t, []string{string(state), string(reason), string(paid)},
		[]string{string(o.State), string(o.Reason), string(o.PaymentState)})
}

// requirePaid says how much the merchant has got.
func (w world) requirePaid(t *testing.T, amount int64) {
	t.Helper()
	posted, _ := w.Balance(t, w.To)
	require.Equal(t, transfertest.Funds+amount, posted)
	_, held := w.Balance(t, w.From)
	require.Zero(t, held)
}
