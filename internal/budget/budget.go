// Package budget is the arithmetic of deadlines: how much time is left, whether a step still fits,
// and how long to wait before trying again.
//
// It never reads a clock and never sleeps; the caller brings both. Invariant: time handed on is
// always smaller than the time left, by Margin, so that whoever is called gives up before its caller.
package budget

import (
	"context"
	"time"
)

const (
	// Margin is kept back at each hop for the way there and back and for recording the outcome.
	Margin = 20 * time.Millisecond

	// BackoffBase is the upper bound of the first wait.
	BackoffBase = 200 * time.Millisecond

	// BackoffCap is the upper bound of every wait.
	BackoffCap = 10 * time.Second
)

// Remaining returns the time until the context's deadline, which is negative after it.
// It returns false when the context has no deadline.
func Remaining(ctx context.Context, now time.Time) (time.Duration, bool) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0, false
	}
	return deadline.Sub(now), true
}

// HandOn returns the part of the remaining time that a callee may use: all but Margin, never negative.
func HandOn(remaining time.Duration) time.Duration {
	return max(remaining-Margin, 0)
}

// Fits reports whether work that needs this long can be done in the remaining time with Margin to spare.
func Fits(remaining, need time.Duration) bool {
	return need <= remaining-Margin
}

// Backoff returns the wait before the next try after attempt tries have failed: full jitter, that
// is a uniform draw below BackoffBase doubled per attempt and capped at BackoffCap. rnd returns
// numbers in [0, 1).
func Backoff(attempt int, rnd func() float64) time.Duration {
	bound := BackoffBase
	for i := 1; i < attempt && bound < BackoffCap; i++ {
		bound *= 2
	}
	return time.Duration(rnd() * float64(min(bound, BackoffCap)))
}
