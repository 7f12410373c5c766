package outbox_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/outbox"
)

// logOf fills the log with one row for each size, by turns of the bundle's tenant and another one.
func logOf(t *testing.T, b bundle, other uuid.UUID, sizes ...int) []outbox.Event {
	t.Helper()
	relaying(t, b.pool)
	var all []outbox.Event
	for n, size := range sizes {
		tenant := b.tenant
		if n%2 == 1 {
			tenant = other
		}
		var events []outbox.Event
		for range size {
			events = append(events, thing(tenant, "thing.ended", ""))
		}
		require.NoError(t, b.append(t, events...))
		all = append(all, events...)
		ctx := context.WithoutCancel(t.Context())
		require.Eventually(t, func() bool {
			extent, err := outbox.ReadExtent(ctx, b.pool)
			return err == nil && extent.Last == int64(len(all))
		}, 30*time.Second, time.Millisecond)
	}
	return all
}

func TestTheLogSaysWhoseEventsAreNew(t *testing.T) {
	t.Parallel()
	b := setup(t)
	other := uuid.New()
	logOf(t, b, other, 3, 2, 1)
	for _, tt := range []struct {
		after   int64
		rows    int
		tenants []uuid.UUID
		last    int64
	}{
		{0, 10, []uuid.UUID{b.tenant, other}, 6},
		{0, 1, []uuid.UUID{b.tenant}, 3},
		{3, 1, []uuid.UUID{other}, 5},
		{5, 10, []uuid.UUID{b.tenant}, 6},
		{6, 10, []uuid.UUID{}, 6},
	} {
		tenants, last, err := outbox.Tenants(t.Context(), b.pool, tt.after, tt.rows)
		require.NoError(t, err)
		require.ElementsMatch(t, tt.tenants, tenants)
		require.Equal(t, tt.last, last)
	}
}

func TestPlacesAreFoundByTimeAndByEvent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	events := logOf(t, b, uuid.New(), 1, 64, 5, 2, 70, 1, 1)
	_, err := b.pool.Exec(t.Context(),
		"UPDATE event_log SET at = 'epoch'::timestamptz + last * interval '1 hour'")
	require.NoError(t, err)
	rows := []int64{1, 65, 70, 72, 136, 142, 143, 144}
	hours := func(n int64) time.Time { return time.Unix(n*3600, 0) }
	for n, last := range rows {
		before := int64(0)
		if n > 0 {
			before = rows[n-1]
		}
		for at, want := range map[time.Time]int64{
			hours(last): before, hours(last).Add(time.Second): last, hours(last).Add(-time.Second): before,
		} {
			place, err := outbox.PlaceAt(t.Context(), b.pool, at)
			require.NoError(t, err)
			require.Equal(t, want, place, "%s", at.UTC())
		}
	}
	_, err = b.pool.Exec(t.Context(), "UPDATE event_log SET at = $1", b.at)
	require.NoError(t, err)
	all, err := outbox.ReadWholeLog(t.Context(), b.pool, 0, 500)
	require.NoError(t, err)
	require.Len(t, all, len(events))
	for _, e := range all {
		place, ok, err := outbox.FindPlace(t.Context(), b.pool, e.Event)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, e.Place, place)
	}
	none := all[0].Event
	none.Seq = 7
	_, ok, err := outbox.FindPlace(t.Context(), b.pool, none)
	require.NoError(t, err)
	require.False(t, ok)
	_, err = b.pool.Exec(t.Context(), "UPDATE event_log_head SET forgotten = 65")
	require.NoError(t, err)
	place, err := outbox.PlaceAt(t.Context(), b.pool, time.Unix(0, 0))
	require.NoError(t, err)
	require.EqualValues(t, 65, place, "what is forgotten was before")
}

func TestALogIsCountedByTenant(t *testing.T) {
	t.Parallel()
	b := setup(t)
	other := uuid.New()
	logOf(t, b, other, 10, 5, 64)
	for _, tt := range []struct {
		after, last, want int64
		tenant            uuid.UUID
	}{
		{0, 79, 74, b.tenant},
		{0, 79, 5, other},
		{4, 79, 70, b.tenant},
		{4, 7, 3, b.tenant},
		{11, 13, 2, other},
		{20, 30, 10, b.tenant},
		{78, 79, 1, b.tenant},
		{79, 90, 0, b.tenant},
		{0, 79, 0, uuid.New()},
	} {
		places := outbox.Extent{Forgotten: tt.after, Last: tt.last}
		n, err := outbox.CountLog(t.Context(), b.pool, tt.tenant, places, 100)
		require.NoError(t, err)
		require.Equal(t, tt.want, n, "%+v", tt)
	}
	n, err := outbox.CountLog(t.Context(), b.pool, b.tenant, outbox.Extent{Last: 79}, 1)
	require.NoError(t, err)
	require.EqualValues(t, 10, n, "in one row")
}

func TestEventsAreReadByTheirNames(t *testing.T) {
	t.Parallel()
	b := setup(t)
	theirs := b.event(1)
	theirs.TenantID = uuid.New()
	require.NoError(t, b.append(t, b.event(1), b.event(2), theirs))
	one, two := outbox.Ref{AggregateID: b.aggregate, Seq: 1}, outbox.Ref{AggregateID: b.aggregate, Seq: 2}
	events, err := outbox.Read(t.Context(), b.pool, b.tenant,
		[]outbox.Ref{two, one, {AggregateID: b.aggregate, Seq: 3}, {AggregateID: uuid.New(), Seq: 1}})
	require.NoError(t, err)
	for ref, e := range events {
		require.True(t, e.At.Equal(b.at))
		e.At = time.Time{}
		events[ref] = e
	}
	require.Equal(t, map[outbox.Ref]outbox.Event{one: b.event(1), two: b.event(2)}, events)
}
