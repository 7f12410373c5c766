package app

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/config"
	"example.com/holdfast/internal/jobqueue"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/telemetry"
	"example.com/holdfast/internal/transfer"
)

// recorder notes the statements of a look.
type recorder struct {
	mu         sync.Mutex
	statements []pgx.TraceQueryStartData
}

func (r *recorder) TraceQueryStart(
	ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData,
) context.Context {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.statements = append(r.statements, q)
	return ctx
}

// TraceQueryEnd has nothing to note.
func (*recorder) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// recorded is a pool as looks use it, with what was asked through it.
func recorded(t *testing.T, url string) (*pgxpool.Pool, *recorder) {
	t.Helper()
	cfg, r := opened(t, url).Config(), &recorder{}
	cfg.ConnConfig.Tracer = r
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool, r
}

// explained is the plan of a statement that was run, and how many buffers it reads.
func explained(t *testing.T, pool *pgxpool.Pool, q pgx.TraceQueryStartData) (string, int) {
	t.Helper()
	rows, err := pool.Query(t.Context(), "EXPLAIN (ANALYZE, BUFFERS) "+q.SQL, q.Args...)
	require.NoError(t, err, q.SQL)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err, q.SQL)
	text := strings.Join(lines, "\n")
	sum := 0
	for _, n := range readOfAll.FindStringSubmatch(text)[1:] { // the first node has the sums
		buffers, _ := strconv.Atoi(n)
		sum += buffers
	}
	return text, sum
}

var readOfAll = regexp.MustCompile(`Buffers: shared(?: hit=(\d+))?(?: read=(\d+))?|$`)

// history fills the database with a million jobs and a million transfers that have ended. The indexes of jobs
// by what is in them, which no look would choose, are left out, and nothing is logged: that takes most of the
// time.
func history(tb testing.TB, pool *pgxpool.Pool) {
	tb.Helper()
	for _, sql := range []string{
		"DROP INDEX river_job_args_index, river_job_metadata_index, river_job_kind",
		"ALTER TABLE river_job SET UNLOGGED", "ALTER TABLE transfers SET UNLOGGED",
		`INSERT INTO river_job (args, kind, max_attempts, queue, state, scheduled_at, finalized_at, priority)
		 SELECT '{}', 'transfer_screen', 3, 'risk_api', 'completed', now() - n * interval '1 ms', now(),
		        1 + n % 4
		   FROM generate_series(1, 1000000) n`,
		`INSERT INTO transfers (tenant_id, id, from_account, to_account, amount, currency, state, version,
		                        notification, promise_at, created_at, updated_at)
		 SELECT '00000000-0000-0000-0000-000000000001',
		        ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid,
		        '00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000003', 1, 'EUR',
		        'settled', 3, 'sent', now() - n * interval '1 ms', now() - n * interval '1 ms', now()
		   FROM generate_series(1, 1000000) n`,
	} {
		_, err := pool.Exec(tb.Context(), sql)
		require.NoError(tb, err)
	}
}

// cost is how many buffers some statements read. None may read a whole table that grows.
func cost(t *testing.T, pool *pgxpool.Pool, statements []pgx.TraceQueryStartData) int {
	t.Helper()
	sum := 0
	for _, q := range statements {
		plan, buffers := explained(t, pool, q)
		sum += buffers
		for _, table := range []string{
			"transfers", "orders", "river_job", "events", "event_log", "deliveries", "outbox",
		} {
			require.NotContains(t, plan, "Seq Scan on "+table+" ")
		}
	}
	return sum
}

// TestALookCostsWhatIsOpenHoweverMuchHasEnded looks at the plans of an empty database too: a connection keeps
// what it planned then.
func TestALookCostsWhatIsOpenHoweverMuchHasEnded(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("fills a large database")
	}
	const buffersMax = 200 // of 8 kB; 79 of them when this was written
	db := pgtest.DB(t)
	pool, asked := recorded(t, db.URL)
	_, err := lookAt(t.Context(), pool)
	require.NoError(t, err)
	operations := NewOperations(pool, transfer.NewService(transfer.Config{Pool: pool, Now: time.Now}),
		order.NewService(order.Config{Pool: pool, Now: time.Now}))
	_, err = operations.lastGivenUp(t.Context()) // which the watchman asks with every look
	require.NoError(t, err)
	statements := asked.statements
	require.GreaterOrEqual(t, len(statements), 16)
	few := cost(t, pool, statements)
	require.Positive(t, few)
	require.Less(t, few, buffersMax)
	history(t, db.Pool)
	exec(t, db.Pool, insertTransfers, uuid.New(), "accepted", 20)
	exec(t, db.Pool, insertOrders, uuid.New(), 20)
	exec(t, db.Pool, insertJob, jobqueue.QueueRisk, time.Minute, 1)
	require.Less(t, cost(t, pool, statements), buffersMax)
	exec(t, db.Pool, "ANALYZE transfers, orders, river_job")
	require.Less(t, cost(t, pool, statements), buffersMax)
}

// BenchmarkALook measures a look, and a scrape, with a million jobs and a million transfers that have ended.
func BenchmarkALook(b *testing.B) {
	db := pgtest.DB(b)
	history(b, db.Pool)
	_, err := db.Pool.Exec(b.Context(), "ANALYZE")
	require.NoError(b, err)
	cfg, err := config.Load([]string{"DATABASE_URL=" + db.URL})
	require.NoError(b, err)
	pool, err := opsPool(b.Context(), cfg)
	require.NoError(b, err)
	b.Cleanup(pool.Close)
	env := Env{Metrics: telemetry.New(), Log: slog.New(slog.DiscardHandler), Now: time.Now}
	s := newSampler(pool, env)
	env.Metrics.WatchLook(s.seen)
	b.Run("look", func(b *testing.B) {
		for b.Loop() {
			s.look(b.Context())
		}
	})
	handler := withMetrics(http.NotFoundHandler(), env)
	b.Run("scrape", func(b *testing.B) {
		for b.Loop() {
			reply := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/metrics", nil)
			handler.ServeHTTP(reply, r)
			require.Equal(b, http.StatusOK, reply.Code)
		}
	})
}
