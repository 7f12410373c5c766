// Package ordertest gives a test started order, inventory and transfer services on a database of its own,
// with a tenant, funded accounts, stock and a delivery slot.
//
// Payments are real: transfers, with transfertest's scripted dependencies. The package refuses to sleep:
// it waits for conditions with a deadline.
//
// Invariant: nothing is shared between two bundles.
package ordertest

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/app"
	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/invariant"
	"example.com/holdfast/internal/inventory"
	"example.com/holdfast/internal/ledger"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/telemetry"
	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/internal/transfer/transfertest"
)

const (
	// Location is where the stock of a bundle is.
	Location = "main"
	// Price is that of a unit of the bundle's SKU, in minor units.
	Price int64 = 100
	// OnHand is how many units of it there are.
	OnHand int64 = 10
	// Capacity is how many orders the bundle's slot takes.
	Capacity int64 = 3

	waitMax = 20 * time.Second
)

// Bundle is one test's world. From is the customer of its orders, To the merchant.
type Bundle struct {
	*transfertest.Bundle
	Inventory *inventory.Service
	Orders    *order.Service
	// SKU has OnHand units at Location; Slot is open there.
	SKU, Slot uuid.UUID
}

// New makes a bundle whose services are started. No worker runs yet: see StartWorker.
func New(tb testing.TB) *Bundle {
	tb.Helper()
	b := &Bundle{Bundle: transfertest.New(tb)}
	b.Inventory = inventory.NewService(b.Pool)
	b.Transfers = b.transfers(tb, "api", b.Pool)
	b.Transfers.Start(tb.Context())
	tb.Cleanup(b.Transfers.Stop)
	b.Orders = b.Service(tb, "api", nil)
	b.SKU = b.NewSKU(tb, "first", Price, OnHand)
	b.Slot = b.NewSlot(tb, Location, Capacity)
	return b
}

// Other is the same world seen by another tenant, with accounts, stock and a slot of its own.
func (b *Bundle) Other(tb testing.TB) *Bundle {
	tb.Helper()
	other := *b
	other.Bundle = b.Bundle.Other(tb)
	other.SKU = other.NewSKU(tb, "first", Price, OnHand)
	other.Slot = other.NewSlot(tb, Location, Capacity)
	return &other
}

// transfers makes a transfer service whose events reach orders.
func (b *Bundle) transfers(tb testing.TB, instance string, pool *pgxpool.Pool) *transfer.Service {
	tb.Helper()
	cfg := b.Config(tb, instance)
	cfg.Pool, cfg.Subscriptions = pool, app.Subscriptions()
	return transfer.NewService(cfg)
}

// orders makes an order service on the pool of the process that it belongs to.
func orders(instance string, pool *pgxpool.Pool, payments order.Payments) *order.Service {
	return order.NewService(order.Config{
		Pool: pool, Payments: payments, Metrics: telemetry.New(), Log: slog.New(slog.DiscardHandler),
		Instance: instance, Now: time.Now, //nolint:forbidigo // a test waits by the real clock
	})
}

// Service starts one more order service. Nil payments are those of the bundle's transfers.
func (b *Bundle) Service(tb testing.TB, instance string, payments order.Payments) *order.Service {
	tb.Helper()
	if payments == nil {
		payments = app.NewPayments(b.Transfers)
	}
	s := orders(instance, b.Pool, payments)
	s.Start(tb.Context())
	tb.Cleanup(s.Stop)
	return s
}

// Keyed is a key of the bundle's tenant for a request that body stands for.
func (b *Bundle) Keyed(key, body string) idempotency.Keyed {
	k := b.Bundle.Keyed(key, body)
	k.Refuse = func(p *problem.Error) idempotency.Response { return Render([]order.Result{{Refused: p}}) }
	return k
}

