package budget_test

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"example.com/holdfast/internal/budget"
)

func TestRemainingIsTheTimeToTheDeadline(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	ctx, cancel := context.WithDeadline(t.Context(), now.Add(1200*time.Millisecond))
	defer cancel()

	left, ok := budget.Remaining(ctx, now)
	require.True(t, ok)
	require.Equal(t, 1200*time.Millisecond, left)

	left, ok = budget.Remaining(ctx, now.Add(2*time.Second))
	require.True(t, ok)
	require.Equal(t, -800*time.Millisecond, left, "past the deadline it is negative")
}

func TestNoDeadlineIsNotZeroTime(t *testing.T) {
	t.Parallel()
	_, ok := budget.Remaining(context.WithoutCancel(t.Context()), time.Time{})
	require.False(t, ok)
}

func TestTheMarginIsKeptBack(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name            string
		remaining, need time.Duration
		fits            bool
		handOn          time.Duration
	}{
		{"plenty", time.Second, 300 * time.Millisecond, true, 980 * time.Millisecond},
		{"exactly", 320 * time.Millisecond, 300 * time.Millisecond, true, 300 * time.Millisecond},
		{"one short", 320*time.Millisecond - 1, 300 * time.Millisecond, false, 300*time.Millisecond - 1},
		{"only the margin", budget.Margin, 1, false, 0},
		{"overdue", -time.Second, 0, false, 0},
		{"overdue for ever", math.MinInt64 + budget.Margin, 0, false, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tt.fits, budget.Fits(tt.remaining, tt.need))
			require.Equal(t, tt.handOn, budget.HandOn(tt.remaining))
		})
	}
}

func TestBackoffDoublesUpToTheCap(t *testing.T) {
	t.Parallel()
	almostOne := func() float64 { return math.Nextafter(1, 0) }
	bounds := map[int]time.Duration{
		-1: 200 * time.Millisecond, 0: 200 * time.Millisecond, 1: 200 * time.Millisecond,
		2: 400 * time.Millisecond, 3: 800 * time.Millisecond, 6: 6400 * time.Millisecond,
		7: 10 * time.Second, 100: 10 * time.Second, math.MaxInt: 10 * time.Second,
	}
	for attempt, bound := range bounds {
		longest := budget.Backoff(attempt, almostOne)
		require.InDelta(t, bound, longest, float64(time.Microsecond), "attempt %d", attempt)
		require.Zero(t, budget.Backoff(attempt, func() float64 { return 0 }), "full jitter starts at zero")
	}
}

func TestBackoffStaysInItsBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		attempt := rapid.Int().Draw(t, "attempt")
		draws := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		wait := budget.Backoff(attempt, draws.Float64)
		if wait < 0 || wait >= budget.BackoffCap {
			t.Fatalf("Backoff(%d) = %v", attempt, wait)
		}
	})
}
