package migrations_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"example.com/holdfast/db/migrations"
	"example.com/holdfast/internal/pgtest"
)

// upAgainMax is how long an Up may take that finds nothing to do; it takes some 20 ms.
const upAgainMax = 2 * time.Second

func TestMain(m *testing.M) { pgtest.Main(m) }

// catalog says everything about the schema that a migration can leave different.
const catalog = `
SELECT format('column %s.%s %s %s default %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
              CASE WHEN a.attnotnull THEN 'not null' END, pg_get_expr(d.adbin, d.adrelid))
  FROM pg_attribute a
  JOIN pg_class c ON c.oid = a.attrelid
   AND c.relkind IN ('r', 'v', 'S') AND c.relnamespace = 'public'::regnamespace
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
 WHERE a.attnum > 0 AND NOT a.attisdropped
UNION ALL
SELECT format('options %s %s', relname, reloptions) FROM pg_class
 WHERE relnamespace = 'public'::regnamespace AND reloptions IS NOT NULL
UNION ALL
SELECT format('constraint %s.%s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
  FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL
SELECT format('index %s', indexdef) FROM pg_indexes WHERE schemaname = 'public'
UNION ALL
SELECT format('trigger %s', pg_get_triggerdef(oid)) FROM pg_trigger WHERE NOT tgisinternal
UNION ALL
SELECT format('function %s', pg_get_functiondef(oid)) FROM pg_proc
 WHERE pronamespace = 'public'::regnamespace AND prokind = 'f'
UNION ALL
SELECT format('type %s', typname) FROM pg_type
 WHERE typnamespace = 'public'::regnamespace AND typtype IN ('e', 'd')
UNION ALL
SELECT 'transition ' || t::text FROM transfer_transitions t
UNION ALL
SELECT 'transition of orders ' || t::text FROM order_transitions t
 ORDER BY 1`

func dump(t *testing.T, pool *pgxpool.Pool) []string {
	t.Helper()
	rows, err := pool.Query(t.Context(), catalog)
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return lines
}

func TestUpDownUpLeavesTheSameSchema(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	require.NoError(t, migrations.Up(t.Context(), db.URL))
	first := dump(t, db.Pool)
	require.Greater(t, len(first), 100)
	require.NoError(t, migrations.Down(t.Context(), db.URL))

	var left string
	require.NoError(t, db.Pool.QueryRow(t.Context(), `
		SELECT string_agg(name, ' ') FROM (
		SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
		UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
		UNION ALL SELECT typname FROM pg_type
		 WHERE typnamespace = 'public'::regnamespace AND typtype IN ('e', 'd')
		) x`).Scan(&left))
	require.Equal(t, "goose_db_version", left, "only the log of migrations stays")

	require.NoError(t, migrations.Up(t.Context(), db.URL))
	require.Empty(t, cmp.Diff(first, dump(t, db.Pool)))
}

func TestManyMigratorsMayStartAtOnce(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	var group errgroup.Group
	for range 6 {
		group.Go(func() error { return migrations.Up(t.Context(), db.URL) })
	}
	require.NoError(t, group.Wait())
	require.NotEmpty(t, dump(t, db.Pool))

	began := time.Now() //nolint:forbidigo // measures how long a start takes
	require.NoError(t, migrations.Up(t.Context(), db.URL))
	require.Less(t, time.Since(began), upAgainMax)
}

func TestUpNeedsNoMoreConnectionsThanItOpens(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	separator := "?"
	if strings.Contains(db.URL, "?") {
		separator = "&"
	}
	require.NoError(t, migrations.Up(t.Context(), db.URL+separator+"pool_max_conns=1"))
}

func TestUpSaysWhatItCouldNotDo(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, migrations.Up(t.Context(), "postgres://host:notaport/db"), "read database URL")
	db := pgtest.Empty(t)
	_, err := db.Pool.Exec(t.Context(), "CREATE TABLE tenants (other text)")
	require.NoError(t, err)
	require.ErrorContains(t, migrations.Up(t.Context(), db.URL), "apply migrations")
}

func TestHashIsStable(t *testing.T) {
	t.Parallel()
	first, second := migrations.Hash(), migrations.Hash()
	require.Regexp(t, `^[0-9a-f]{16}$`, first)
	require.Equal(t, first, second)
}
