package outbox_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/pgtest"
)

// soon bounds a wait for what happens by itself.
const soon = 30 * time.Second

// sinking starts a sink that hands on what it gets, and returns after it has been claimed by somebody.
func sinking(
	t *testing.T, pool *pgxpool.Pool, holder string, publish func([]outbox.Logged) error,
) *outbox.Sink {
	t.Helper()
	return sinkingBy(t, pool, func(s *outbox.Sink) { s.Holder = holder }, publish)
}

// sinkingBy is sinking with a sink that is something else.
func sinkingBy(
	t *testing.T, pool *pgxpool.Pool, be func(*outbox.Sink), publish func([]outbox.Logged) error,
) *outbox.Sink {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	bell := &outbox.Bell{Pool: ownPool(t, pool, "bell"), Log: quiet}
	bell.Start(t.Context())
	t.Cleanup(bell.Stop)
	s := &outbox.Sink{
		Name: "test", Holder: "me", Pool: pool, Bell: bell, Log: quiet, Random: longest,
		Publish: func(_ context.Context, events []outbox.Logged) error { return publish(events) },
	}
	be(s)
	s.Start(t.Context())
	t.Cleanup(s.Stop)
	require.Eventually(t, func() bool {
		return count(t, pool, "SELECT count(*) FROM event_sinks") == 1
	}, soon, time.Millisecond)
	return s
}

func TestASinkBeginsWhereTheLogEndsWhenItIsSwitchedOn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, b.append(t, b.event(1)))
	relaying(t, b.pool)
	logged(t, b.pool, b.tenant, 1)
	got := make(chan outbox.Logged, 10)
	sinking(t, b.pool, "a", func(events []outbox.Logged) error {
		for _, e := range events {
			got <- e
		}
		return nil
	})
	require.NoError(t, b.append(t, b.event(2)))
	require.EqualValues(t, 2, (<-got).Seq)
}

func TestWhatASinkDoesNotTakeComesAgainInItsOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	relaying(t, b.pool)
	got, fails := make(chan int32, 10), 3
	sinking(t, b.pool, "a", func(events []outbox.Logged) error {
		if fails--; fails >= 0 {
			return errors.New("not now")
		}
		for _, e := range events {
			got <- e.Seq
		}
		return nil
	})
	require.NoError(t, b.append(t, b.event(1), b.event(2)))
	require.Equal(t, []int32{1, 2}, []int32{<-got, <-got})
	require.Negative(t, fails)
	require.Eventually(t, func() bool {
		lag, err := outbox.ReadLag(t.Context(), b.pool)
		require.NoError(t, err)
		return lag.Sinks[0].Events == 0
	}, soon, time.Millisecond)
}

func TestOneProcessHoldsASinkUntilItStopsOrIsSilent(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	tenant := uuid.New()
	relaying(t, pool)
	got := make(chan string, 100)
	take := func(who string) func([]outbox.Logged) error {
		return func(events []outbox.Logged) error {
			for range events {
				got <- who
			}
			return nil
		}
	}
	first := sinking(t, pool, "first", take("first"))
	sinking(t, pool, "second", take("second"))
	for range 3 {
		require.NoError(t, appendAll(t.Context(), pool, thing(tenant, "thing.ended", "")))
		require.Equal(t, "first", <-got)
	}
	first.Stop()
	require.NoError(t, appendAll(t.Context(), pool, thing(tenant, "thing.ended", "")))
	require.Equal(t, "second", <-got, "who stops gives it up")

	caughtUp := func() bool {
		return count(t, pool, `
			SELECT count(*) FROM event_sinks s, event_log_head h WHERE s.last = h.last`) == 1
	}
	require.Eventually(t, caughtUp, soon, time.Millisecond)

	// Somebody else claimed it while the second one was silent: its word does not count any more.
	_, err := pool.Exec(t.Context(), `
		UPDATE event_sinks SET claims = claims + 1, holder = 'third', held_until = now() + interval '1 hour'`)
	require.NoError(t, err)
	require.NoError(t, appendAll(t.Context(), pool, thing(tenant, "thing.ended", "")))
	logged(t, pool, tenant, 5)
	require.Equal(t, 1, count(t, pool, `
		SELECT count(*) FROM event_sinks, event_log_head h WHERE event_sinks.last = h.last - 1`))
	_, err = pool.Exec(t.Context(), "UPDATE event_sinks SET held_until = now() - interval '1 second'")
	require.NoError(t, err)
	require.Eventually(t, caughtUp, soon, time.Millisecond, "a lease that ended is taken over")
	require.Equal(t, 1, count(t, pool, "SELECT count(*) FROM event_sinks WHERE holder = 'second'"))
}

