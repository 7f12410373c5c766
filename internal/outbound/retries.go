package outbound

import "time"

const (
	// repeatShare is what one first try adds to the budget of repeats, in repeats: one in ten.
	repeatShare = 0.1

	// repeatsMax bounds what is saved up, in repeats.
	repeatsMax = 20.0

	// repeatsPerSecond comes in without first tries, but only up to one repeat, so that a dependency that
	// nobody else calls can still be asked again.
	repeatsPerSecond = 1.0
)

// retryBudget bounds repeats that fail by first tries: an outage turns every call into repeats, and without a
// bound the dependency comes back to a multiple of its load. A repeat that succeeds gets its token back, so
// what an outage left is made up for as soon as there is an answer. The caller guards it.
type retryBudget struct {
	tokens float64
	last   time.Time
}

// refill adds what time brings.
func (r *retryBudget) refill(now time.Time) {
	if passed := now.Sub(r.last); passed > 0 {
		if r.tokens < 1 {
			r.tokens = min(1, r.tokens+passed.Seconds()*repeatsPerSecond)
		}
		r.last = now
	}
}

// take pays for a repeat, or says when there may be a token.
func (r *retryBudget) take(now time.Time) (time.Duration, bool) {
	r.refill(now)
	if r.tokens >= 1 {
		r.tokens--
		return 0, true
	}
	missing := time.Duration((1 - r.tokens) / repeatsPerSecond * float64(time.Second))
	return max(missing.Round(time.Millisecond), time.Millisecond), false
}

// add puts in what a first try earns, or what a repeat had paid that was not made or that succeeded.
func (r *retryBudget) add(repeats float64) { r.tokens = min(repeatsMax, r.tokens+repeats) }
