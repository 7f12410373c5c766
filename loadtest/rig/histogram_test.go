package rig

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAQuantileIsAtMostOnePercentTooLarge(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	var h Histogram
	all := make([]time.Duration, 10_000)
	for i := range all {
		all[i] = time.Duration(random.ExpFloat64() * float64(20*time.Millisecond)).Truncate(time.Microsecond)
		h.Add(all[i])
	}
	slices.Sort(all)
	for _, q := range []float64{0.01, 0.5, 0.9, 0.99, 0.999, 1} {
		want := all[max(0, int(q*float64(len(all)))-1)]
		got := h.Quantile(q)
		require.GreaterOrEqual(t, got, want, "q=%v", q)
		require.LessOrEqual(t, float64(got), float64(want)*1.008+1e3, "q=%v", q)
	}
	require.EqualValues(t, len(all), h.Count())
}

func TestEveryValueFallsIntoTheBucketThatBoundsIt(t *testing.T) {
	t.Parallel()
	last := -1
	for us := int64(0); us < 1<<valueBits; us += 1 + us/200 {
		d := time.Duration(us) * time.Microsecond
		b := bucketOf(d)
		require.Less(t, b, buckets)
		require.GreaterOrEqual(t, b, last, "buckets are in order")
		require.GreaterOrEqual(t, upperBound(b), d)
		if b > 0 {
			require.Less(t, upperBound(b-1), d)
		}
		last = b
	}
}

func TestAHistogramBearsExtremes(t *testing.T) {
	t.Parallel()
	var h Histogram
	require.Zero(t, h.Quantile(0.5))
	h.Add(-time.Second)
	require.Zero(t, h.Quantile(1))
	h.Add(24 * time.Hour)
	require.Greater(t, h.Quantile(1), time.Hour)
	require.Zero(t, h.Quantile(0))
}

func TestMergedHistogramsAreOne(t *testing.T) {
	t.Parallel()
	var a, b Histogram
	for i := range 90 {
		a.Add(time.Duration(i) * time.Microsecond)
	}
	for range 10 {
		b.Add(time.Second)
	}
	a.Merge(&b)
	require.EqualValues(t, 100, a.Count())
	require.InEpsilon(t, time.Second.Seconds(), a.Quantile(0.95).Seconds(), 0.01)
	require.Less(t, a.Quantile(0.9), time.Millisecond)
}
