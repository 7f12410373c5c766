package simdep

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestDrawnLatenciesHaveTheirPercentiles(t *testing.T) {
	t.Parallel()
	const draws = 20_000
	for _, distribution := range []Distribution{Fixed, Uniform, Normal, LogNormal} {
		t.Run(string(distribution), func(t *testing.T) {
			t.Parallel()
			knobs := Knobs{Latency: Latency{Distribution: distribution, P50: 50, P99: 80}, Seed: 1}
			latencies := make([]time.Duration, draws)
			for i := range latencies {
				latencies[i] = knobs.draw("k"+strconv.Itoa(i), 1).latency
			}
			slices.Sort(latencies)
			p99 := 80 * time.Millisecond
			if distribution == Fixed {
				p99 = 50 * time.Millisecond
			}
			require.InEpsilon(t, 50*time.Millisecond, latencies[draws/2], 0.03)
			require.InEpsilon(t, p99, latencies[draws*99/100], 0.05)
		})
	}
}

func TestALatencyIsNeverNegativeNorUnbounded(t *testing.T) {
	t.Parallel()
	shapes := []Distribution{"", Fixed, Uniform, Normal, LogNormal}
	rapid.Check(t, func(t *rapid.T) {
		latency := Latency{
			Distribution: rapid.SampledFrom(shapes).Draw(t, "shape"),
			P50:          rapid.Float64Range(0, 60_000).Draw(t, "p50"),
			P99:          rapid.Float64Range(0, 60_000).Draw(t, "p99"),
		}
		if len(latency.problems()) > 0 {
			t.Skip("refused")
		}
		knobs := Knobs{Latency: latency, Seed: rapid.Uint64().Draw(t, "seed")}
		if d := knobs.draw("k", 1).latency; d < 0 || d > maxLatency {
			t.Fatalf("%+v drew %v", latency, d)
		}
	})
}

func TestEachFateHasItsShare(t *testing.T) {
	t.Parallel()
	knobs := Knobs{ErrorRate: 0.1, HangRate: 0.2, ResetRate: 0.3, TimeoutAfterSuccessRate: 0.4}
	for u, want := range map[float64]fate{
		0: failed, 0.09: failed, 0.11: hung, 0.29: hung,
		0.31: wasReset, 0.59: wasReset, 0.61: replyLost, 0.99: replyLost,
	} {
		require.Equal(t, want, knobs.fate(u), "u=%v", u)
	}
	require.Equal(t, answered, Knobs{}.fate(0))
	require.Equal(t, answered, Knobs{ErrorRate: 0.5}.fate(0.5))
}
