package outbox_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/outbox"
)

// relaying starts a relay that ends with the test.
func relaying(t *testing.T, pool *pgxpool.Pool) *outbox.Relay {
	t.Helper()
	r := &outbox.Relay{Pool: pool, Log: slog.New(slog.DiscardHandler)}
	r.Start(t.Context())
	t.Cleanup(r.Stop)
	return r
}

// logged waits until the log has so many events of a tenant and reads them.
func logged(t *testing.T, pool *pgxpool.Pool, tenant uuid.UUID, n int) []outbox.Logged {
	t.Helper()
	var events []outbox.Logged
	require.Eventually(t, func() bool {
		var err error
		events, err = outbox.ReadLog(context.WithoutCancel(t.Context()), pool, tenant, 0, outbox.LogPageMax)
		return err == nil && len(events) >= n
	}, 30*time.Second, time.Millisecond)
	require.Len(t, events, n)
	return events
}

func TestEventsGetPlacesInTheOrderOfTheirAggregate(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, b.append(t, b.event(2), b.event(1)))
	require.NoError(t, b.append(t, b.event(3)))
	relaying(t, b.pool)
	events := logged(t, b.pool, b.tenant, 3)
	for i, e := range events {
		require.EqualValues(t, i+1, e.Place)
		require.True(t, e.At.Equal(b.at))
		e.At = time.Time{}
		require.Equal(t, b.event(int32(i+1)), e.Event)
	}
	require.Zero(t, count(t, b.pool, "SELECT count(*) FROM outbox"))
}

func TestALogIsReadInPagesByTenantAndAsAWhole(t *testing.T) {
	t.Parallel()
	b := setup(t)
	other := uuid.New()
	var events []outbox.Event
	for range 150 {
		mine, theirs := thing(b.tenant, "thing.ended", ""), thing(other, "thing.ended", "")
		events = append(events, mine, theirs)
	}
	require.NoError(t, b.append(t, events...))
	relaying(t, b.pool)
	all := logged(t, b.pool, b.tenant, 150)
	for _, size := range []int{1, 7, 64, 100, 500} {
		var got []outbox.Logged
		for last := int64(0); ; {
			page, err := outbox.ReadLog(t.Context(), b.pool, b.tenant, last, size)
			require.NoError(t, err)
			got = append(got, page...)
			if len(page) < size {
				break
			}
			require.Len(t, page, size)
			last = page[size-1].Place
		}
		require.Equal(t, all, got, "pages of %d", size)
	}
	whole, err := outbox.ReadWholeLog(t.Context(), b.pool, 0, 500)
	require.NoError(t, err)
	require.Len(t, whole, 300)
	for i, e := range whole {
		require.EqualValues(t, i+1, e.Place)
	}
	extent, err := outbox.ReadExtent(t.Context(), b.pool)
	require.NoError(t, err)
	require.Equal(t, outbox.Extent{Last: 300}, extent)
}

func TestALogForgetsWhatIsOldAndSaysSo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, b.append(t, b.event(1)))
	require.NoError(t, b.append(t, b.event(2), b.event(3)))
	require.NoError(t, b.append(t, thing(b.tenant, "thing.ended", "")))
	relay := relaying(t, b.pool)
	logged(t, b.pool, b.tenant, 4)
	relay.Stop()
	gone, err := outbox.Forget(t.Context(), b.pool)
	require.NoError(t, err)
	require.Zero(t, gone)
	_, err = b.pool.Exec(t.Context(), "UPDATE event_log SET at = at - interval '31 days' WHERE last <= 3")
	require.NoError(t, err)
	gone, err = outbox.Forget(t.Context(), b.pool)
	require.NoError(t, err)
	require.Equal(t, 2, gone)
	extent, err := outbox.ReadExtent(t.Context(), b.pool)
	require.NoError(t, err)
	require.Equal(t, outbox.Extent{Forgotten: 3, Last: 4}, extent)
	require.Len(t, logged(t, b.pool, b.tenant, 1), 1)
	require.Len(t, b.list(t, b.tenant, b.aggregate, 0), 3, "the events themselves stay")
}

func TestABellRingsWhenTheLogGrowsAndHealsWhenItsConnectionIsCut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bell := &outbox.Bell{Pool: ownPool(t, b.pool, "the bell"), Log: slog.New(slog.DiscardHandler)}
	bell.Start(t.Context())
	t.Cleanup(bell.Stop)
	relaying(t, b.pool)
	for seq := range int32(3) {
		listening := func() bool {
			return count(t, b.pool, `SELECT count(*) FROM pg_stat_activity
				WHERE application_name = 'the bell' AND query LIKE 'LISTEN%' AND state = 'idle'`) == 1
		}
		require.Eventually(t, listening, soon, time.Millisecond)
		rung := bell.Next()
		require.NoError(t, b.append(t, b.event(seq+1)))
		<-rung
		rung = bell.Next()
		_, err := b.pool.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE application_name = 'the bell' AND datname = current_database()`)
		require.NoError(t, err)
		<-rung // it rings when it is back: something may have come meanwhile
	}
}

// TestEachInvariantOfTheLogIsSeenToBreak plants what must not be.
func TestEachInvariantOfTheLogIsSeenToBreak(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, plant, breaks string }{
		{"an event that left nowhere", "DELETE FROM event_log WHERE last = 2", "event_leaves_once"},
		{"an event that left twice", `INSERT INTO outbox (tenant_id, aggregates, seqs, created_at)
			SELECT tenant_id, aggregates, seqs, now() FROM event_log WHERE last = 1`, "event_leaves_once"},
		{"a word about nothing", `INSERT INTO outbox (tenant_id, aggregates, seqs, created_at)
			VALUES (gen_random_uuid(), ARRAY[gen_random_uuid()], ARRAY[1], now())`, "event_leaves_once"},
		{"an order turned round", `UPDATE event_log SET seqs = ARRAY[3 - seqs[1]]`, "log_in_order"},
		{"a gap", "UPDATE event_log SET last = 7 WHERE last = 2", "log_without_gaps"},
		{"a head behind", "UPDATE event_log_head SET last = 1", "log_without_gaps"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			require.NoError(t, b.append(t, b.event(1)))
			require.NoError(t, b.append(t, b.event(2)))
			relay := relaying(t, b.pool)
			logged(t, b.pool, b.tenant, 2)
			relay.Stop()
			requireDeliveryInvariants(t, b.pool)
			_, err := b.pool.Exec(t.Context(), c.plant)
			require.NoError(t, err)
			for _, i := range outbox.Invariants() {
				if i.Name == c.breaks {
					require.Positive(t, count(t, b.pool, "SELECT count(*) FROM ("+i.SQL+") breaks"))
				}
			}
		})
	}
}
