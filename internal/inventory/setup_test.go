package inventory_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/inventory"
	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/problem"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const location = "main"

// bundle is a database with one tenant.
type bundle struct {
	pool      *pgxpool.Pool
	inventory *inventory.Service
	tenant    uuid.UUID
}

func setup(t *testing.T) bundle {
	t.Helper()
	b := bundle{pool: pgtest.New(t), tenant: uuid.New()}
	b.inventory = inventory.NewService(b.pool)
	_, err := b.pool.Exec(t.Context(), "INSERT INTO tenants (id, name) VALUES ($1, 'test')", b.tenant)
	require.NoError(t, err)
	return b
}

func (b bundle) keyed(key string) idempotency.Keyed {
	return idempotency.Keyed{
		Key: idempotency.Key{TenantID: b.tenant, Key: key, Hash: idempotency.Hash("POST", "/test", "1",
			[]byte(key))},
		Refuse: func(p *problem.Error) idempotency.Response {
			return idempotency.Response{Status: problem.MeaningOf(p.Code).Status, Body: []byte(p.Code)}
		},
	}
}

func (b bundle) sku(t *testing.T, code string, onHand int64) uuid.UUID {
	t.Helper()
	response, err := b.inventory.CreateSKU(t.Context(), b.keyed("sku "+code), inventory.NewSKU{
		Code: code, Name: code, Price: 100, Currency: "EUR",
	}, func(k inventory.SKU) idempotency.Response {
		return idempotency.Response{Status: 201, Body: []byte(k.ID.String())}
	})
	require.NoError(t, err)
	id, err := uuid.ParseBytes(response.Body)
	require.NoError(t, err, "%s", response.Body)
	if onHand > 0 {
		require.Contains(t, b.change(t, "restock "+code, id, inventory.Restock, onHand), "OnHand")
	}
	return id
}

// change asks for another quantity and returns the answer.
func (b bundle) change(t *testing.T, key string, sku uuid.UUID, kind inventory.Kind, quantity int64) string {
	t.Helper()
	response, err := b.inventory.ChangeStock(t.Context(), b.keyed(key), inventory.Change{
		SKU: sku, Location: location, Kind: kind, Quantity: quantity, Reason: "test",
	}, func(s inventory.Stock) idempotency.Response {
		return idempotency.Response{Status: 200, Body: fmt.Appendf(nil, "%+v", s)}
	})
	require.NoError(t, err)
	return string(response.Body)
}

func (b bundle) slot(t *testing.T, key string, n inventory.NewSlot) uuid.UUID {
	t.Helper()
	response, err := b.inventory.CreateSlot(t.Context(), b.keyed(key), n,
		func(d inventory.Slot) idempotency.Response {
			return idempotency.Response{Status: 201, Body: []byte(d.ID.String())}
		})
	require.NoError(t, err)
	id, err := uuid.ParseBytes(response.Body)
	require.NoError(t, err, "%s", response.Body)
	return id
}

// soon is a slot that the tests can book.
func soon(capacity int64) inventory.NewSlot {
	begins := time.Date(2099, 1, 1, 9, 0, 0, 0, time.UTC)
	return inventory.NewSlot{
		Location: location, StartsAt: begins, EndsAt: begins.Add(time.Hour),
		Capacity: capacity,
	}
}

// claim takes a quantity of each SKU.
func (b bundle) claim(slot uuid.UUID, quantity int64, skus ...uuid.UUID) inventory.Claim {
	c := inventory.Claim{
		Owner: inventory.Ref{TenantID: b.tenant, ID: uuid.New()}, Location: location, Slot: slot,
	}
	for _, sku := range skus {
		c.Lines = append(c.Lines, inventory.Line{SKU: sku, Quantity: quantity})
	}
	return c
}

// do lets decide change a book of claims, and commits it.
func (b bundle) do(ctx context.Context, decide func(*inventory.Book) error, claims ...inventory.Claim) error {
	var book *inventory.Book
	return pgtx.Pipeline(ctx, b.pool, "test",
		func(read *pgx.Batch) {
			book = inventory.Open(read, claims)
			book.Stamp(read)
		},
		func(write *pgx.Batch) error {
			if err := decide(book); err != nil {
				return err
			}
			return book.Write(ctx, write)
		})
}

func (b bundle) reserve(t *testing.T, c inventory.Claim) error {
	t.Helper()
	return b.do(t.Context(), func(book *inventory.Book) error {
		return book.Reserve(c, book.Now().Add(time.Minute))
	}, c)
}

func (b bundle) requireStock(t *testing.T, sku uuid.UUID, onHand, reserved, version int64) {
	t.Helper()
	stock, err := b.inventory.Stock(t.Context(), inventory.Ref{TenantID: b.tenant, ID: sku})
	require.NoError(t, err)
	require.Equal(t, []inventory.Stock{{
		SKU: sku, Location: location, OnHand: onHand, Reserved: reserved, Version: version,
	}}, stock)
}

func (b bundle) booked(t *testing.T, slot uuid.UUID) int64 {
	t.Helper()
	d, err := b.inventory.Slot(t.Context(), inventory.Ref{TenantID: b.tenant, ID: slot})
	require.NoError(t, err)
	return d.Booked
}

func (b bundle) requireInvariants(t *testing.T) {
	t.Helper()
	for _, i := range inventory.Invariants() {
		rows, err := b.pool.Query(t.Context(), i.SQL)
		require.NoError(t, err, i.Name)
		breaks, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err, i.Name)
		require.Empty(t, breaks, i.Name)
	}
}
