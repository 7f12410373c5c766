package outbox_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/outbox"
)

// ringMax bounds how long a test waits for what happens in milliseconds.
const ringMax = 30 * time.Second

// doorbells starts what rings in a process.
func (b bundle) doorbells(t *testing.T) *outbox.Doorbells {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	bell := &outbox.Bell{Pool: b.pool, Log: log}
	bell.Start(t.Context())
	t.Cleanup(bell.Stop)
	d := &outbox.Doorbells{Bell: bell, Pool: b.pool, Log: log}
	d.Start(t.Context())
	t.Cleanup(d.Stop)
	return d
}

func rang(rung <-chan struct{}) bool {
	select {
	case <-rung:
		return true
	default:
		return false
	}
}

func requireRing(t *testing.T, rung <-chan struct{}) {
	t.Helper()
	select {
	case <-rung:
	case <-time.After(ringMax):
		t.Fatal("nobody rang")
	}
}

func TestAnEventRingsForItsTenantAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	relaying(t, b.pool)
	d := b.doorbells(t)
	other := uuid.New()
	mine, theirs := d.Next(b.tenant), d.Next(other)
	requireRing(t, mine) // at first everybody is rung for
	requireRing(t, theirs)
	theirs = d.Next(other)
	for range 3 {
		mine = d.Next(b.tenant)
		require.NoError(t, b.append(t, thing(b.tenant, "thing.ended", "")))
		requireRing(t, mine)
	}
	require.False(t, rang(theirs), "nothing of theirs happened")
	require.NoError(t, b.append(t, thing(other, "thing.ended", "")))
	requireRing(t, theirs)
}

func TestManyWhoWaitForOneTenantAreRungForTogether(t *testing.T) {
	t.Parallel()
	b := setup(t)
	relaying(t, b.pool)
	d := b.doorbells(t)
	requireRing(t, d.Next(b.tenant))
	first, second := d.Next(b.tenant), d.Next(b.tenant)
	require.Equal(t, first, second)
	require.NoError(t, b.append(t, thing(b.tenant, "thing.ended", "")))
	requireRing(t, first)
	require.NotEqual(t, first, d.Next(b.tenant), "the next ring is another one")
}

func TestWhoComesAfterALongQuietIsRungForToo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	relaying(t, b.pool)
	d := b.doorbells(t)
	requireRing(t, d.Next(b.tenant))
	// Nobody waits while more comes than one look goes through.
	_, err := b.pool.Exec(t.Context(), `
WITH rows AS (
    INSERT INTO event_log (last, tenant_id, aggregates, seqs, at)
    SELECT n, gen_random_uuid(), ARRAY[gen_random_uuid()], ARRAY[1], now() FROM generate_series(1, 2100) n)
UPDATE event_log_head SET last = 2100`)
	require.NoError(t, err)
	mine, theirs := d.Next(b.tenant), d.Next(uuid.New())
	requireRing(t, theirs)
	requireRing(t, mine)
	theirs, mine = d.Next(uuid.New()), d.Next(b.tenant)
	require.NoError(t, b.append(t, thing(b.tenant, "thing.ended", "")))
	requireRing(t, mine)
	require.False(t, rang(theirs), "from then on it is known who is concerned")
}

func TestALostConnectionOfTheBellLosesNoRing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	relaying(t, b.pool)
	d := b.doorbells(t)
	requireRing(t, d.Next(b.tenant))
	rung := d.Next(b.tenant)
	require.Eventually(t, func() bool {
		return count(t, b.pool, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN %'"+
			" AND datname = current_database()") == 1
	}, ringMax, time.Millisecond)
	require.Equal(t, 1, count(t, b.pool, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"+
		" WHERE query LIKE 'LISTEN %' AND datname = current_database()"))
	require.NoError(t, b.append(t, thing(b.tenant, "thing.ended", "")))
	requireRing(t, rung)
}

func TestABellRingsForEachOfItsChannelsAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bell := &outbox.Bell{Pool: b.pool, Log: slog.New(slog.DiscardHandler), Further: []string{"one", "two"}}
	one, two := bell.On("one"), bell.On("two")
	bell.Start(t.Context())
	t.Cleanup(bell.Stop)
	requireRing(t, one) // at first for what came before
	requireRing(t, two)
	one, two = bell.On("one"), bell.On("two")
	log := bell.Next()
	_, err := b.pool.Exec(t.Context(), "SELECT pg_notify(current_schema() || '.one', '')")
	require.NoError(t, err)
	requireRing(t, one)
	require.False(t, rang(two))
	require.False(t, rang(log))
}