func TestALagIsSeenAndIsZeroWhenDrained(t *testing.T) {
	t.Parallel()
	b := setup(t)
	blocked := make(chan struct{})
	sinking(t, b.pool, "a", func([]outbox.Logged) error { <-blocked; return nil })
	require.NoError(t, b.append(t, b.event(1)))
	_, err := b.pool.Exec(t.Context(), "UPDATE outbox SET created_at = now() - interval '1 minute'")
	require.NoError(t, err)
	lag, err := outbox.ReadLag(t.Context(), b.pool)
	require.NoError(t, err)
	require.InDelta(t, time.Minute, lag.Outbox, float64(10*time.Second))
	require.Zero(t, lag.Sinks[0].Events)

	relaying(t, b.pool)
	logged(t, b.pool, b.tenant, 1)
	_, err = b.pool.Exec(t.Context(), "UPDATE event_log SET at = now() - interval '1 hour'")
	require.NoError(t, err)
	lag, err = outbox.ReadLag(t.Context(), b.pool)
	require.NoError(t, err)
	require.Zero(t, lag.Outbox)
	require.EqualValues(t, 1, lag.Last)
	require.Equal(t, "test", lag.Sinks[0].Name)
	require.EqualValues(t, 1, lag.Sinks[0].Events)
	require.InDelta(t, time.Hour, lag.Sinks[0].Age, float64(10*time.Second))
	close(blocked)
	require.Eventually(t, func() bool {
		lag, err = outbox.ReadLag(t.Context(), b.pool)
		return err == nil && lag.Sinks[0] == outbox.SinkLag{Name: "test"}
	}, soon, time.Millisecond)
}

func TestASinkOfTheDeadIsReleased(t *testing.T) {
	t.Parallel()
	b := setup(t)
	relaying(t, b.pool)
	_, err := b.pool.Exec(t.Context(), `
		INSERT INTO event_sinks (name, last, holder, claims, held_until)
		SELECT name, 0, holder, 1, now() + interval '1 hour'
		  FROM (VALUES ('test', 'dead'), ('other', 'well')) s (name, holder)`)
	require.NoError(t, err)
	require.NoError(t, outbox.ReleaseSinks(t.Context(), b.pool, []string{"dead", "long dead"}))
	require.Equal(t, 1, count(t, b.pool, "SELECT count(*) FROM event_sinks WHERE held_until <= now()"))
	got := make(chan int32, 10)
	require.NoError(t, b.append(t, b.event(1)))
	quiet := slog.New(slog.DiscardHandler)
	bell := &outbox.Bell{Pool: ownPool(t, b.pool, "bell"), Log: quiet}
	bell.Start(t.Context())
	t.Cleanup(bell.Stop)
	s := &outbox.Sink{
		Name: "test", Holder: "heir", Pool: b.pool, Bell: bell, Log: quiet, Random: longest,
		Publish: func(_ context.Context, events []outbox.Logged) error {
			for _, e := range events {
				got <- e.Seq
			}
			return nil
		},
	}
	s.Start(t.Context())
	t.Cleanup(s.Stop)
	require.EqualValues(t, 1, <-got)
}

func TestADeferredSinkLetsGoAndGoesOnLater(t *testing.T) {
	t.Parallel()
	b := setup(t)
	relaying(t, b.pool)
	var deferred atomic.Bool
	got := make(chan int32, 10)
	be := func(s *outbox.Sink) { s.Deferred = deferred.Load }
	sinkingBy(t, b.pool, be, func(events []outbox.Logged) error {
		for _, e := range events {
			got <- e.Seq
		}
		return nil
	})
	require.NoError(t, b.append(t, b.event(1)))
	require.EqualValues(t, 1, <-got)
	deferred.Store(true)
	require.Eventually(t, func() bool {
		return count(t, b.pool, "SELECT count(*) FROM event_sinks WHERE held_until <= now()") == 1
	}, soon, time.Millisecond, "it is let go")
	require.NoError(t, b.append(t, b.event(2)))
	logged(t, b.pool, b.tenant, 2)
	require.Empty(t, got)
	deferred.Store(false)
	require.EqualValues(t, 2, <-got)
}
