package order_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/order/ordertest"
	"example.com/holdfast/internal/outbox"
)

// happenedTo are events of orders; Facts looks at no more of them.
func happenedTo(tenant uuid.UUID, ids ...uuid.UUID) []outbox.Logged {
	events := make([]outbox.Logged, len(ids))
	for i, id := range ids {
		events[i] = outbox.Logged{Event: outbox.Event{TenantID: tenant, AggregateID: id}}
	}
	return events
}

func factsOf(t *testing.T, b *ordertest.Bundle, id uuid.UUID) string {
	t.Helper()
	found, err := b.Orders.Facts(t.Context(), happenedTo(b.Tenant, id))
	require.NoError(t, err)
	require.Len(t, found, 1)
	return string(found[id])
}

// told has all that a client can give an order, and two lines.
func told(b *ordertest.Bundle, key string, second uuid.UUID) order.New {
	item := b.Item(2)
	item.Slot = b.Slot
	item.Lines = append(item.Lines, order.Line{SKU: second, Quantity: 1})
	item.ClientReference = "basket <" + key + ">"
	item.Metadata = json.RawMessage(`{"z": 1.50, "a":{"<b>":"é"} }`)
	return item
}

func TestFactsAreWhatTheAPISaysOfAnOrder(t *testing.T) {
	t.Parallel()
	b := ordertest.New(t)
	second := b.NewSKU(t, "second", 50, 5)
	id := b.Place(t, "k1", told(b, "k1", second))
	lines := []string{
		fmt.Sprintf(`{"sku":"%s","quantity":2,"unit_price":%d}`, b.SKU, ordertest.Price),
		fmt.Sprintf(`{"sku":"%s","quantity":1,"unit_price":50}`, second),
	}
	slices.Sort(lines) // as the ids of their SKUs
	at := b.Order(t, id).CreatedAt.UTC().Format(time.RFC3339Nano)
	want := fmt.Sprintf(`{"customer_account":"%s","merchant_account":"%s","location":"main","slot":"%s",`+
		`"lines":[%s],"total":{"value":250,"currency":"EUR"},"client_reference":"basket <k1>",`+
		`"metadata":{"z":1.50,"a":{"<b>":"é"}},"created_at":"%s"}`,
		b.From, b.To, b.Slot, strings.Join(lines, ","), at)
	require.Equal(t, want, factsOf(t, b, id))

	id = b.Place(t, "k2", b.Item(1))
	at = b.Order(t, id).CreatedAt.UTC().Format(time.RFC3339Nano)
	want = fmt.Sprintf(`{"customer_account":"%s","merchant_account":"%s","location":"main",`+
		`"lines":[{"sku":"%s","quantity":1,"unit_price":100}],"total":{"value":100,"currency":"EUR"},`+
		`"created_at":"%s"}`, b.From, b.To, b.SKU, at)
	require.Equal(t, want, factsOf(t, b, id), "what the order does not have is missing")
}

// TestFactsOfAnOrderNeverChange takes orders through every state, and looks at each step.
func TestFactsOfAnOrderNeverChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	second := w.NewSKU(t, "second", 50, 5)
	seen := map[string]bool{}
	var id uuid.UUID
	var before string
	look := func() {
		o := w.Order(t, id)
		seen[string(o.State)], seen[string(o.PaymentState)] = true, true
		require.Equal(t, before, factsOf(t, w.Bundle, id))
	}
	begin := func(key string) {
		id = w.Place(t, key, told(w.Bundle, key, second))
		before = factsOf(t, w.Bundle, id)
		look()
	}
	work := func() {
		for j, found := w.next(t); found; j, found = w.next(t) {
			w.work(t, j)
			look()
		}
	}

	release := w.hold(t)
	begin("confirmed")
	work()
	w.Exec(t, "UPDATE skus SET price = price + 1") // later orders cost more
	release()
	w.paid(t, id)
	work()
	w.requireState(t, id, order.Confirmed, "", order.PaymentSettled)

	begin("canceled")
	w.cancel(t, "c1", id)
	work()

	release = w.hold(t)
	begin("paid back")
	work()
	release()
	w.paid(t, id)
	w.cancel(t, "c2", id)
	look()
	w.finish(t)
	look()
	w.requireState(t, id, order.Canceled, order.ReasonClient, order.PaymentReversed)
	for _, state := range order.Transitions.States() {
		require.True(t, seen[string(state)], "no look at an order that is %s", state)
	}
	require.True(t, seen[string(order.PaymentReversing)])
}

// counter counts the statements of a pool.
type counter struct{ statements atomic.Int64 }

func (c *counter) TraceQueryStart(
	ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData,
) context.Context {
	c.statements.Add(1)
	return ctx
}

func (c *counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func TestFactsOfManyOrdersAreOneQuery(t *testing.T) {
	t.Parallel()
	b := ordertest.New(t)
	ids := []uuid.UUID{b.Place(t, "k1", b.Item(1)), b.Place(t, "k2", b.Item(2)), b.Place(t, "k3", b.Item(3))}
	other := b.Other(t)
	theirs := other.Place(t, "k1", other.Item(4))
	unknown := uuid.New()
	// The same order comes twice, one is unknown, and one is asked for in the name of another tenant.
	events := append(happenedTo(b.Tenant, ids[0], ids[1], ids[0], unknown, ids[2]),
		happenedTo(other.Tenant, theirs, ids[1])...)

	var count counter
	cfg := b.Pool.Config()
	cfg.ConnConfig.Tracer = &count
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	s := order.NewService(order.Config{Pool: pool})
	found, err := s.Facts(t.Context(), events)
	require.NoError(t, err)
	require.EqualValues(t, 1, count.statements.Load())
	require.Len(t, found, 4)
	for i, id := range ids {
		require.Contains(t, string(found[id]), fmt.Sprintf(`"lines":[{"sku":"%s","quantity":%d,`, b.SKU, i+1))
	}
	require.Contains(t, string(found[theirs]), fmt.Sprintf(`"lines":[{"sku":"%s","quantity":4,`, other.SKU))

	found, err = s.Facts(t.Context(), happenedTo(other.Tenant, ids...))
	require.NoError(t, err)
	require.Empty(t, found, "no tenant is told of the orders of another")
}

func TestFactsThatCannotBeReadAreAnError(t *testing.T) {
	t.Parallel()
	b := ordertest.New(t)
	id := b.Place(t, "k1", b.Item(1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.Orders.Facts(ctx, happenedTo(b.Tenant, id, id))
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "read facts of 1 orders: ")
}

// BenchmarkFacts reads a page of orders of three lines.
func BenchmarkFacts(b *testing.B) {
	w := ordertest.New(b)
	item := w.Item(1)
	for _, code := range []string{"second", "third"} {
		item.Lines = append(item.Lines, order.Line{SKU: w.NewSKU(b, code, 50, 0), Quantity: 1})
	}
	ids := make([]uuid.UUID, outbox.LogPageMax)
	for i := range ids {
		ids[i] = w.Place(b, fmt.Sprint("k", i), item)
	}
	events := happenedTo(w.Tenant, ids...)
	for b.Loop() {
		_, err := w.Orders.Facts(b.Context(), events)
		require.NoError(b, err)
	}
}
