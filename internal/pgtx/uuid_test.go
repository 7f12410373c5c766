package pgtx_test

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/pgtx"
)

func withTypes(tb testing.TB, url string) *pgxpool.Pool {
	tb.Helper()
	cfg, err := pgxpool.ParseConfig(url)
	require.NoError(tb, err)
	cfg.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		pgtx.RegisterTypes(conn.TypeMap())
		return nil
	}
	pool, err := pgxpool.NewWithConfig(tb.Context(), cfg)
	require.NoError(tb, err)
	tb.Cleanup(pool.Close)
	return pool
}

// Every kind of value goes there and comes back, with our types and without them.
func TestUUIDsGoAsBytes(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	ours := withTypes(t, db.URL)
	one := uuid.New()
	for _, pool := range []*pgxpool.Pool{ours, db.Pool} {
		var got uuid.UUID
		var text string
		const both = "SELECT $1::uuid, $1::uuid::text"
		require.NoError(t, pool.QueryRow(t.Context(), both, one).Scan(&got, &text))
		require.Equal(t, one, got)
		require.Equal(t, one.String(), text)

		for _, ids := range [][]uuid.UUID{nil, {}, {one}, {one, uuid.Nil, uuid.New()}} {
			rows, err := pool.Query(t.Context(), "SELECT unnest($1::uuid[])", ids)
			require.NoError(t, err)
			back, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
			require.NoError(t, err)
			require.ElementsMatch(t, ids, back)
		}

		var pointer *uuid.UUID
		require.NoError(t, pool.QueryRow(t.Context(), "SELECT NULL::uuid").Scan(&pointer))
		require.Nil(t, pointer)
		require.NoError(t, pool.QueryRow(t.Context(), "SELECT $1::uuid", &one).Scan(&pointer))
		require.Equal(t, one, *pointer)
	}
	var id uuid.UUID
	require.Error(t, ours.QueryRow(t.Context(), "SELECT NULL::uuid").Scan(&id), "NULL is no id")
}

// BenchmarkUUIDs sends a thousand ids and reads them back.
func BenchmarkUUIDs(b *testing.B) {
	db := pgtest.Empty(b)
	ids := make([]uuid.UUID, 1_000)
	for i := range ids {
		ids[i] = uuid.New()
	}
	for name, pool := range map[string]*pgxpool.Pool{"bytes": withTypes(b, db.URL), "text": db.Pool} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				rows, err := pool.Query(b.Context(), "SELECT unnest($1::uuid[])", ids)
				require.NoError(b, err)
				_, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
				require.NoError(b, err)
			}
		})
	}
}