// NewSKU makes a SKU with stock at Location.
func (b *Bundle) NewSKU(tb testing.TB, code string, price, onHand int64) uuid.UUID {
	tb.Helper()
	var id uuid.UUID
	_, err := b.Inventory.CreateSKU(tb.Context(), b.Keyed("sku "+code, code), inventory.NewSKU{
		Code: code, Name: code, Price: price, Currency: transfertest.Currency,
	}, func(k inventory.SKU) idempotency.Response {
		id = k.ID
		return created()
	})
	require.NoError(tb, err)
	if onHand > 0 {
		b.Restock(tb, id, onHand)
	}
	return id
}

func created() idempotency.Response { return idempotency.Response{Status: http.StatusCreated} }

// Restock adds units of a SKU at Location.
func (b *Bundle) Restock(tb testing.TB, sku uuid.UUID, quantity int64) {
	tb.Helper()
	b.change(tb, sku, inventory.Restock, quantity)
}

// Adjust corrects the units of a SKU at Location.
func (b *Bundle) Adjust(tb testing.TB, sku uuid.UUID, quantity int64) {
	tb.Helper()
	b.change(tb, sku, inventory.Adjust, quantity)
}

func (b *Bundle) change(tb testing.TB, sku uuid.UUID, kind inventory.Kind, quantity int64) {
	tb.Helper()
	key := uuid.NewString()
	_, err := b.Inventory.ChangeStock(tb.Context(), b.Keyed(key, key), inventory.Change{
		SKU: sku, Location: Location, Kind: kind, Quantity: quantity, Reason: "test",
	}, func(inventory.Stock) idempotency.Response { return created() })
	require.NoError(tb, err)
}

// NewSlot opens a slot tomorrow.
func (b *Bundle) NewSlot(tb testing.TB, location string, capacity int64) uuid.UUID {
	tb.Helper()
	var id uuid.UUID
	key := uuid.NewString()
	tomorrow := time.Now().Add(24 * time.Hour) //nolint:forbidigo // a slot of the real future
	_, err := b.Inventory.CreateSlot(tb.Context(), b.Keyed(key, key), inventory.NewSlot{
		Location: location, StartsAt: tomorrow, EndsAt: tomorrow.Add(time.Hour), Capacity: capacity,
	}, func(d inventory.Slot) idempotency.Response {
		id = d.ID
		return created()
	})
	require.NoError(tb, err)
	return id
}

// CloseSlot closes a slot.
func (b *Bundle) CloseSlot(tb testing.TB, slot uuid.UUID) {
	tb.Helper()
	key := uuid.NewString()
	_, err := b.Inventory.CloseSlot(tb.Context(), b.Keyed(key, key), slot,
		func(inventory.Slot) idempotency.Response { return created() })
	require.NoError(tb, err)
}

// Item asks for units of the bundle's SKU, without a slot.
func (b *Bundle) Item(quantity int64) order.New {
	return order.New{
		CustomerAccount: b.From, MerchantAccount: b.To, Location: Location,
		Lines: []order.Line{{SKU: b.SKU, Quantity: quantity}},
	}
}

// Request asks for items under a key. The same items under the same key are the same request.
func (b *Bundle) Request(key string, items ...order.New) order.Create {
	return order.Create{
		Key: b.Keyed(key, fmt.Sprintf("%+v", items)), Items: items, Actor: "api:test",
		Cause:  "request:" + key,
		Render: Render,
	}
}

// Place places an order under a key and returns its id.
func (b *Bundle) Place(tb testing.TB, key string, item order.New) uuid.UUID {
	tb.Helper()
	response, err := b.Orders.Create(tb.Context(), b.Request(key, item))
	require.NoError(tb, err)
	answer := Read(tb, response)
	require.Equal(tb, http.StatusAccepted, response.Status, "code %q", answer.Code)
	return answer.ID
}

// Cancel asks for the end of an order.
func (b *Bundle) Cancel(key string, id uuid.UUID) order.Action {
	return order.Action{
		Key: b.Keyed(key, "cancel"+id.String()), ID: id, Event: order.Cancel, Reason: "changed my mind",
		Actor: "api:test", Cause: "request:" + key,
		Render: func(o order.Order) idempotency.Response { return Render([]order.Result{{Order: o}}) },
	}
}

