package outbox_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/pgtx"
)

// waiting is a consumer of the ends of what it calls its own.
func waiting() outbox.Subscription {
	return outbox.Subscription{
		Consumer: "shop", Types: []string{"thing.ended", "thing.failed"}, ReferencePrefix: "shop:",
		Queue: "db", Kind: "shop_wake",
	}
}

func thing(tenant uuid.UUID, kind, reference string) outbox.Event {
	return outbox.Event{
		TenantID: tenant, AggregateID: uuid.New(), Seq: 1, Type: kind, To: "ended", Actor: "test",
		Reference: reference,
	}
}

func appendAll(ctx context.Context, pool *pgxpool.Pool, events ...outbox.Event) error {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return pgtx.Pipeline(ctx, pool, "append", func(*pgx.Batch) {}, func(write *pgx.Batch) error {
		return outbox.Append(ctx, write, now, events, waiting())
	})
}

func refOf(e outbox.Event) outbox.DeliveryRef {
	return outbox.DeliveryRef{TenantID: e.TenantID, AggregateID: e.AggregateID, Seq: e.Seq}
}

// handle is what a consumer does with deliveries, in one transaction. It says for how many of them the
// effect was done.
func handle(ctx context.Context, pool *pgxpool.Pool, effect error, refs ...outbox.DeliveryRef) (int, error) {
	done := 0
	var inbox *outbox.Inbox
	err := pgtx.Pipeline(ctx, pool, "handle",
		func(read *pgx.Batch) { inbox = waiting().Open(read, refs) },
		func(write *pgx.Batch) error {
			done = 0
			for _, ref := range refs {
				if !inbox.Handled(ref) {
					done++
				}
				inbox.Done(ref)
			}
			return errors.Join(effect, inbox.Write(ctx, write, time.Unix(0, 0)))
		})
	return done, err
}

func count(t *testing.T, pool *pgxpool.Pool, sql string) int {
	t.Helper()
	var n int
	require.NoError(t, pool.QueryRow(t.Context(), sql).Scan(&n))
	return n
}

func requireDeliveryInvariants(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	for _, i := range outbox.Invariants() {
		rows, err := pool.Query(t.Context(), i.SQL)
		require.NoError(t, err)
		breaks, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		require.Empty(t, breaks, i.Name)
	}
}

func TestOnlyWhatASubscriptionNamesIsDelivered(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	tenant := uuid.New()
	wanted := thing(tenant, "thing.ended", "shop:1")
	require.NoError(t, appendAll(t.Context(), pool, wanted, thing(tenant, "thing.begun", "shop:1"),
		thing(tenant, "thing.ended", "other:1"), thing(tenant, "thing.failed", ""), thing(tenant,
			"thing.ended.more", "shop:1")))
	require.Equal(t, 5, count(t, pool, "SELECT count(*) FROM events"))
	deliveries, err := waiting().Read(t.Context(), pool, []outbox.DeliveryRef{
		refOf(wanted),
		{TenantID: tenant},
	})
	require.NoError(t, err)
	require.Len(t, deliveries, 1)
	require.True(t, deliveries[0].At.Equal(deliveries[0].WakeAt), "it is to be handled at once")
	deliveries[0].At, deliveries[0].WakeAt = time.Time{}, time.Time{}
	require.Equal(t, outbox.Delivery{
		DeliveryRef: refOf(wanted), Type: "thing.ended", Reference: "shop:1", Lane: 1,
	}, deliveries[0])
	require.Equal(t, 1, count(t, pool, "SELECT count(*) FROM deliveries"))
	require.Equal(t, 1, count(t, pool, `SELECT count(*) FROM river_job
		WHERE kind = 'shop_wake' AND queue = 'db' AND jsonb_array_length(args -> 'deliveries') = 1`))
	requireDeliveryInvariants(t, pool)
}

func TestADeliverysJobHasTheTraceOfItsEvent(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	tenant := uuid.New()
	traced := thing(tenant, "thing.ended", "shop:1")
	traced.Trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	require.NoError(t, appendAll(t.Context(), pool, thing(tenant, "thing.ended", "shop:2"), traced))
	var metadata string
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT metadata FROM river_job").Scan(&metadata))
	require.JSONEq(t, `{"traces":{"`+traced.AggregateID.String()+`":"`+traced.Trace+`"}}`, metadata)
}

func TestManyDeliveriesShareJobs(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	events := make([]outbox.Event, 70)
	for i := range events {
		events[i] = thing(uuid.New(), "thing.ended", "shop:x")
	}
	require.NoError(t, appendAll(t.Context(), pool, events...))
	require.Equal(t, 3, count(t, pool, "SELECT count(*) FROM river_job"))
	requireDeliveryInvariants(t, pool)
}

func TestAnEventIsHandledOnceHoweverOftenItComes(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	e := thing(uuid.New(), "thing.ended", "shop:1")
	require.NoError(t, appendAll(t.Context(), pool, e))
	_, err := handle(t.Context(), pool, errors.New("the effect is refused"), refOf(e))
	require.Error(t, err)
	require.Equal(t, 1, count(t, pool, "SELECT count(*) FROM deliveries"),
		"what failed is still to be handled")

	effects := make([]int, 6)
	var group errgroup.Group
	for i := range effects {
		group.Go(func() error {
			for {
				var err error
				effects[i], err = handle(t.Context(), pool, nil, refOf(e), refOf(e))
				if !pgtx.Raced(err) {
					return err
				}
			}
		})
	}
	require.NoError(t, group.Wait())
	total := 0
	for _, n := range effects {
		total += n
	}
	require.Equal(t, 1, total)
	require.Zero(t, count(t, pool, "SELECT count(*) FROM deliveries"))
	require.Equal(t, 1, count(t, pool, "SELECT count(*) FROM inbox"))
	requireDeliveryInvariants(t, pool)
}

func TestADeliveryWithoutAJobIsWokenAgain(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	e := thing(uuid.New(), "thing.failed", "shop:1")
	require.NoError(t, appendAll(t.Context(), pool, e))
	sweep := func() int {
		woken, err := waiting().Sweep(t.Context(), pool)
		require.NoError(t, err)
		return woken
	}
	require.Zero(t, sweep(), "its job is as old as itself")
	_, err := pool.Exec(t.Context(), "DELETE FROM river_job")
	require.NoError(t, err)
	require.Equal(t, 1, sweep())
	require.Equal(t, 1, count(t, pool, "SELECT count(*) FROM river_job"))
	require.Zero(t, sweep(), "it has one now")
	require.EqualValues(t, 1, readOne(t, pool, e).Attempts, "who comes back to it is stale")
	requireDeliveryInvariants(t, pool)
}
