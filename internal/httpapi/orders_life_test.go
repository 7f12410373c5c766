package httpapi_test

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/client"
	"example.com/holdfast/internal/httpapi"
	"example.com/holdfast/internal/order/ordertest"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/tenancy"
)

// awaitMax bounds how long a test waits for the end of an order.
const awaitMax = 20 * time.Second

// market is the public API over a world with workers, and a client of it.
type market struct {
	*ordertest.Bundle

	client *client.Client
}

func setupMarket(t *testing.T) market {
	t.Helper()
	m := market{Bundle: ordertest.New(t)}
	m.StartWorker(t, "worker")
	now := time.Now //nolint:forbidigo // the test is the caller
	keys := tenancy.NewService(m.Pool, now)
	server := httptest.NewServer(httpapi.New(httpapi.Config{
		Keys: keys, Transfers: m.Transfers, Accounts: m.Ledger, Orders: m.Orders, Inventory: m.Inventory,
		Now: now, Log: slog.New(slog.DiscardHandler),
	}))
	t.Cleanup(server.Close)
	key, err := keys.CreateKey(t.Context(), m.Tenant, "test", tenancy.Scopes(), tenancy.Standard)
	require.NoError(t, err)
	m.client, err = client.New(server.URL, key)
	require.NoError(t, err)
	return m
}

// buy places an order and waits for its end.
func (m market) buy(t *testing.T, quantity int64, slot uuid.UUID) client.Order {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), awaitMax)
	defer cancel()
	placed, err := m.client.CreateOrder(ctx, client.NewOrder{
		CustomerAccount: m.From, MerchantAccount: m.To, Location: ordertest.Location, Slot: slot,
		Lines: []client.NewOrderLine{{SKU: m.SKU, Quantity: quantity}},
	})
	require.NoError(t, err)
	ended, err := m.client.AwaitOrder(ctx, placed.ID)
	require.NoError(t, err)
	return ended
}

func requireProblem(t *testing.T, err error, code problem.Code) {
	t.Helper()
	var p *client.Problem
	require.ErrorAs(t, err, &p)
	require.Equal(t, string(code), p.Code, p.Detail)
}

func TestAnOrderIsConfirmedByItsPaymentAndThenStays(t *testing.T) {
	t.Parallel()
	m := setupMarket(t)
	ctx := t.Context()
	ended := m.buy(t, 4, m.Slot)
	require.Equal(t, client.OrderStatusConfirmed, ended.Status, ended.Reason)
	require.Equal(t, client.OrderPaymentSettled, ended.Payment)
	paid, err := m.client.Transfer(ctx, ended.PaymentTransfer)
	require.NoError(t, err)
	require.Equal(t, client.TransferStatusSettled, paid.Status)
	require.Equal(t, ended.Total, paid.Amount)

	_, err = m.client.CancelOrder(ctx, ended.ID, "too late")
	requireProblem(t, err, problem.IllegalTransition)
	again, err := m.client.Order(ctx, ended.ID)
	require.NoError(t, err)
	require.Equal(t, ended, again)
	events, err := m.client.OrderEvents(ctx, ended.ID, 0)
	require.NoError(t, err)
	var types []string
	for _, e := range events {
		types = append(types, e.Type)
	}
	require.Equal(t, []string{"order.pending", "order.reserved", "order.confirmed"}, types)
	levels, err := m.client.Stock(ctx, m.SKU)
	require.NoError(t, err)
	require.Equal(t, ordertest.OnHand-4, levels[0].OnHand)
	require.Zero(t, levels[0].Reserved)
}

func TestAnOrderThatCannotBeServedIsCanceledWithItsReason(t *testing.T) {
	t.Parallel()
	m := setupMarket(t)
	short := m.buy(t, ordertest.OnHand+1, uuid.Nil)
	require.Equal(t, client.OrderStatusCanceled, short.Status)
	require.Equal(t, "stock", short.Reason)
	require.Equal(t, client.OrderPaymentNone, short.Payment)

	at := time.Now().Add(time.Hour) //nolint:forbidigo // a slot of the real future
	slot, err := m.client.CreateSlot(t.Context(), client.NewSlot{
		Location: ordertest.Location, StartsAt: at, EndsAt: at.Add(time.Hour), Capacity: 1,
	})
	require.NoError(t, err)
	require.Equal(t, client.OrderStatusConfirmed, m.buy(t, 1, slot.ID).Status)
	require.Equal(t, "slot", m.buy(t, 1, slot.ID).Reason)

	dear, err := m.client.CreateSKU(t.Context(), client.NewSKU{
		Code: "dear", Name: "Dear", Price: client.Amount{Value: 1_000_000_000, Currency: "EUR"},
	})
	require.NoError(t, err)
	_, err = m.client.ChangeStock(t.Context(), dear.ID, client.StockChange{
		Location: ordertest.Location, Kind: client.StockKindRestock, Quantity: 1, Reason: "first one",
	})
	require.NoError(t, err)
	m.SKU = dear.ID
	unpaid := m.buy(t, 1, uuid.Nil)
	require.Equal(t, "payment", unpaid.Reason)
	levels, err := m.client.Stock(t.Context(), dear.ID)
	require.NoError(t, err)
	require.Equal(t, int64(1), levels[0].Available, "what was reserved is given back")
}
