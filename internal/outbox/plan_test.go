package outbox_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/outbox/internal/outboxdb"
	"example.com/holdfast/internal/pgtest"
)

// TestAPlanMadeForNoEventsLooksEachOneUp guards against the generic plan of an empty table that reads all
// events of a tenant for each place of a page.
func TestAPlanMadeForNoEventsLooksEachOneUp(t *testing.T) {
	t.Parallel()
	tx, err := pgtest.New(t).Begin(t.Context()) //nolint:forbidigo // settings for one look
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(t.Context()) }()
	for _, setting := range []string{ // those of the domain's pools
		"plan_cache_mode = force_generic_plan", "enable_seqscan = off", "enable_hashjoin = off",
		"enable_mergejoin = off",
	} {
		_, err := tx.Exec(t.Context(), "SET LOCAL "+setting)
		require.NoError(t, err)
	}
	for name, c := range map[string]struct {
		sql  string
		args []any
	}{
		"ReadLog":       {outboxdb.ReadLog, []any{int64(0), uuid.New(), int32(100)}},
		"SystemReadLog": {outboxdb.SystemReadLog, []any{int64(0), int32(100)}},
		"ReadEvents":    {outboxdb.ReadEvents, []any{[]uuid.UUID{uuid.New()}, []int32{1}, uuid.New()}},
	} {
		rows, err := tx.Query(t.Context(), "EXPLAIN (COSTS OFF) "+c.sql, c.args...)
		require.NoError(t, err, name)
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err, name)
		text := strings.Join(plan, "\n")
		_, events, found := strings.Cut(text, "Index Scan using events_pkey")
		require.True(t, found, "%s:\n%s", name, text)
		condition := strings.Split(events, "\n")[1]
		for _, column := range []string{"tenant_id = ", "aggregate_id = ", "seq = "} {
			require.Contains(t, condition, column, "%s:\n%s", name, text)
		}
	}
}