// Order reads an order.
func (b *Bundle) Order(tb testing.TB, id uuid.UUID) order.Order {
	tb.Helper()
	o, err := b.Orders.Get(tb.Context(), b.Ref(id))
	require.NoError(tb, err)
	return o
}

// Ref names an order of the bundle's tenant.
func (b *Bundle) Ref(id uuid.UUID) order.Ref { return order.Ref{TenantID: b.Tenant, ID: id} }

// WaitEnd waits until an order has ended.
func (b *Bundle) WaitEnd(tb testing.TB, id uuid.UUID) order.Order {
	tb.Helper()
	o, err := b.Orders.Wait(tb.Context(), b.Ref(id), waitMax)
	require.NoError(tb, err)
	require.True(tb, o.State.Terminal(), "order %s is still %s", id, o.State)
	return o
}

// WaitQuiet waits until nobody has anything to do any more.
func (b *Bundle) WaitQuiet(tb testing.TB) {
	tb.Helper()
	transfertest.Eventually(tb, "all orders ended, heard and paid back", func() bool {
		return b.Count(tb, `SELECT (SELECT count(*) FROM orders WHERE wake_at IS NOT NULL)
		                         + (SELECT count(*) FROM deliveries)
		                         + (SELECT count(*) FROM transfers WHERE wake_at IS NOT NULL)`) == 0
	})
}

// Stock is what there is of a SKU at Location.
func (b *Bundle) Stock(tb testing.TB, sku uuid.UUID) inventory.Stock {
	tb.Helper()
	stock, err := b.Inventory.Stock(tb.Context(), inventory.Ref{TenantID: b.Tenant, ID: sku})
	require.NoError(tb, err)
	require.Len(tb, stock, 1)
	return stock[0]
}

// Booked is how many places of a slot are taken.
func (b *Bundle) Booked(tb testing.TB, slot uuid.UUID) int64 {
	tb.Helper()
	d, err := b.Inventory.Slot(tb.Context(), inventory.Ref{TenantID: b.Tenant, ID: slot})
	require.NoError(tb, err)
	return d.Booked
}

// Invariants lists what always holds in this world.
func Invariants() []invariant.Invariant {
	var all []invariant.Invariant
	for _, of := range [][]invariant.Invariant{
		ledger.Invariants(), transfer.Invariants(), inventory.Invariants(), order.Invariants(),
		outbox.Invariants(),
	} {
		all = append(all, of...)
	}
	return all
}

// CheckInvariants fails the test for every break of an invariant.
func (b *Bundle) CheckInvariants(tb testing.TB) {
	tb.Helper()
	for _, i := range Invariants() {
		for _, what := range b.Breaks(tb, i) {
			tb.Errorf("invariant %s: %s", i.Name, what)
		}
	}
}

// Answer is what Render writes for one result.
type Answer struct {
	ID    uuid.UUID    `json:"id"`
	State order.State  `json:"state"`
	Total int64        `json:"total"`
	Code  problem.Code `json:"code"`
}

// Render writes results as a client of these tests sees them: one as an object, several as an array.
func Render(results []order.Result) idempotency.Response {
	answers := make([]Answer, len(results))
	for i, r := range results {
		answers[i] = Answer{ID: r.Order.ID, State: r.Order.State, Total: r.Order.Total.Value}
		if r.Refused != nil {
			answers[i] = Answer{Code: r.Refused.Code}
		}
	}
	response := idempotency.Response{Status: http.StatusOK, Body: encode(answers)}
	if len(answers) == 1 {
		response = idempotency.Response{Status: http.StatusAccepted, Body: encode(answers[0])}
		if answers[0].Code != "" {
			response.Status = problem.MeaningOf(answers[0].Code).Status
		}
	}
	return response
}

func encode(v any) []byte {
	body, err := json.Marshal(v)
	if err != nil {
		return []byte(err.Error())
	}
	return body
}

// Read reads the one answer of a response.
func Read(tb testing.TB, r idempotency.Response) Answer {
	tb.Helper()
	var a Answer
	require.NoError(tb, json.Unmarshal(r.Body, &a), "%s", r.Body)
	return a
}
