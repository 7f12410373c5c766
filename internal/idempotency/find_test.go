package idempotency

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/pgtest"
)

func startFinder(tb testing.TB, pool *pgxpool.Pool) *Finder {
	tb.Helper()
	f := NewFinder(pool, time.Now) //nolint:forbidigo // contexts go by this clock
	f.Start(tb.Context())
	tb.Cleanup(f.Stop)
	return f
}

// requireFinds asks until there is an answer: on a machine that is busy one look-up may take too long.
func (f *Finder) requireFinds(tb testing.TB, tenant uuid.UUID, key string) {
	tb.Helper()
	require.Eventually(tb, func() bool { return f.Known(tb.Context(), tenant, key) },
		10*time.Second, time.Millisecond)
}

func store(tb testing.TB, pool *pgxpool.Pool, tenant uuid.UUID, keys int) {
	tb.Helper()
	_, err := pool.Exec(tb.Context(), `
		INSERT INTO idempotency_keys
		SELECT $1, 'key ' || i, sha256(''), 202, NULL, '', now() FROM generate_series(1, $2::int) i`,
		tenant, keys)
	require.NoError(tb, err)
}

func TestAFinderKnowsWhatIsStoredForATenant(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	f := startFinder(t, pool)
	one, other := uuid.New(), uuid.New()
	store(t, pool, one, 2)
	f.requireFinds(t, one, "key 1")
	f.requireFinds(t, one, "key 2")
	// No is also the answer to what is not known in time, so these are asked for as a batch that says yes.
	known, err := f.flush(t.Context(), []slot{
		{one, "key 3"}, {one, "key 1"}, {other, "key 1"}, {one, "key 1"}, {one, ""},
	})
	require.NoError(t, err)
	require.Equal(t, []bool{false, true, false, true, false}, known)
}

func TestWhatCannotBeLookedUpIsNotKnown(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	f := startFinder(t, pool)
	tenant := uuid.New()
	store(t, pool, tenant, 1)
	f.requireFinds(t, tenant, "key 1")

	tx, err := pool.Begin(t.Context()) //nolint:forbidigo // somebody else's transaction
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "LOCK TABLE idempotency_keys IN ACCESS EXCLUSIVE MODE")
	require.NoError(t, err)
	require.False(t, f.Known(t.Context(), tenant, "key 1"), "the table is locked for longer than one waits")
	require.NoError(t, tx.Rollback(t.Context()))
	f.requireFinds(t, tenant, "key 1")

	gone, cancel := context.WithCancel(t.Context())
	cancel()
	require.False(t, f.Known(gone, tenant, "key 1"))
	f.Stop()
	require.False(t, f.Known(t.Context(), tenant, "key 1"))
}

// BenchmarkKnown measures a look-up of many callers at once, as in a flood that is refused.
func BenchmarkKnown(b *testing.B) {
	pool := pgtest.New(b)
	tenant := uuid.New()
	store(b, pool, tenant, 10_000)
	f := startFinder(b, pool)
	b.SetParallelism(64)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for n := 0; pb.Next(); n++ {
			f.Known(b.Context(), tenant, "key "+strconv.Itoa(n))
		}
	})
}
