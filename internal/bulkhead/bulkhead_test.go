package bulkhead_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"example.com/holdfast/internal/bulkhead"
)

const anHour = time.Hour

// forEver is the end of a limit that has none.
var forEver time.Time

// clock moves by hand; inside a synctest bubble pass moves the bubble's timers along.
type clock struct{ elapsed atomic.Int64 }

func (c *clock) now() time.Time { return time.Unix(0, c.elapsed.Load()) }

func (c *clock) pass(d time.Duration) {
	c.elapsed.Add(int64(d))
	<-time.After(d)
}

func TestAFullBulkheadRefusesAndSaysWhy(t *testing.T) {
	t.Parallel()
	b := bulkhead.New("risk_api", 1, new(clock).now)
	release, err := b.Acquire(t.Context(), 0)
	require.NoError(t, err)

	_, err = b.Acquire(t.Context(), 0)
	require.ErrorIs(t, err, bulkhead.ErrFull)
	require.EqualError(t, err, "bulkhead risk_api full after waiting 0s (in flight 1, limit 1, waiting 0)")

	release()
	release, err = b.Acquire(t.Context(), 0)
	require.NoError(t, err)
	release()
	require.Equal(t, bulkhead.Stats{Name: "risk_api", Limit: 1, Admitted: 2, Refused: 1}, b.Stats())
}

func TestTheWaitIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var now clock
		b := bulkhead.New("risk_api", 1, now.now)
		release, err := b.Acquire(t.Context(), 0)
		require.NoError(t, err)
		defer release()

		refused := make(chan error, 1)
		go func() {
			_, err := b.Acquire(t.Context(), 50*time.Millisecond)
			refused <- err
		}()
		synctest.Wait()
		now.pass(49 * time.Millisecond)
		require.Empty(t, refused)
		now.pass(time.Millisecond)
		var full *bulkhead.FullError
		require.ErrorAs(t, <-refused, &full)
		require.Equal(t, 50*time.Millisecond, full.Waited)
		require.Zero(t, b.Stats().Waiting)
	})
}

func TestWaitersAreServedInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var now clock
		b := bulkhead.New("db", 1, now.now)
		release, err := b.Acquire(t.Context(), 0)
		require.NoError(t, err)

		const waiters = 5
		var order []int
		var served sync.WaitGroup
		for i := range waiters {
			served.Go(func() {
				next, err := b.Acquire(t.Context(), anHour)
				if err != nil {
					return
				}
				order = append(order, i) // only one is in flight
				next()
			})
			synctest.Wait()
		}
		require.Equal(t, waiters, b.Stats().Waiting)

		now.pass(time.Second)
		release()
		served.Wait()
		require.Equal(t, []int{0, 1, 2, 3, 4}, order)
		stats := b.Stats()
		require.EqualValues(t, waiters, stats.Queued)
		require.Equal(t, waiters*time.Second, stats.WaitTotal)
	})
}

func TestANewcomerDoesNotOvertakeAWaiter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := bulkhead.New("db", 0, new(clock).now)
		go func() {
			release, err := b.Acquire(t.Context(), anHour)
			if err == nil {
				defer release()
			}
		}()
		synctest.Wait()
		_, err := b.Acquire(t.Context(), 0)
		require.ErrorIs(t, err, bulkhead.ErrFull)
		b.SetLimit(1, forEver)
		synctest.Wait()
		require.Zero(t, b.Stats().InFlight)
	})
}

func TestShrinkingAdmitsNobodyUntilHoldersFinish(t *testing.T) {
	t.Parallel()
	b := bulkhead.New("db", 3, new(clock).now)
	var holders []func()
	for range 3 {
		release, err := b.Acquire(t.Context(), 0)
		require.NoError(t, err)
		holders = append(holders, release)
	}
	b.SetLimit(1, forEver)
	for _, release := range holders {
		_, err := b.Acquire(t.Context(), 0)
		require.ErrorIs(t, err, bulkhead.ErrFull)
		release()
	}
	release, err := b.Acquire(t.Context(), 0)
	require.NoError(t, err)
	release()
}

func TestGrowingAdmitsWaitersAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := bulkhead.New("db", -1, new(clock).now)
		for range 3 {
			go func() { _, _ = b.Acquire(t.Context(), anHour) }()
		}
		synctest.Wait()
		b.SetLimit(2, forEver)
		require.Equal(t, 2, b.Stats().InFlight)
		require.Equal(t, 1, b.Stats().Waiting)
		b.SetLimit(3, forEver)
		synctest.Wait()
	})
}

func TestALimitThatHasEndedAdmitsNobody(t *testing.T) {
	t.Parallel()
	var now clock
	b := bulkhead.New("db", 0, now.now)
	b.SetLimit(2, now.now().Add(time.Second))
	now.elapsed.Add(int64(time.Second) - 1)
	release, err := b.Acquire(t.Context(), 0)
	require.NoError(t, err)
	now.elapsed.Add(1)
	_, err = b.Acquire(t.Context(), 0)
	require.ErrorIs(t, err, bulkhead.ErrFull)
	require.Equal(t, 1, b.Stats().InFlight, "a holder keeps its place")
	release()
	_, err = b.Acquire(t.Context(), 0)
	require.ErrorIs(t, err, bulkhead.ErrFull)

	b.SetLimit(2, forEver)
	now.elapsed.Add(int64(anHour))
	release, err = b.Acquire(t.Context(), 0)
	require.NoError(t, err)
	release()
}

