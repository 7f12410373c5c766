package bulkhead_test

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"example.com/holdfast/internal/bulkhead"
)

const (
	anHour = time.Hour
	first  = bulkhead.LaneFirst
)

// forEver is a cap without an end.
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
	place, err := b.Acquire(t.Context(), 0, first)
	require.NoError(t, err)

	_, err = b.Acquire(t.Context(), 0, first)
	require.ErrorIs(t, err, bulkhead.ErrFull)
	require.EqualError(t, err, "bulkhead risk_api full after waiting 0s (in flight 1, limit 1, waiting 0)")

	place.Release()
	place, err = b.Acquire(t.Context(), 0, first)
	require.NoError(t, err)
	place.Release()
	require.Equal(t, bulkhead.Stats{
		Name: "risk_api", Cap: 1, Limit: 1, Admitted: 2, Refused: 1,
	}, b.Stats())
}

func TestTheWaitIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var now clock
		b := bulkhead.New("risk_api", 1, now.now)
		place, err := b.Acquire(t.Context(), 0, first)
		require.NoError(t, err)
		defer place.Release()

		refused := make(chan error, 1)
		go func() {
			_, err := b.Acquire(t.Context(), 50*time.Millisecond, first)
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
		place, err := b.Acquire(t.Context(), 0, first)
		require.NoError(t, err)

		const waiters = 5
		var order []int
		var served sync.WaitGroup
		for i := range waiters {
			served.Go(func() {
				place, err := b.Acquire(t.Context(), anHour, first)
				if err != nil {
					return
				}
				order = append(order, i) // only one is in flight
				place.Release()
			})
			synctest.Wait()
		}
		require.Equal(t, waiters, b.Stats().Waiting)

		now.pass(time.Second)
		place.Release()
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
			place, err := b.Acquire(t.Context(), anHour, first)
			if err == nil {
				defer place.Release()
			}
		}()
		synctest.Wait()
		_, err := b.Acquire(t.Context(), 0, first)
		require.ErrorIs(t, err, bulkhead.ErrFull)
		b.SetLimit(1, forEver)
		synctest.Wait()
		require.Zero(t, b.Stats().InFlight)
	})
}

func TestShrinkingAdmitsNobodyUntilHoldersFinish(t *testing.T) {
	t.Parallel()
	b := bulkhead.New("db", 3, new(clock).now)
	var holders []bulkhead.Place
	for range 3 {
		place, err := b.Acquire(t.Context(), 0, first)
		require.NoError(t, err)
		holders = append(holders, place)
	}
	b.SetLimit(1, forEver)
	for _, holder := range holders {
		_, err := b.Acquire(t.Context(), 0, first)
		require.ErrorIs(t, err, bulkhead.ErrFull)
		holder.Release()
	}
	place, err := b.Acquire(t.Context(), 0, first)
	require.NoError(t, err)
	place.Release()
}

func TestGrowingAdmitsWaitersAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := bulkhead.New("db", -1, new(clock).now)
		for range 3 {
			go func() { _, _ = b.Acquire(t.Context(), anHour, first) }()
		}
		synctest.Wait()
		b.SetLimit(2, forEver)
		require.Equal(t, 2, b.Stats().InFlight)
		require.Equal(t, 1, b.Stats().Waiting)
		b.SetLimit(3, forEver)
		synctest.Wait()
	})
}

func TestACancelledCallerLeavesTheQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := bulkhead.New("db", 0, new(clock).now)
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error)
		go func() {
			_, err := b.Acquire(ctx, anHour, first)
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
		_, err = b.Acquire(ctx, anHour, first)
		require.ErrorIs(t, err, context.Canceled, "an ended context takes no place")
		require.Zero(t, b.Stats().InFlight)
	})
}

func TestReleaseWithoutAcquirePanics(t *testing.T) {
	t.Parallel()
	b := bulkhead.New("db", 1, new(clock).now)
	place, err := b.Acquire(t.Context(), 0, first)
	require.NoError(t, err)
	place.Release()
	require.PanicsWithValue(t, "bulkhead db: release without acquire", place.Release)
}

func TestAdmissionFollowsTheModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(0, 4).Draw(t, "limit")
		b := bulkhead.New("model", limit, new(clock).now)
		var held []bulkhead.Place
		t.Repeat(map[string]func(*rapid.T){
			"acquire": func(t *rapid.T) {
				place, err := b.Acquire(t.Context(), 0, first)
				if admitted := err == nil; admitted != (len(held) < limit) {
					t.Fatalf("admitted=%v with %d in flight, limit %d", admitted, len(held), limit)
				}
				if err == nil {
					held = append(held, place)
				}
			},
			"release": func(t *rapid.T) {
				if len(held) == 0 {
					t.Skip("nothing held")
				}
				held[0].Release()
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
					place, err := b.Acquire(ctx, wait, first)
					if err != nil {
						continue
					}
					if n := inFlight.Add(1); n > int64(highest) {
						t.Errorf("%d in flight, highest limit %d", n, highest)
					}
					inFlight.Add(-1)
					place.Release()
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
		place, err := b.Acquire(ctx, time.Second, first)
		if err != nil {
			t.Error(err)
			return
		}
		place.Release()
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
			go func() { _, _ = b.Acquire(ctx, anHour, first) }()
		}
		synctest.Wait()
		_, err := b.Acquire(ctx, anHour, first)
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
		place, err := limiter.Acquire(ctx, time.Second, first)
		if err != nil {
			b.Fatal(err)
		}
		place.Release()
	}
}

func TestAShareIsOfWhateverTheLimitIs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		limit, adaptive int
		share           float64
		want            int
	}{
		{20, 0, 1, 20},
		{20, 0, 0.1, 2},
		{20, 5, 0.5, 2},
		{20, 0, 0, 1},
		{1, 0, 0.1, 1},
		{0, 0, 1, 0},
		{0, 0, 0.5, 0},
		{20, 0, 7, 20},
		{math.MaxInt, 0, 1, math.MaxInt},
		{math.MaxInt, 0, 0.5, math.MaxInt/2 + 1},
	} {
		b := bulkhead.New("notification_api", c.limit, new(clock).now)
		b.SetAdaptive(c.adaptive)
		b.SetShare(c.share)
		require.Equal(t, c.want, b.Stats().Limit, "%+v", c)
	}
}

func TestALargerShareAdmitsWaitersAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := bulkhead.New("notification_api", 2, new(clock).now)
		b.SetShare(0.1)
		held, err := b.Acquire(t.Context(), 0, first)
		require.NoError(t, err)
		second := make(chan error)
		go func() {
			_, err := b.Acquire(t.Context(), anHour, first)
			second <- err
		}()
		synctest.Wait()
		require.Equal(t, 1, b.Stats().Waiting)
		b.SetShare(1)
		require.NoError(t, <-second)
		held.Release()
	})
}
