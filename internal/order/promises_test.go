package order_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/app"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/telemetry"
)

func (w world) promises(t *testing.T) order.Promises {
	t.Helper()
	p, err := order.ReadPromises(t.Context(), w.Pool)
	require.NoError(t, err)
	return p
}

// placedBefore lets an order have been placed a while ago, by Postgres's clock.
func (w world) placedBefore(t *testing.T, id uuid.UUID, by time.Duration) {
	t.Helper()
	w.Exec(t, `
UPDATE orders SET created_at = created_at - $2::interval, promise_at = promise_at - $2::interval
 WHERE id = $1`, id, by)
}

func requireAge(t *testing.T, want, got time.Duration) {
	t.Helper()
	require.GreaterOrEqual(t, got, want)
	require.Less(t, got, want+30*time.Second)
}

func TestThePromiseAgeIsThatOfTheMostUrgentOpenOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	drained := order.Promises{Open: map[uuid.UUID]int{}}
	require.Equal(t, drained, w.promises(t))
	first, second := w.Place(t, "k1", w.Item(1)), w.Place(t, "k2", w.Item(1))
	w.placedBefore(t, first, time.Minute)
	w.placedBefore(t, second, 2*time.Minute)
	p := w.promises(t)
	requireAge(t, 2*time.Minute, p.Age)
	require.Zero(t, p.Overdue)
	require.Equal(t, map[uuid.UUID]int{w.Tenant: 2}, p.Open)

	w.cancel(t, "c2", second)
	w.placedBefore(t, first, order.PromiseWindow)
	p = w.promises(t)
	requireAge(t, order.PromiseWindow+time.Minute, p.Age)
	require.Equal(t, 1, p.Overdue)
	w.finish(t)
	require.Equal(t, drained, w.promises(t))
}

func TestAReservedOrderIsOpenUntilItsPaymentIsHeard(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, release := w.paying(t, "k1", w.Item(1))
	w.placedBefore(t, id, time.Hour)
	p := w.promises(t)
	requireAge(t, time.Hour, p.Age)
	require.Equal(t, 1, p.Overdue)
	release()
	w.finish(t)
	require.Zero(t, w.promises(t).Age)
}

func TestALookReadsNothingThatHasEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Exec(t, `
INSERT INTO orders (tenant_id, id, customer_account, merchant_account, location, currency, total, state,
                    version, reason, promise_at, created_at, updated_at)
SELECT $1, gen_random_uuid(), $2, $3, 'main', 'EUR', 1, 'canceled', 2, 'stock',
       now() - n * interval '1 second', now(), now()
  FROM generate_series(1, 20000) n`, w.Tenant, w.From, w.To)
	w.Place(t, "k1", w.Item(1))
	for _, analyzed := range []bool{false, true} {
		if analyzed {
			w.Exec(t, "ANALYZE orders")
		}
		for sql, args := range map[string][]any{
			order.PromisesSQL: {order.OverdueMax}, order.OpenByTenantSQL: {1_000, 100},
		} {
			rows, err := w.Pool.Query(t.Context(), "EXPLAIN "+sql, args...)
			require.NoError(t, err)
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			require.NoError(t, err)
			plan := strings.Join(lines, "\n")
			require.Contains(t, plan, "orders_promise")
			require.NotContains(t, plan, "Seq Scan on orders")
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := order.ReadPromises(gone, w.Pool)
	require.ErrorIs(t, err, context.Canceled)
}

// counted is a world whose orders the test reads the metrics of.
func counted(t *testing.T) (world, *telemetry.Metrics) {
	t.Helper()
	w, m := newWorld(t), telemetry.New()
	w.Orders = order.NewService(order.Config{
		Pool: w.Pool, Payments: app.NewPayments(w.Transfers), Metrics: m, Log: slog.New(slog.DiscardHandler),
		Instance: "counted", Now: time.Now, //nolint:forbidigo // a test waits by the real clock
	})
	w.Orders.SetRandom(longest)
	w.Orders.Start(t.Context())
	t.Cleanup(w.Orders.Stop)
	return w, m
}

// counts are those of the promises of orders and of all failures, by the values of their labels.
func counts(t *testing.T, m *telemetry.Metrics) map[string]float64 {
	t.Helper()
	families, err := m.Registry().Gather()
	require.NoError(t, err)
	found := map[string]float64{}
	for _, f := range families {
		if f.GetName() != "holdfast_promises_total" && f.GetName() != "holdfast_terminal_failures_total" {
			continue
		}
		for _, series := range f.GetMetric() {
			var values []string
			for _, l := range series.GetLabel() {
				values = append(values, l.GetValue())
			}
			if n := series.GetCounter().GetValue(); n > 0 {
				found[strings.Join(values, " ")] += n
			}
		}
	}
	return found
}

func TestAnAnswerInTimeKeepsThePromiseOfAnOrder(t *testing.T) {
	t.Parallel()
	w, m := counted(t)
	w.Place(t, "confirmed", w.Item(1))
	w.Place(t, "no stock", w.Item(11))
	w.cancel(t, "c1", w.Place(t, "canceled", w.Item(1)))
	poor := w.Item(1)
	poor.CustomerAccount = w.Account(t, 1)
	w.Place(t, "unpaid", poor)
	w.finish(t)
	require.Equal(t, map[string]float64{"true order": 4}, counts(t, m))
}

func TestAnOrderThatExpiresOrIsPoisonDidNotKeepItsPromise(t *testing.T) {
	t.Parallel()
	w, m := counted(t)
	late := w.Place(t, "late", w.Item(1))
	w.placedBefore(t, late, order.PromiseWindow)
	w.run(t)
	w.requireState(t, late, order.Canceled, order.ReasonExpired, order.PaymentNone)
	require.Equal(t, map[string]float64{"false order": 1, "db deadline_exhausted": 1}, counts(t, m))

	w.inject, _ = crashing(order.FaultBeforeReserve, jobsMax)
	broken := w.Place(t, "broken", w.Item(1))
	w.tries(t, order.BrokenMax)
	w.requireState(t, broken, order.Canceled, order.ReasonPoison, order.PaymentNone)
	require.Equal(t, map[string]float64{
		"false order": 2, "db deadline_exhausted": 1, "db poison": 1,
	}, counts(t, m))
}

func TestAnOrderThatIsConfirmedTooLateDidNotKeepItsPromise(t *testing.T) {
	t.Parallel()
	w, m := counted(t)
	id, release := w.paying(t, "k1", w.Item(1))
	release()
	w.paid(t, id)
	w.placedBefore(t, id, time.Hour)
	w.run(t)
	w.finish(t)
	w.requireState(t, id, order.Confirmed, "", order.PaymentSettled)
	require.Equal(t, map[string]float64{"false order": 1}, counts(t, m))
}
