package order_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/order/ordertest"
	"example.com/holdfast/internal/transfer/transfertest"
)

func TestAPlacedOrderIsReservedPaidAndConfirmed(t *testing.T) {
	t.Parallel()
	b := ordertest.New(t)
	b.StartWorker(t, "worker")
	item := b.Item(2)
	item.Slot = b.Slot
	id := b.Place(t, "k1", item)

	got := b.WaitEnd(t, id)
	b.WaitQuiet(t)

	require.Equal(t, order.Confirmed, got.State, "reason %q", got.Reason)
	require.Empty(t, got.Reason)
	require.Equal(t, order.PaymentSettled, got.PaymentState)
	require.NotEqual(t, uuid.Nil, got.PaymentTransfer)
	require.Equal(t, 2*ordertest.Price, got.Total.Value)
	stock := b.Stock(t, b.SKU)
	require.Equal(t, []int64{ordertest.OnHand - 2, 0}, []int64{stock.OnHand, stock.Reserved})
	require.EqualValues(t, 1, b.Booked(t, b.Slot))
	posted, held := b.Balance(t, b.To)
	require.Equal(t, []int64{transfertest.Funds + 2*ordertest.Price, 0}, []int64{posted, held})
	events, err := b.Orders.Events(t.Context(), b.Ref(id), 0)
	require.NoError(t, err)
	require.Len(t, events, 3)
	require.Contains(t, string(events[2].Data), got.PaymentTransfer.String())
	b.CheckInvariants(t)
}
