package app

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/telemetry"
)

func TestAdmissionRefusesMoreTheOlderTheWork(t *testing.T) {
	t.Parallel()
	const ageMax = time.Second
	for _, c := range []struct {
		age   time.Duration
		class string
		want  float64
	}{
		{0, "standard", 0},
		{300 * time.Millisecond, "standard", 0},
		{650 * time.Millisecond, "standard", 0.5},
		{time.Second, "standard", 1},
		{time.Hour, "standard", 1},
		{time.Second, "critical", 4.0 / 14},
		{2 * time.Second, "critical", 1},
		{150 * time.Millisecond, "sheddable", 0},
		{500 * time.Millisecond, "sheddable", 1},
	} {
		require.InDelta(t, c.want, share(c.age, ageMax, c.class), 1e-9, "%s at %s", c.class, c.age)
	}
}

func TestARefusalSaysWhenToComeBack(t *testing.T) {
	t.Parallel()
	a := newAdmission(nil, time.Second, Env{Metrics: telemetry.New()})
	require.NoError(t, a.admit("standard"))
	a.age.Store(int64(time.Minute))
	err := a.admit("standard")
	require.True(t, problem.Is(err, problem.Overloaded))
	after := problem.Of(err).RetryAfter
	require.GreaterOrEqual(t, after, overloadedRetry/2)
	require.Less(t, after, 3*overloadedRetry/2)
}