func TestAPlaceThatIsFreedAfterTheEndGoesToNobodyUntilTheLimitIsRenewed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var now clock
		b := bulkhead.New("db", 0, now.now)
		b.SetLimit(1, now.now().Add(time.Second))
		release, err := b.Acquire(t.Context(), 0)
		require.NoError(t, err)
		go func() { _, _ = b.Acquire(t.Context(), anHour) }()
		synctest.Wait()
		now.pass(time.Second)
		release()
		require.Equal(t, 1, b.Stats().Waiting)
		require.Zero(t, b.Stats().InFlight)

		b.SetLimit(1, now.now().Add(time.Second))
		synctest.Wait()
		require.Zero(t, b.Stats().Waiting)
		require.Equal(t, 1, b.Stats().InFlight)
	})
}

func TestACancelledCallerLeavesTheQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := bulkhead.New("db", 0, new(clock).now)
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error)
		go func() {
			_, err := b.Acquire(ctx, anHour)
			left <- err
		}()
		synctest.Wait()
		cancel()
		err := <-left
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, bulkhead.ErrFull)
		require.EqualValues(t, 1, b.Stats().Abandoned)
		require.Zero(t, b.Stats().Waiting)

		b.SetLimit(1, forEver)
		_, err = b.Acquire(ctx, anHour)
		require.ErrorIs(t, err, context.Canceled, "an ended context takes no place")
		require.Zero(t, b.Stats().InFlight)
	})
}

func TestReleaseWithoutAcquirePanics(t *testing.T) {
	t.Parallel()
	b := bulkhead.New("db", 1, new(clock).now)
	release, err := b.Acquire(t.Context(), 0)
	require.NoError(t, err)
	release()
	require.PanicsWithValue(t, "bulkhead db: release without acquire", release)
}

func TestAdmissionFollowsTheModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(0, 4).Draw(t, "limit")
		b := bulkhead.New("model", limit, new(clock).now)
		var held []func()
		t.Repeat(map[string]func(*rapid.T){
			"acquire": func(t *rapid.T) {
				release, err := b.Acquire(t.Context(), 0)
				if admitted := err == nil; admitted != (len(held) < limit) {
					t.Fatalf("admitted=%v with %d in flight, limit %d", admitted, len(held), limit)
				}
				if err == nil {
					held = append(held, release)
				}
			},
			"release": func(t *rapid.T) {
				if len(held) == 0 {
					t.Skip("nothing held")
				}
				held[0]()
				held = held[1:]
			},
			"set limit": func(t *rapid.T) {
				limit = rapid.IntRange(0, 4).Draw(t, "new limit")
				b.SetLimit(limit, forEver)
			},
			"": func(t *rapid.T) {
				if got := b.Stats(); got.InFlight != len(held) || got.Limit != limit {
					t.Fatalf("stats %+v, want %d in flight, limit %d", got, len(held), limit)
				}
			},
		})
	})
}

// TestNoPlaceIsLostOrDoubledUnderCancelAndResize is meant for the race detector: callers give up at
// random moments while the limit moves, and afterwards every place is still there.
func TestNoPlaceIsLostOrDoubledUnderCancelAndResize(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		limits := rapid.SliceOfN(rapid.IntRange(1, 8), 1, 8).Draw(rt, "limits")
		waitsMicros := rapid.SliceOfN(rapid.IntRange(0, 300), 8, 24).Draw(rt, "waits")
		highest := 0
		for _, limit := range limits {
			highest = max(highest, limit)
		}
		b := bulkhead.New("race", limits[0], new(clock).now)

		var inFlight atomic.Int64
		var callers sync.WaitGroup
		for i, micros := range waitsMicros {
			callers.Go(func() {
				wait := time.Duration(micros) * time.Microsecond
				ctx, cancel := context.WithTimeout(t.Context(), wait)
				defer cancel()
				if i%2 == 0 {
					ctx, wait = t.Context(), wait/2
				}
				for range 20 {
					release, err := b.Acquire(ctx, wait)
					if err != nil {
						continue
					}
					if n := inFlight.Add(1); n > int64(highest) {
						t.Errorf("%d in flight, highest limit %d", n, highest)
					}
					inFlight.Add(-1)
					release()
				}
			})
		}
		for _, limit := range limits {
			b.SetLimit(limit, forEver)
		}
		callers.Wait()

		stats := b.Stats()
		if stats.InFlight != 0 || stats.Waiting != 0 {
			rt.Fatalf("left behind: %+v", stats)
		}
	})
}

//nolint:paralleltest // AllocsPerRun counts the allocations of the whole process
func TestTheUncontendedPathDoesNotAllocate(t *testing.T) {
	b := bulkhead.New("db", 1, new(clock).now)
	ctx := t.Context()
	allocs := testing.AllocsPerRun(100, func() {
		release, err := b.Acquire(ctx, time.Second)
		if err != nil {
			t.Error(err)
			return
		}
		release()
	})
	require.Zero(t, allocs)
}

func TestTheQueueIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const maxWaiters = 16_384
		b := bulkhead.New("db", 0, new(clock).now)
		ctx, cancel := context.WithCancel(t.Context())
		for range maxWaiters {
			go func() { _, _ = b.Acquire(ctx, anHour) }()
		}
		synctest.Wait()
		_, err := b.Acquire(ctx, anHour)
		var full *bulkhead.FullError
		require.ErrorAs(t, err, &full)
		require.Equal(t, maxWaiters, full.Waiting)
		cancel()
		synctest.Wait()
		require.EqualValues(t, maxWaiters, b.Stats().Abandoned)
	})
}

func BenchmarkAcquireUncontended(b *testing.B) {
	limiter := bulkhead.New("db", 8, new(clock).now)
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		release, err := limiter.Acquire(ctx, time.Second)
		if err != nil {
			b.Fatal(err)
		}
		release()
	}
}
