package app

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/config"
	"example.com/holdfast/internal/httpapi"
	"example.com/holdfast/internal/jobqueue"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/telemetry"
	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/internal/webhook"
)

// clock is one that a test sets.
type clock struct{ atomic.Int64 }

func (c *clock) now() time.Time { return time.UnixMilli(c.Load()) }

// lookers is a process whose sampler the test lets look.
func lookers(t *testing.T) (*sampler, *pgxpool.Pool, *clock) {
	t.Helper()
	db := pgtest.DB(t)
	var c clock
	env := Env{
		Metrics: telemetry.New(), Log: slog.New(slog.DiscardHandler), Now: c.now, sampled: &atomic.Bool{},
	}
	pool := opened(t, db.URL)
	s := newSampler(pool, env)
	env.Metrics.WatchLook(s.seen)
	return s, db.Pool, &c
}

// opened is the pool that looks use.
func opened(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	cfg, err := config.Load([]string{"DATABASE_URL=" + url})
	require.NoError(t, err)
	pool, err := opsPool(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// gauges reads a gauge, by the values of its labels.
func gauges(t *testing.T, m *telemetry.Metrics, name string) map[string]float64 {
	t.Helper()
	families, err := m.Registry().Gather()
	require.NoError(t, err)
	found := map[string]float64{}
	for _, f := range families {
		if f.GetName() != "holdfast_"+name {
			continue
		}
		for _, series := range f.GetMetric() {
			found[labelValues(series)] = series.GetGauge().GetValue()
		}
	}
	return found
}

func labelValues(series *dto.Metric) string {
	var values []string
	for _, l := range series.GetLabel() {
		values = append(values, l.GetValue())
	}
	return strings.Join(values, " ")
}

func exec(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	_, err := pool.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

const insertTransfers = `
INSERT INTO transfers (tenant_id, id, from_account, to_account, amount, currency, state, version, wake_at,
                       promise_at, created_at, updated_at)
SELECT $1, gen_random_uuid(), $1, gen_random_uuid(), 1, 'EUR', $2, 1,
       CASE WHEN $2 <> 'settled' THEN now() END, now() - interval '10 seconds',
       now() - interval '70 seconds', now()
  FROM generate_series(1, $3)`

const insertOrders = `
INSERT INTO orders (tenant_id, id, customer_account, merchant_account, location, currency, total, state,
                    version, wake_at, promise_at, created_at, updated_at)
SELECT $1, gen_random_uuid(), $1, gen_random_uuid(), 'main', 'EUR', 1, 'pending', 1, now(),
       now() + interval '4 minutes', now() - interval '1 minute', now()
  FROM generate_series(1, $2)`

const insertJob = `
INSERT INTO river_job (args, kind, max_attempts, queue, state, scheduled_at, priority)
VALUES ('{}', 'ping', 3, $1, 'available', now() - $2::interval, $3)`

// requireDrained says that every gauge of what waits is there, and zero.
func requireDrained(t *testing.T, m *telemetry.Metrics) {
	t.Helper()
	for name, series := range map[string]int{
		"ready_age_seconds": len(jobqueue.Queues()) * jobqueue.Lanes, "promise_age_seconds": 2,
		"promise_overdue": 2, "tenant_open": telemetry.RankMax, "outbox_age_seconds": 1,
		"inbox_lag_seconds": 1,
		"webhook_endpoints": 2, "webhook_dead_events": 1,
	} {
		found := gauges(t, m, name)
		require.Len(t, found, series, name)
		for labels, value := range found {
			require.InDelta(t, 0, value, 0, "%s of %s", name, labels)
		}
	}
}

func TestEachGaugeShowsWhatWaitsAndIsZeroWhenDrained(t *testing.T) {
	t.Parallel()
	s, pool, _ := lookers(t)
	s.look(t.Context())
	requireDrained(t, s.env.Metrics)

	busy, calm := uuid.New(), uuid.New()
	exec(t, pool, insertTransfers, busy, "accepted", 7)
	exec(t, pool, insertTransfers, calm, "accepted", 1)
	exec(t, pool, insertTransfers, calm, "settled", 50)
	exec(t, pool, insertOrders, calm, 2)
	exec(t, pool, insertJob, jobqueue.QueueRisk, 20*time.Second, 1)
	exec(t, pool, insertJob, jobqueue.QueueRisk, 50*time.Second, 3)
	exec(t, pool, insertJob, jobqueue.QueueDB, -time.Hour, 1)
	s.look(t.Context())
	m := s.env.Metrics
	for labels, age := range gauges(t, m, "ready_age_seconds") {
		want := map[string]float64{"1 risk_api": 20, "3 risk_api": 50}[labels]
		require.InDelta(t, want, age, want, labels)
		require.GreaterOrEqual(t, age, want, "%s: a job for later does not wait", labels)
	}
	ages := gauges(t, m, "promise_age_seconds")
	require.InDelta(t, 75, ages["transfer"], 5)
	require.InDelta(t, 65, ages["order"], 5)
	require.Equal(t, map[string]float64{"transfer": 8, "order": 0}, gauges(t, m, "promise_overdue"))
	require.Equal(t, map[string]float64{"1": 7, "2": 3, "3": 0, "4": 0, "5": 0}, gauges(t, m, "tenant_open"))
	tenants, err := NewOperations(pool, nil, nil).Busiest(t.Context())
	require.NoError(t, err)
	require.Equal(t, []httpapi.BusyTenant{
		{TenantID: busy, Transfers: 7}, {TenantID: calm, Transfers: 1, Orders: 2},
	}, tenants, "operators see who has the ranks")

	for _, table := range []string{"transfers", "orders", "river_job"} {
		exec(t, pool, "DELETE FROM "+table)
	}
	s.look(t.Context())
	requireDrained(t, m)
}

func TestWhatCannotBeSeenDoesNotLookDrained(t *testing.T) {
	t.Parallel()
	s, pool, c := lookers(t)
	exec(t, pool, insertJob, jobqueue.QueueRisk, time.Minute, 1)
	s.look(t.Context())
	s.pool.Close() // it cannot be asked any more
	value := func(name, labels string) float64 { return gauges(t, s.env.Metrics, name)[labels] }
	seen := value("ready_age_seconds", "1 risk_api")
	c.Add((lookStale - time.Millisecond).Milliseconds())
	s.look(t.Context())
	require.InDelta(t, seen, value("ready_age_seconds", "1 risk_api"), 0, "the last look stands for a moment")
	require.InDelta(t, 3, value("look_age_seconds", ""), 0.1)
	c.Add(time.Minute.Milliseconds())
	s.look(t.Context())
	for name, labels := range map[string]string{
		"ready_age_seconds": "1 db", "promise_age_seconds": "transfer", "outbox_age_seconds": "",
		"inbox_lag_seconds": "order", "look_age_seconds": "",
	} {
		require.InDelta(t, 63, value(name, labels), 0.1, name)
	}
	require.InDelta(t, seen+63, value("ready_age_seconds", "1 risk_api"), 0.1)
}

func TestALookThatNeverSucceededDoesNotLookDrainedEither(t *testing.T) {
	t.Parallel()
	s, _, c := lookers(t)
	s.pool.Close()
	var log bytes.Buffer
	s.env.Log = slog.New(slog.NewTextHandler(&log, nil))
	s.look(t.Context())
	c.Add(time.Hour.Milliseconds())
	require.InDelta(t, 3600, gauges(t, s.env.Metrics, "promise_age_seconds")["order"], 0)
	require.InDelta(t, 3600, gauges(t, s.env.Metrics, "ready_age_seconds")["4 db"], 0)
	require.Contains(t, log.String(), "what waits was not seen")
}

func TestOnePartOfAProcessLooksAndTheNextOneMayLater(t *testing.T) {
	t.Parallel()
	first, pool, _ := lookers(t)
	second := newSampler(first.pool, first.env)
	first.start(t.Context())
	second.start(t.Context())
	require.True(t, first.mine)
	require.False(t, second.mine)
	second.stop(t.Context())
	exec(t, pool, insertOrders, uuid.New(), 1)
	sees := func() bool { return gauges(t, first.env.Metrics, "promise_age_seconds")["order"] > 0 }
	require.Eventually(t, sees, 20*time.Second, time.Millisecond)
	first.stop(t.Context())
	second.start(t.Context())
	require.True(t, second.mine)
	second.stop(t.Context())
}

func TestAScrapeReadsMemoryOnly(t *testing.T) {
	t.Parallel()
	s, _, _ := lookers(t)
	s.look(t.Context())
	s.pool.Close()
	handler := withMetrics(http.NotFoundHandler(), s.env)
	reply := httptest.NewRecorder()
	handler.ServeHTTP(reply, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	require.Equal(t, http.StatusOK, reply.Code)
	require.Contains(t, reply.Body.String(), `holdfast_ready_age_seconds{lane="4",queue="payout_rail"} 0`)
}

func TestALookIsShownInSeconds(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(0)
	tenant := uuid.New()
	l := look{
		at: at, ready: map[string]lanes{riskAPI: {time.Second, 0, 2 * time.Second, 0}},
		transfers: transfer.Promises{Age: 3 * time.Second, Overdue: 4, Open: map[uuid.UUID]int{tenant: 5}},
		orders:    order.Promises{Age: 6 * time.Second, Overdue: 7, Open: map[uuid.UUID]int{tenant: 8}},
		outbox: outbox.Lag{
			Outbox: 9 * time.Second, Sinks: []outbox.SinkLag{{Name: "broker", Age: 10 * time.Second}},
			Consumers: []outbox.ConsumerLag{{Name: "order", Age: 11 * time.Second}},
			Unhandled: []outbox.Unhandled{{Consumer: "order", Type: "transfer.settled", Events: 12}},
		},
		webhooks: webhook.Stats{Failing: 13, Disabled: 14, Dead: 15},
	}
	got := l.shown(at.Add(time.Second))
	require.Equal(t, []float64{1, 0, 2, 0}, got.Ready[riskAPI])
	require.Equal(t, []float64{0, 0, 0, 0}, got.Ready[payoutRail])
	require.Equal(t, map[string]telemetry.OpenPromises{
		"transfer": {Age: 3, Overdue: 4}, "order": {Age: 6, Overdue: 7},
	}, got.Promises)
	require.Equal(t, []int{13}, got.TenantOpen)
	require.Equal(t, telemetry.Outbox{
		Age: 9, Sinks: map[string]float64{"broker": 10}, Consumers: map[string]float64{"order": 11},
		Mismatch: map[[2]string]int{{"order", "transfer.settled"}: 12},
		Webhooks: map[string]int{"failing": 13, "disabled": 14}, WebhooksDead: 15,
	}, got.Outbox)
}
