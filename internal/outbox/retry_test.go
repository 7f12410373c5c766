package outbox_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/pgtest"
)

// longest is the jitter that waits as long as it may.
func longest() float64 { return 0.999 }

// readOne reads the one delivery of an event.
func readOne(t *testing.T, pool *pgxpool.Pool, e outbox.Event) outbox.Delivery {
	t.Helper()
	deliveries, err := waiting().Read(t.Context(), pool, []outbox.DeliveryRef{refOf(e)})
	require.NoError(t, err)
	require.Len(t, deliveries, 1)
	return deliveries[0]
}

// fail notes that a delivery could not be handled, and says how long it waits for the next try.
func fail(t *testing.T, pool *pgxpool.Pool, d outbox.Delivery, broke bool) time.Duration {
	t.Helper()
	var before, wakeAt time.Time
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT clock_timestamp()").Scan(&before))
	failed := []outbox.Failure{{Delivery: d, Broke: broke}}
	require.NoError(t, waiting().Retry(t.Context(), pool, failed, longest))
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT wake_at FROM deliveries WHERE aggregate_id = $1",
		d.AggregateID).Scan(&wakeAt))
	return wakeAt.Sub(before)
}

func TestWhatBreaksAgainAndAgainWaitsLongerThenIsDeadAndNeverLost(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	e := thing(uuid.New(), "thing.ended", "shop:1")
	require.NoError(t, appendAll(t.Context(), pool, e))
	dead := func() []outbox.Dead {
		dead, err := outbox.DeadDeliveries(t.Context(), pool, 10)
		require.NoError(t, err)
		return dead
	}
	last := time.Duration(0)
	for n := range int32(4) {
		d := readOne(t, pool, e)
		require.Equal(t, []int32{n, n}, []int32{d.Attempts, d.Failures})
		wait := fail(t, pool, d, true)
		require.Greater(t, wait, last)
		require.Less(t, wait, time.Minute)
		last = wait
		require.Empty(t, dead())
	}
	for n := range int32(2) {
		wait := fail(t, pool, readOne(t, pool, e), true)
		require.Greater(t, wait, 59*time.Minute, "it is looked at each hour")
		require.Len(t, dead(), 1)
		require.Equal(t, "shop", dead()[0].Consumer)
		require.Equal(t, refOf(e), dead()[0].DeliveryRef)
		require.Equal(t, 5+n, dead()[0].Failures)
	}
	require.Equal(t, 7, count(t, pool, "SELECT count(*) FROM river_job"))
	require.Equal(t, 1, count(t, pool, `
SELECT count(*) FROM deliveries d
 WHERE EXISTS (SELECT FROM river_job j WHERE j.scheduled_at = d.wake_at AND j.kind = 'shop_wake')`))
	_, err := handle(t.Context(), pool, nil, refOf(e))
	require.NoError(t, err)
	require.Empty(t, dead(), "what can be handled at last is gone")
	requireDeliveryInvariants(t, pool)
}

func TestWhatIsHeldUpCountsAgainstNobody(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	e := thing(uuid.New(), "thing.ended", "shop:1")
	require.NoError(t, appendAll(t.Context(), pool, e))
	last := time.Duration(0)
	for n := range int32(6) {
		d := readOne(t, pool, e)
		require.Equal(t, []int32{n, 0}, []int32{d.Attempts, d.Failures})
		wait := fail(t, pool, d, false)
		require.Greater(t, wait, last)
		last = wait
	}
	require.Less(t, last, time.Minute)
	dead, err := outbox.DeadDeliveries(t.Context(), pool, 10)
	require.NoError(t, err)
	require.Empty(t, dead)
}

func TestWhoComesTooLateFailsNothing(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	e := thing(uuid.New(), "thing.ended", "shop:1")
	require.NoError(t, appendAll(t.Context(), pool, e))
	d := readOne(t, pool, e)
	fail(t, pool, d, true)
	first := readOne(t, pool, e)
	fail(t, pool, d, true)
	require.Equal(t, first, readOne(t, pool, e), "another worker tried it meanwhile")

	_, err := handle(t.Context(), pool, nil, refOf(e))
	require.NoError(t, err)
	require.NoError(t, waiting().Retry(t.Context(), pool, []outbox.Failure{{Delivery: first}}, longest))
	require.Zero(t, count(t, pool, "SELECT count(*) FROM deliveries"), "another one handled it meanwhile")
	requireDeliveryInvariants(t, pool)
}

func TestDeliveriesGoInTheLaneOfTheirEvent(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	events := make([]outbox.Event, 6)
	for i := range events {
		events[i] = thing(uuid.New(), "thing.ended", "shop:x")
		events[i].Lane = int16(i % 3)
	}
	require.NoError(t, appendAll(t.Context(), pool, events...))
	const astray = `
SELECT count(*) FROM river_job j
 CROSS JOIN LATERAL jsonb_array_elements(j.args -> 'deliveries') AS named (it)
  JOIN deliveries d ON d.aggregate_id = (named.it ->> 'aggregate')::uuid
 WHERE d.lane <> j.priority`
	require.Equal(t, 2, count(t, pool, "SELECT count(*) FROM river_job"), "lanes 0 and 1 are one")
	require.Equal(t, 2, count(t, pool, "SELECT count(*) FROM deliveries WHERE lane = 2"))
	require.Zero(t, count(t, pool, astray))
	for _, e := range events {
		fail(t, pool, readOne(t, pool, e), true)
	}
	require.Zero(t, count(t, pool, astray))
	_, err := pool.Exec(t.Context(), "DELETE FROM river_job")
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), "UPDATE deliveries SET wake_at = now() - interval '1 minute'")
	require.NoError(t, err)
	woken, err := waiting().Sweep(t.Context(), pool)
	require.NoError(t, err)
	require.Equal(t, 6, woken)
	require.Equal(t, 2, count(t, pool, "SELECT count(*) FROM river_job"))
	require.Zero(t, count(t, pool, astray))
}

func TestTheNewestDeadComeFirstAndAPageIsBounded(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	for range 3 {
		require.NoError(t, appendAll(t.Context(), pool, thing(uuid.New(), "thing.ended", "shop:1")))
	}
	_, err := pool.Exec(t.Context(), `
UPDATE deliveries d SET failures = 5, created_at = now() + n * interval '1 second'
  FROM (SELECT aggregate_id, row_number() OVER () AS n FROM deliveries) x
 WHERE x.aggregate_id = d.aggregate_id`)
	require.NoError(t, err)
	dead, err := outbox.DeadDeliveries(t.Context(), pool, 2)
	require.NoError(t, err)
	require.Len(t, dead, 2)
	require.True(t, dead[0].At.After(dead[1].At))
	dead, err = outbox.DeadDeliveries(t.Context(), pool, 0)
	require.NoError(t, err)
	require.Len(t, dead, 1)
}
