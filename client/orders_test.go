package client_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/api"
	"example.com/holdfast/client"
	"example.com/holdfast/internal/problem"
)

var (
	tea     = uuid.MustParse("018f2b6e-0000-7000-8000-0000000000c5")
	morning = uuid.MustParse("018f2b6e-0000-7000-8000-0000000000d7")
	basket  = uuid.MustParse("018f2b6e-0000-7000-8000-0000000000f7")
)

func someOrder() client.NewOrder {
	return client.NewOrder{
		CustomerAccount: cash, MerchantAccount: bank, Location: "main", Slot: morning,
		Lines: []client.NewOrderLine{{SKU: tea, Quantity: 2}}, ClientReference: "basket-7",
	}
}

func TestEveryCallAboutOrdersIsAsTheContractSays(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(exampleServer())
	t.Cleanup(server.Close)
	c, err := client.New(server.URL, "hf_key")
	require.NoError(t, err)
	ctx := t.Context()

	placed, err := c.CreateOrder(ctx, someOrder())
	require.NoError(t, err)
	require.Equal(t, basket, placed.ID)
	require.Equal(t, client.OrderStatusPending, placed.Status)
	require.Equal(t, int64(1250), placed.Lines[0].UnitPrice)
	bare := someOrder()
	bare.Slot, bare.ClientReference = uuid.Nil, ""
	_, err = c.CreateOrder(ctx, bare, client.WithKey("mine"))
	require.NoError(t, err)
	results, err := c.PreviewOrders(ctx, []client.NewOrder{someOrder()})
	require.NoError(t, err)
	require.Equal(t, "insufficient_stock", results[1].Problem.Code)
	read, err := c.Order(ctx, basket)
	require.NoError(t, err)
	require.True(t, read.Status.Terminal())
	read, err = c.AwaitOrder(ctx, basket)
	require.NoError(t, err)
	require.Equal(t, client.OrderPaymentSettled, read.Payment)
	for _, params := range []*client.ListOrdersParams{nil, {
		Status: new(client.OrderStatusConfirmed), Account: &cash, SKU: &tea, Limit: new(int32(7)),
		Cursor: new("x"), ClientReference: new("a b&c"), CreatedFrom: &time.Time{}, CreatedTo: &time.Time{},
	}} {
		page, err := c.ListOrders(ctx, params)
		require.NoError(t, err)
		require.NotEmpty(t, page.NextCursor)
	}
	events, err := c.OrderEvents(ctx, basket, 0)
	require.NoError(t, err)
	require.Equal(t, "order.pending", events[0].Type)
	canceled, err := c.CancelOrder(ctx, basket, "ordered twice")
	require.NoError(t, err)
	require.Equal(t, client.OrderStatusCanceled, canceled.Status)
}

func TestEveryCallAboutTheInventoryIsAsTheContractSays(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(exampleServer())
	t.Cleanup(server.Close)
	c, err := client.New(server.URL, "hf_key")
	require.NoError(t, err)
	ctx := t.Context()

	sku, err := c.CreateSKU(ctx, client.NewSKU{
		Code: "tea-500", Name: "Green tea", Price: client.Amount{Value: 1250, Currency: "EUR"},
	})
	require.NoError(t, err)
	require.Equal(t, tea, sku.ID)
	sku, err = c.SKU(ctx, tea)
	require.NoError(t, err)
	require.Equal(t, "tea-500", sku.Code)
	skus, err := c.ListSKUs(ctx, &client.ListSkusParams{Limit: new(int32(1))})
	require.NoError(t, err)
	require.Len(t, skus.Skus, 1)
	level, err := c.ChangeStock(ctx, tea, client.StockChange{
		Location: "main", Kind: client.StockKindAdjust, Quantity: -2, Reason: "broken",
	})
	require.NoError(t, err)
	require.Equal(t, level.OnHand-level.Reserved, level.Available)
	levels, err := c.Stock(ctx, tea)
	require.NoError(t, err)
	require.Len(t, levels, 1)
	at := time.Date(2026, 11, 23, 8, 0, 0, 0, time.FixedZone("", 3600))
	slot, err := c.CreateSlot(ctx, client.NewSlot{
		Location: "main", StartsAt: at, EndsAt: at.Add(time.Hour), Capacity: 20,
	})
	require.NoError(t, err)
	require.Equal(t, client.SlotStatusOpen, slot.Status)
	slots, err := c.ListSlots(ctx, &client.ListSlotsParams{Location: new("main")})
	require.NoError(t, err)
	require.Equal(t, morning, slots.Slots[0].ID)
	slot, err = c.CloseSlot(ctx, morning)
	require.NoError(t, err)
	require.Equal(t, client.SlotStatusClosed, slot.Status)
}

func TestAwaitAsksUntilTheOrderHasEnded(t *testing.T) {
	t.Parallel()
	const pending = `{"id":"018f2b6e-0000-7000-8000-0000000000f7","status":"pending"}`
	reserved := strings.Replace(pending, "pending", "reserved", 1)
	confirmed := strings.Replace(pending, "pending", "confirmed", 1)
	b := setup(t, text(200, pending), text(200, reserved), text(200, confirmed))
	got, err := b.AwaitOrder(t.Context(), basket)
	require.NoError(t, err)
	require.Equal(t, client.OrderStatusConfirmed, got.Status)
	require.Len(t, b.seen, 3)
	require.Equal(t, "wait=30", b.seen[2].prefer)
	require.Len(t, *b.slept, 2, "it never asks without a pause")

	b = setup(t, refuse(problem.NotFound, ""))
	_, err = b.AwaitOrder(t.Context(), basket)
	require.ErrorContains(t, err, "not_found")
}

func TestALostAnswerToAnOrderIsAskedForAgainWithTheSameKey(t *testing.T) {
	t.Parallel()
	b := setup(t, hangUp, text(http.StatusAccepted, `{"status":"pending"}`))
	_, err := b.CreateOrder(t.Context(), someOrder())
	require.NoError(t, err)
	require.Equal(t, b.seen[0].key, b.seen[1].key)
	require.Equal(t, b.seen[0].body, b.seen[1].body)
}

func TestTheTerminalStatusesOfOrdersAreThoseOfTheContract(t *testing.T) {
	t.Parallel()
	doc, err := openapi3.NewLoader().LoadFromData(api.Public())
	require.NoError(t, err)
	schema := doc.Components.Schemas["OrderStatus"].Value
	_, final, found := strings.Cut(schema.Description, "Final:")
	require.True(t, found)
	require.Len(t, schema.Enum, 4)
	for _, status := range schema.Enum {
		s := client.OrderStatus(status.(string))
		require.Equal(t, strings.Contains(final, "`"+string(s)+"`"), s.Terminal(), s)
	}
}
