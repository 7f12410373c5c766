package pgtest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { Main(m) }

func makeTable(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "CREATE TABLE notes (note text)")
	return errors.Join(err, conn.Close(ctx))
}

func TestNewHasTheSchema(t *testing.T) {
	t.Parallel()
	pool := New(t)
	var tables int
	require.NoError(t, pool.QueryRow(t.Context(),
		"SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").Scan(&tables))
	require.Positive(t, tables)
	require.EqualValues(t, poolConnsMax, pool.Config().MaxConns)
}

func TestDeadlocksAreSeenAtOnce(t *testing.T) {
	t.Parallel()
	var timeout string
	require.NoError(t, Empty(t).Pool.QueryRow(t.Context(), "SHOW deadlock_timeout").Scan(&timeout))
	require.Equal(t, deadlockTimeout, timeout)
}

func TestATemplateIsBuiltOnceAndClonesAreApart(t *testing.T) {
	t.Parallel()
	var built atomic.Int64
	tmpl := Template{Name: nextName(), Migrate: func(ctx context.Context, url string) error {
		built.Add(1)
		return makeTable(ctx, url)
	}}
	var names sync.Map
	t.Run("clones", func(t *testing.T) { //nolint:tparallel // it ends when its parallel clones have
		for range 6 {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				db := NewWith(t, tmpl)
				_, err := db.Pool.Exec(t.Context(), "INSERT INTO notes VALUES ('mine')")
				require.NoError(t, err)
				var count int
				require.NoError(t, db.Pool.QueryRow(t.Context(), "SELECT count(*) FROM notes").Scan(&count))
				require.Equal(t, 1, count)
				_, taken := names.LoadOrStore(db.Name, true)
				require.False(t, taken)
			})
		}
	})
	require.EqualValues(t, 1, built.Load())
	names.Range(func(name, _ any) bool {
		require.False(t, databaseExists(t, name.(string)), "%s is dropped when its test ends", name)
		return true
	})
}

func databaseExists(t *testing.T, name string) bool {
	t.Helper()
	var found bool
	require.NoError(t, Empty(t).Pool.QueryRow(t.Context(),
		"SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&found))
	return found
}
