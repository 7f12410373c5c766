package migrations_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/db/migrations"
	"example.com/holdfast/internal/pgtest"
)

const beforeEventLog = 12

const insertEvents = `
INSERT INTO events (tenant_id, aggregate_id, seq, type, to_state, actor, at)
SELECT $1, $2, n, 'thing.moved', 'x', 'test', now() FROM generate_series($3::integer, $4) AS n`

// outboxRows is what the outbox names, row by row, in the order in which it leaves.
const outboxRows = `
SELECT count(*), coalesce(sum(cardinality(seqs)), 0),
       coalesce(bool_and(seqs = (SELECT array_agg(s ORDER BY s) FROM unnest(seqs) s)), true)
  FROM outbox WHERE tenant_id = $1 AND aggregates = array_fill($2::uuid, ARRAY[cardinality(seqs)])`

func TestEventsThatWereThereBeforeLeaveFirst(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	require.NoError(t, migrations.UpTo(t.Context(), db.URL, beforeEventLog))
	tenant, id := uuid.New(), uuid.New()
	run(t, db.Pool, insertEvents, tenant, id, 1, 150)
	require.NoError(t, migrations.Up(t.Context(), db.URL))
	run(t, db.Pool, insertEvents, tenant, id, 151, 152)
	var rows, events int
	var sorted bool
	require.NoError(t, db.Pool.QueryRow(t.Context(), outboxRows, tenant, id).Scan(&rows, &events, &sorted))
	require.Equal(t, 4, rows, "64, 64 and 22 of before, and what came afterwards")
	require.Equal(t, 152, events)
	require.True(t, sorted)
	var turned int
	require.NoError(t, db.Pool.QueryRow(t.Context(), `
		SELECT count(*) FROM (SELECT seqs[1] - lag(seqs[1], 1, 0) OVER (ORDER BY id) AS step FROM outbox) o
		 WHERE o.step <= 0`).Scan(&turned))
	require.Zero(t, turned)
}

func TestNobodyWritesAnEventPastTheOutbox(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	require.NoError(t, migrations.Up(t.Context(), db.URL))
	one, other := uuid.New(), uuid.New()
	run(t, db.Pool, insertEvents, one, uuid.New(), 1, 3)
	run(t, db.Pool, insertEvents, other, uuid.New(), 1, 2)
	run(t, db.Pool, insertEvents, other, uuid.New(), 1, 0) // a statement that writes nothing
	var rows, events int
	require.NoError(t, db.Pool.QueryRow(t.Context(), `
		SELECT count(*), sum(cardinality(seqs)) FROM outbox WHERE tenant_id IN ($1, $2)`, one, other).
		Scan(&rows, &events))
	require.Equal(t, []int{2, 5}, []int{rows, events})
}
