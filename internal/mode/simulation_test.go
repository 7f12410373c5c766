package mode_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/mode"
)

// taken are samples of the default policy's pace, of an age of transfers and a mode in force each.
func taken(t *testing.T, ages []float64, modes []mode.Mode) []mode.Sample {
	t.Helper()
	begin := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	samples := make([]mode.Sample, len(ages))
	for i, age := range ages {
		samples[i] = mode.Sample{
			At: begin.Add(time.Duration(i) * 5 * time.Second), Level: mode.Normal, Mode: modes[i],
			Values: aged(age),
		}
	}
	return samples
}

func TestASimulationStandsBesideWhatWas(t *testing.T) {
	t.Parallel()
	p := policyWith(t)
	n, f := mode.Normal, mode.Frozen
	s := p.Compare(taken(t, []float64{0, 6, 6, 6, 6}, []mode.Mode{n, n, f, f, n}))
	require.Same(t, p, s.Policy)
	require.Equal(t, 5, s.Samples)
	require.Equal(t, 20*time.Second, s.To.Sub(s.From))
	require.Len(t, s.Would.Switches, 1)
	require.Equal(t, 15*time.Second, s.Would.Switches[0].At.Sub(s.From))
	require.Equal(t, []mode.Switch{
		{At: s.From.Add(10 * time.Second), From: n, To: f}, {At: s.To, From: f, To: n},
	}, s.Was.Switches)
	for _, c := range []mode.Course{s.Would, s.Was} {
		var lasted time.Duration
		for _, d := range c.Lasted {
			lasted += d
		}
		require.Equal(t, s.To.Sub(s.From), lasted, "each moment is in one mode")
	}
	require.Equal(t, 10*time.Second, s.Was.Lasted[f])
	require.Equal(t, 5*time.Second, s.Would.Lasted[mode.Constrained])
}

func TestASimulationOfNothingIsEmpty(t *testing.T) {
	t.Parallel()
	p := policyWith(t)
	require.Equal(t, mode.Simulation{Policy: p}, p.Compare(nil))
	one := p.Compare(taken(t, []float64{0}, []mode.Mode{mode.Frozen}))
	require.Equal(t, 1, one.Samples)
	require.Empty(t, one.Was.Switches)
}

func TestEveryProcessKnowsTheLatestSampleUntilItIsOld(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	for _, p := range c.processes {
		_, ok := p.current.Latest()
		require.False(t, ok, "nobody has judged")
	}
	c.seen = aged(3)
	c.samples(t, 1)
	for _, p := range c.processes {
		s, ok := p.current.Latest()
		require.True(t, ok, p.Instance)
		require.InDelta(t, 3, s.Values[mode.TransferAge], 0)
	}
	c.blind = true
	c.pass(t, time.Minute+time.Second)
	for _, p := range c.processes {
		_, ok := p.current.Latest()
		require.False(t, ok, "what was so a minute ago is not known to be so now")
	}
}
