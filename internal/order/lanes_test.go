package order_test

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/fairshare"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/transfer/transfertest"
)

// astray counts what a live job names in another lane than its row's.
const astray = `
SELECT (SELECT count(*)
          FROM river_job j
         CROSS JOIN LATERAL jsonb_each(j.args -> 'orders') AS e (tenant, ids)
         CROSS JOIN LATERAL jsonb_array_elements_text(e.ids) AS named (id)
          JOIN orders o ON o.id = named.id::uuid
         WHERE o.lane <> j.priority)
     + (SELECT count(*)
          FROM river_job j
         CROSS JOIN LATERAL jsonb_array_elements(j.args -> 'deliveries') AS named (it)
          JOIN deliveries d ON d.aggregate_id = (named.it ->> 'aggregate')::uuid
         WHERE d.lane <> j.priority)`

func TestTheOrdersOfAFloodGoBehindThoseOfOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Restock(t, w.SKU, 1_000)
	calm := w.Other(t)
	flood := make([]order.New, order.BulkMaxItems)
	for i := range flood {
		flood[i] = w.Item(1)
	}
	pour := func(key string) {
		_, err := w.Orders.Create(t.Context(), w.Request(key, flood...))
		require.NoError(t, err)
	}
	pour("alone")
	require.Zero(t, w.Count(t, "SELECT count(*) FROM orders WHERE lane <> 1"), "alone nobody floods")
	calm.Place(t, "k1", calm.Item(1))
	for i := range 3 {
		pour(strconv.Itoa(i))
	}
	require.Greater(t, w.Orders.Lane(w.Tenant), fairshare.First)
	require.Equal(t, fairshare.First, w.Orders.Lane(calm.Tenant))
	last := calm.Place(t, "k2", calm.Item(1))
	require.EqualValues(t, fairshare.First, calm.Order(t, last).Lane)
	require.Positive(t, w.Count(t, "SELECT count(*) FROM orders WHERE lane > 1"))
	require.Zero(t, w.Count(t, astray), "a job goes in the lane of all its orders")

	release := w.hold(t)
	w.run(t)
	release()
	transfertest.Eventually(t, "all payments have ended", func() bool {
		return w.Count(t, "SELECT count(*) FROM deliveries") == 4*order.BulkMaxItems+2
	})
	require.Positive(t, w.Count(t, "SELECT count(*) FROM deliveries WHERE lane > 1"))
	require.Zero(t, w.Count(t, astray), "and so does the word of its payment")
	w.forgetAll(t)
	require.Positive(t, w.sweepNow(t))
	require.Zero(t, w.Count(t, astray), "and what is woken again")
	w.finish(t)
	require.EqualValues(t, 4*order.BulkMaxItems+2, w.Count(t,
		"SELECT count(*) FROM orders WHERE state = 'confirmed'"))
	w.CheckInvariants(t)
}

// forgetAll loses the jobs of everything that is open.
func (w world) forgetAll(t *testing.T) {
	t.Helper()
	w.Exec(t, "DELETE FROM river_job WHERE kind LIKE 'order_%'")
	w.Exec(t, "UPDATE orders SET wake_at = clock_timestamp() - interval '1 minute' WHERE wake_at IS NOT NULL")
	w.forget(t)
}
