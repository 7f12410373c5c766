package bulkhead_test

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"example.com/holdfast/internal/bulkhead"
)

// TestALowerLaneGoesFirst lets callers of drawn lanes queue up behind one holder: they are served by
// lane, and within a lane as they came.
func TestALowerLaneGoesFirst(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		lanes := rapid.SliceOfN(rapid.IntRange(bulkhead.LaneFirst, bulkhead.Lanes), 0, 12).Draw(rt, "lanes")
		synctest.Test(t, func(t *testing.T) {
			b := bulkhead.New("db", 1, new(clock).now)
			holder, err := b.Acquire(t.Context(), 0, bulkhead.Lanes)
			require.NoError(t, err)

			type turn struct{ lane, arrival int }
			var order []turn
			var served sync.WaitGroup
			for i, lane := range lanes {
				served.Go(func() {
					place, err := b.Acquire(t.Context(), anHour, lane)
					if err != nil {
						return
					}
					order = append(order, turn{lane, i}) // only one is in flight
					place.Release()
				})
				synctest.Wait()
			}
			holder.Release()
			served.Wait()
			require.Len(t, order, len(lanes))
			require.True(t, slices.IsSortedFunc(order, func(a, b turn) int {
				return (a.lane-b.lane)*len(lanes) + a.arrival - b.arrival
			}), "%v", order)
		})
	})
}

func TestALaneThatDoesNotExistIsTheNearest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := bulkhead.New("db", 0, new(clock).now)
		var order []int
		var served sync.WaitGroup
		for _, lane := range []int{bulkhead.Lanes + 5, 2, -3} {
			served.Go(func() {
				place, err := b.Acquire(t.Context(), anHour, lane)
				if err == nil {
					order = append(order, lane)
					place.Release()
				}
			})
			synctest.Wait()
		}
		b.SetLimit(1, forEver)
		served.Wait()
		require.Equal(t, []int{-3, 2, bulkhead.Lanes + 5}, order)
	})
}

func TestAWaiterThatLeavesALaneLeavesTheOthersInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var now clock
		b := bulkhead.New("db", 0, now.now)
		left := make(chan error, 1)
		go func() {
			_, err := b.Acquire(t.Context(), time.Second, 1)
			left <- err
		}()
		admitted := make(chan bulkhead.Place, 1)
		go func() {
			place, _ := b.Acquire(t.Context(), anHour, 2)
			admitted <- place
		}()
		synctest.Wait()
		now.pass(time.Second)
		require.ErrorIs(t, <-left, bulkhead.ErrFull)
		require.Equal(t, 1, b.Stats().Waiting)
		b.SetLimit(1, forEver)
		place := <-admitted
		place.Release()
		require.Zero(t, b.Stats().InFlight)
	})
}

func TestNobodyIsAdmittedOnceThePermissionHasEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var now clock
		b := bulkhead.New("risk_api", 0, now.now)
		end := now.now().Add(5 * time.Second)
		b.SetLimit(2, end)

		_, err := b.Acquire(t.Context(), 0, first)
		require.NoError(t, err)
		now.pass(5*time.Second - 1)
		other, err := b.Acquire(t.Context(), 0, first)
		require.NoError(t, err, "the permission still holds")

		now.pass(1)
		stats := b.Stats()
		require.Equal(t, []int{2, 0, 0}, []int{stats.InFlight, stats.Cap, stats.Limit})
		refused := make(chan error)
		go func() {
			_, err := b.Acquire(t.Context(), time.Second, first)
			refused <- err
		}()
		synctest.Wait()
		other.Release() // makes room, but not for anybody
		synctest.Wait()
		require.Empty(t, refused)
		require.Equal(t, 1, b.Stats().Waiting)
		now.pass(time.Second)
		require.EqualError(t, <-refused,
			"bulkhead risk_api full after waiting 1s (in flight 1, limit 0, waiting 0)")

		b.SetLimit(2, end.Add(time.Minute))
		_, err = b.Acquire(t.Context(), 0, first)
		require.NoError(t, err, "a later permission admits again")
	})
}

