package ledger_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/ledger"
	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/problem"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// bundle is a database with one tenant and the world outside.
type bundle struct {
	pool   *pgxpool.Pool
	ledger *ledger.Service
	tenant uuid.UUID
	world  uuid.UUID
}

func setup(t *testing.T) bundle {
	t.Helper()
	b := bundle{pool: pgtest.New(t)}
	b.ledger = ledger.NewService(b.pool)
	b.newTenant(t)
	return b
}

// fataler is what testing.T and rapid.T share.
type fataler interface {
	require.TestingT
	Helper()
	Context() context.Context
}

func (b *bundle) newTenant(t fataler) {
	t.Helper()
	b.tenant = uuid.New()
	const insert = "INSERT INTO tenants (id, name) VALUES ($1, $2)"
	_, err := b.pool.Exec(t.Context(), insert, b.tenant, b.tenant.String())
	require.NoError(t, err)
	b.world = b.seed(t, ledger.KindExternal, 0).ID
}

func (b *bundle) seed(t fataler, kind string, amount int64) ledger.Ref {
	t.Helper()
	n := ledger.NewAccount{Name: "some " + kind, Kind: kind, Currency: "EUR"}
	a, err := b.ledger.Seed(t.Context(), b.tenant, b.world, n, amount)
	require.NoError(t, err)
	return ledger.Ref{TenantID: a.TenantID, ID: a.ID}
}

func (b *bundle) user(t fataler, amount int64) ledger.Ref {
	t.Helper()
	return b.seed(t, ledger.KindUser, amount)
}

// do lets decide change a book of the locked accounts, and commits it.
func (b *bundle) do(ctx context.Context, lock []ledger.Ref, decide func(*ledger.Book) error) error {
	var book *ledger.Book
	return pgtx.Pipeline(ctx, b.pool, "test",
		func(read *pgx.Batch) { book = ledger.Open(read, lock, nil) },
		func(write *pgx.Batch) error {
			if err := decide(book); err != nil {
				return err
			}
			return book.Write(ctx, write)
		})
}

func (b *bundle) account(t fataler, ref ledger.Ref) ledger.Account {
	t.Helper()
	a, err := b.ledger.Account(t.Context(), ref)
	require.NoError(t, err)
	return a
}

func (b *bundle) requireInvariants(t fataler) {
	t.Helper()
	for _, i := range ledger.Invariants() {
		rows, err := b.pool.Query(t.Context(), i.SQL)
		require.NoError(t, err, i.Name)
		breaks, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err, i.Name)
		require.Empty(t, breaks, i.Name)
	}
}

func keyed(tenant uuid.UUID, key string) idempotency.Keyed {
	hash := idempotency.Hash("POST", "/test", "1", []byte(key))
	return idempotency.Keyed{
		Key: idempotency.Key{TenantID: tenant, Key: key, Hash: hash},
		Refuse: func(p *problem.Error) idempotency.Response {
			return idempotency.Response{Status: problem.MeaningOf(p.Code).Status, Body: []byte(p.Code)}
		},
	}
}

func render(a ledger.Account) idempotency.Response {
	return idempotency.Response{
		Status: 201, Location: "/v1/accounts/" + a.ID.String(), Body: fmt.Appendf(nil, "%+v", a),
	}
}

func TestAHoldIsCapturedInPart(t *testing.T) {
	t.Parallel()
	b := setup(t)
	anna, bob := b.user(t, 100), b.user(t, 0)
	hold := uuid.New()
	require.NoError(t, b.do(t.Context(), []ledger.Ref{anna}, func(book *ledger.Book) error {
		return book.Hold(anna, hold, 60, book.Now())
	}))
	a := b.account(t, anna)
	require.Equal(t, []int64{100, 60, 40, 1}, []int64{a.Posted, a.Held, a.Available(), a.Version})
	require.NoError(t, b.do(t.Context(), []ledger.Ref{anna, bob}, func(book *ledger.Book) error {
		return book.Settle(anna, bob, hold, 60, 25)
	}))
	a = b.account(t, anna)
	require.Equal(t, []int64{75, 0, 75, 2}, []int64{a.Posted, a.Held, a.Available(), a.Version})
	require.EqualValues(t, 25, b.account(t, bob).Posted)
	b.requireInvariants(t)
}
