package order_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/order/ordertest"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/transfer/transfertest"
)

// placeAll places an order for each item at once and returns their ids.
func placeAll(t *testing.T, b *ordertest.Bundle, items []order.New) []uuid.UUID {
	t.Helper()
	ids := make([]uuid.UUID, len(items))
	var group errgroup.Group
	for i, item := range items {
		group.Go(func() error {
			response, err := b.Orders.Create(t.Context(), b.Request(fmt.Sprintf("k%d", i), item))
			if err == nil {
				ids[i] = ordertest.Read(t, response).ID
			}
			return err
		})
	}
	require.NoError(t, group.Wait())
	return ids
}

// watch looks at stock and slots all the time until the test ends: each look is one snapshot, in which
// the counters have to equal what they count and nothing may be oversold.
func watch(t *testing.T, b *ordertest.Bundle) func() int {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	looks := 0
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			var broken int
			err := b.Pool.QueryRow(ctx, `
SELECT (SELECT count(*) FROM stock s
         WHERE s.reserved < 0 OR s.on_hand < s.reserved
            OR s.reserved <> coalesce((SELECT sum(r.quantity) FROM reservations r
                                        WHERE r.sku_id = s.sku_id AND r.status = 'active'), 0))
     + (SELECT count(*) FROM delivery_slots d
         WHERE d.booked > d.capacity
            OR d.booked <> (SELECT count(*) FROM slot_bookings k
                             WHERE k.slot_id = d.id AND k.status IN ('active', 'consumed')))`).Scan(&broken)
			if err == nil {
				looks++
			}
			if broken != 0 {
				t.Errorf("%d counters differ from what they count", broken)
				return
			}
			<-tick.C
		}
	})
	return sync.OnceValue(func() int {
		cancel()
		group.Wait()
		return looks
	})
}

// requireEnds counts how the orders ended.
func requireEnds(t *testing.T, b *ordertest.Bundle, ids []uuid.UUID, want map[string]int) {
	t.Helper()
	ends := map[string]int{}
	for _, id := range ids {
		o := b.WaitEnd(t, id)
		ends[string(o.State)+" "+string(o.Reason)]++
	}
	require.Equal(t, want, ends)
}

func TestTheLastUnitsGoToExactlyAsManyOrders(t *testing.T) {
	t.Parallel()
	b := ordertest.New(t)
	b.StartWorker(t, "one")
	b.StartWorker(t, "two")
	stop := watch(t, b)
	items := make([]order.New, 200)
	for i := range items {
		items[i] = b.Item(1)
	}
	ids := placeAll(t, b, items)
	requireEnds(t, b, ids, map[string]int{"confirmed ": 10, "canceled stock": 190})
	b.WaitQuiet(t)
	require.Greater(t, stop(), 10)
	stock := b.Stock(t, b.SKU)
	require.Zero(t, stock.OnHand+stock.Reserved)
	posted, _ := b.Balance(t, b.To)
	require.Equal(t, transfertest.Funds+10*ordertest.Price, posted)
	b.CheckInvariants(t)
}

func TestTwoLinesOfOneSKUNeverOversell(t *testing.T) {
	t.Parallel()
	b := ordertest.New(t)
	b.StartWorker(t, "one")
	stop := watch(t, b)
	items := make([]order.New, 12)
	for i := range items { // 2 + 2 units each: two orders fit into ten, and a half of one more would
		items[i] = b.Item(2)
		items[i].Lines = append(items[i].Lines, order.Line{SKU: b.SKU, Quantity: 2})
	}
	ids := placeAll(t, b, items)
	requireEnds(t, b, ids, map[string]int{"confirmed ": 2, "canceled stock": 10})
	b.WaitQuiet(t)
	stop()
	require.EqualValues(t, 2, b.Stock(t, b.SKU).OnHand)
	b.CheckInvariants(t)
}

