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
