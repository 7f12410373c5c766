package app_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/app"
	"example.com/holdfast/internal/config"
	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/pgtx"
)

func TestAReadThatRunsOutOfTimeKeepsItsConnection(t *testing.T) {
	t.Parallel()
	cfg, err := config.Load([]string{"DATABASE_URL=" + pgtest.DB(t).URL, "HOLDFAST_API_CONNS=16"})
	require.NoError(t, err)
	pool, err := app.OpenAPIPool(t.Context(), cfg)
	require.NoError(t, err)
	defer pool.Close()
	const reads = 10
	for range reads {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := pool.Exec(ctx, "SELECT pg_sleep(60)")
		cancel()
		require.Error(t, err)
	}
	require.LessOrEqual(t, pool.Stat().NewConnsCount(), int64(reads/2))
	var limit int64
	require.NoError(t, pool.QueryRow(t.Context(),
		"SELECT setting::int FROM pg_settings WHERE name = 'statement_timeout'").Scan(&limit))
	require.Equal(t, pgtx.StatementMax.Milliseconds(), limit)
}