func TestTheLastPlacesOfASlotGoToExactlyAsManyOrders(t *testing.T) {
	t.Parallel()
	b := ordertest.New(t)
	b.StartWorker(t, "one")
	b.StartWorker(t, "two")
	b.Restock(t, b.SKU, 1_000)
	stop := watch(t, b)
	items := make([]order.New, 60)
	for i := range items {
		items[i] = b.Item(1)
		items[i].Slot = b.Slot
	}
	ids := placeAll(t, b, items)
	requireEnds(t, b, ids, map[string]int{"confirmed ": int(ordertest.Capacity), "canceled slot": 57})
	b.WaitQuiet(t)
	stop()
	require.Equal(t, ordertest.Capacity, b.Booked(t, b.Slot))
	b.CheckInvariants(t)
}

// TestOrdersOfManySKUsDoNotLockEachOtherOut asks for the same SKUs in opposite orders, beside restocks.
func TestOrdersOfManySKUsDoNotLockEachOtherOut(t *testing.T) {
	t.Parallel()
	b := ordertest.New(t)
	b.StartWorker(t, "one")
	b.StartWorker(t, "two")
	skus := []uuid.UUID{b.SKU}
	for i := range 4 {
		skus = append(skus, b.NewSKU(t, fmt.Sprintf("sku %d", i), 10, 1_000))
	}
	b.Restock(t, b.SKU, 1_000)
	items := make([]order.New, 60)
	for i := range items {
		items[i] = b.Item(1)
		items[i].Lines = nil
		for n := range skus {
			at := n
			if i%2 == 0 {
				at = len(skus) - 1 - n
			}
			items[i].Lines = append(items[i].Lines, order.Line{SKU: skus[at], Quantity: 1})
		}
	}
	var group sync.WaitGroup
	group.Go(func() {
		for range 20 {
			b.Adjust(t, skus[2], 1)
			b.Adjust(t, skus[2], -1)
		}
	})
	ids := placeAll(t, b, items)
	requireEnds(t, b, ids, map[string]int{"confirmed ": 60})
	group.Wait()
	b.WaitQuiet(t)
	require.EqualValues(t, 940, b.Stock(t, skus[2]).OnHand)
	b.CheckInvariants(t)
}

// TestCancelsAndPaymentsAtOnceLeaveOneOutcome cancels every order while it is on its way.
func TestCancelsAndPaymentsAtOnceLeaveOneOutcome(t *testing.T) {
	t.Parallel()
	b := ordertest.New(t)
	b.StartWorker(t, "one")
	b.Restock(t, b.SKU, 1_000)
	items := make([]order.New, 40)
	for i := range items {
		items[i] = b.Item(1)
	}
	ids := placeAll(t, b, items)
	var group errgroup.Group
	for i, id := range ids {
		group.Go(func() error {
			transfertest.Eventually(t, "a turn", func() bool { return b.Order(t, id).Version > int32(i%3) })
			_, err := b.Orders.Act(t.Context(), b.Cancel(fmt.Sprintf("c%d", i), id))
			return err
		})
	}
	require.NoError(t, group.Wait())
	confirmed := int64(0)
	for _, id := range ids {
		if b.WaitEnd(t, id).State == order.Confirmed {
			confirmed++
		}
	}
	b.WaitQuiet(t)
	posted, _ := b.Balance(t, b.To)
	require.Equal(t, transfertest.Funds+confirmed*ordertest.Price, posted)
	require.Equal(t, 1_000+ordertest.OnHand-confirmed, b.Stock(t, b.SKU).OnHand)
	b.CheckInvariants(t)
}

func TestOneKeyPlacesOneOrder(t *testing.T) {
	t.Parallel()
	b := ordertest.New(t)
	other := b.Service(t, "other", nil)
	var group errgroup.Group
	answers := make([]string, 20)
	for i := range answers {
		service := b.Orders
		if i%2 == 0 {
			service = other
		}
		group.Go(func() error {
			response, err := service.Create(t.Context(), b.Request("same", b.Item(1)))
			answers[i] = string(response.Body)
			return err
		})
	}
	require.NoError(t, group.Wait())
	for _, a := range answers {
		require.Equal(t, answers[0], a)
	}
	require.EqualValues(t, 1, b.Count(t, "SELECT count(*) FROM orders"))
	_, err := b.Orders.Create(t.Context(), b.Request("same", b.Item(2)))
	require.True(t, problem.Is(err, problem.KeyReused))
}
