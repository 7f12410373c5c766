package order_test

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/order/ordertest"
)

func TestTheSweeperWakesWhatLostItsJob(t *testing.T) {
	t.Parallel()
	w := world{Bundle: ordertest.New(t)}
	id := w.Place(t, "k1", w.Item(1))
	sweep := func() int {
		n, err := w.Orders.Sweep(t.Context())
		require.NoError(t, err)
		return n
	}
	w.Exec(t, "UPDATE orders SET wake_at = wake_at - interval '1 minute'")
	w.Exec(t, "UPDATE river_job SET scheduled_at = scheduled_at - interval '1 minute'")
	require.Zero(t, sweep(), "it has a job")
	w.Exec(t, "DELETE FROM river_job")
	require.Equal(t, 1, sweep())
	require.Zero(t, sweep(), "it has a new one")
	require.EqualValues(t, 1, w.Order(t, id).Attempts, "who comes back to it is stale")
	require.Equal(t, "reserve pay", w.run(t))
	w.CheckInvariants(t)
}

func TestOrdersOfOneBatchShareJobs(t *testing.T) {
	t.Parallel()
	w := world{Bundle: ordertest.New(t)}
	for i := range 4 {
		items := make([]order.New, order.BulkMaxItems)
		for n := range items {
			items[n] = w.Item(1)
		}
		_, err := w.Orders.Create(t.Context(), w.Request(strconv.Itoa(i), items...))
		require.NoError(t, err)
	}
	w.Exec(t, "DELETE FROM river_job")
	w.Exec(t, "UPDATE orders SET wake_at = clock_timestamp() - interval '1 minute'")
	n, err := w.Orders.Sweep(t.Context())
	require.NoError(t, err)
	require.Equal(t, 80, n)
	require.EqualValues(t, (80+order.CohortMaxItems-1)/order.CohortMaxItems, w.Count(t,
		"SELECT count(*) FROM river_job"))
}