func TestTheEffectiveLimitIsTheLeastOfTwo(t *testing.T) {
	t.Parallel()
	b := bulkhead.New("db", 4, new(clock).now)
	limits := func() [3]int {
		stats := b.Stats()
		return [3]int{stats.Cap, stats.Adaptive, stats.Limit}
	}
	require.Equal(t, [3]int{4, 0, 4}, limits())
	b.SetAdaptive(2)
	require.Equal(t, [3]int{4, 2, 2}, limits())
	for i := range 3 {
		place, err := b.Acquire(t.Context(), 0, first)
		if i < 2 {
			require.NoError(t, err)
			require.Equal(t, []int{i + 1, 2}, []int{place.InFlight, place.Limit})
			continue
		}
		require.ErrorIs(t, err, bulkhead.ErrFull)
	}
	b.SetAdaptive(9)
	require.Equal(t, [3]int{4, 9, 4}, limits(), "never above the cap")
	b.SetLimit(1, forEver)
	require.Equal(t, [3]int{1, 9, 1}, limits())
	b.SetAdaptive(-1)
	require.Equal(t, [3]int{1, 0, 1}, limits())
}

func TestAnAdaptedLimitThatGrowsAdmitsWaiters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := bulkhead.New("db", 4, new(clock).now)
		b.SetAdaptive(1)
		for range 3 {
			go func() { _, _ = b.Acquire(t.Context(), anHour, first) }()
		}
		synctest.Wait()
		require.Equal(t, 1, b.Stats().InFlight)
		b.SetAdaptive(0)
		synctest.Wait()
		require.Equal(t, 3, b.Stats().InFlight)
	})
}

// TestFullSinceTellsSaturationFromPeaks moves the demand in patterns of a second.
func TestFullSinceTellsSaturationFromPeaks(t *testing.T) {
	t.Parallel()
	const (
		limit  = 10
		second = 100 // steps
		step   = time.Second / second
	)
	tests := []struct {
		name string
		// demand is the number of places that are held in a step of a second.
		demand func(step int) int
		full   bool
	}{
		{"at the limit", func(int) int { return limit }, true},
		{"at nine of ten", func(int) int { return limit - 1 }, true},
		{"below", func(int) int { return limit - 2 }, false},
		{"idle", func(int) int { return 0 }, false},
		{"callers change", func(i int) int { return limit - i%20/19*2 }, true},
		{"peaks", func(i int) int { return limit * (i % 2) }, false},
		{"a pause in every second", func(i int) int {
			if i < second*3/10 {
				return 0
			}
			return limit
		}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var now clock
			b := bulkhead.New("db", limit, now.now)
			var held []bulkhead.Place
			for i := range 35 * second {
				want := tt.demand(i % second)
				for len(held) < want {
					place, err := b.Acquire(t.Context(), 0, first)
					require.NoError(t, err)
					held = append(held, place)
				}
				for len(held) > want {
					held[len(held)-1].Release()
					held = held[:len(held)-1]
				}
				now.elapsed.Add(int64(step))
			}
			since := b.Stats().FullSince
			require.Equal(t, tt.full, !since.IsZero(), "%v", since)
			if tt.full {
				require.WithinDuration(t, time.Unix(0, 0), since, time.Second)
			}
		})
	}
}

func TestWaitersCountAsDemand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var now clock
		b := bulkhead.New("db", 0, now.now)
		now.pass(time.Minute)
		require.True(t, b.Stats().FullSince.IsZero(), "nobody wants a place")
		go func() { _, _ = b.Acquire(t.Context(), 2*time.Minute, first) }()
		synctest.Wait()
		now.pass(time.Minute)
		require.Equal(t, time.Unix(60, 0), b.Stats().FullSince)
		now.pass(time.Minute)
		synctest.Wait()
		now.pass(2 * time.Second)
		require.True(t, b.Stats().FullSince.IsZero(), "the waiter has left")
	})
}
