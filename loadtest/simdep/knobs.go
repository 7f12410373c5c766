package simdep

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"time"
)

const (
	maxLatency = time.Minute // bounds one drawn latency
	maxLater   = time.Hour   // bounds how long a payout is pending or on its way
)

// z99 is the 99th percentile of the standard normal distribution.
const z99 = 2.3263478740408408

// Distribution names the shape of the latency. The set is closed.
type Distribution string

// The distributions. All take p50; fixed ignores p99.
const (
	Fixed     Distribution = "fixed"
	Uniform   Distribution = "uniform"
	Normal    Distribution = "normal"
	LogNormal Distribution = "lognormal"
)

// Latency is the time from a call's arrival to its effect.
type Latency struct {
	Distribution Distribution `json:"distribution"` // empty is fixed
	P50          float64      `json:"p50_ms"`
	P99          float64      `json:"p99_ms"`
}

// Decision is a screening's outcome as the server writes it.
type Decision string

// The decisions.
const (
	Approve Decision = "approve"
	Review  Decision = "review"
	Block   Decision = "block"
)

// Knobs is everything that can be changed about a running dependency. The zero value is perfect:
// no latency, no failures, everything approved. Rates are shares of calls between 0 and 1.
type Knobs struct {
	Latency Latency `json:"latency"`

	// Of these a call meets at most one, so their sum is at most 1.
	ErrorRate               float64 `json:"error_rate"`                 // 500, no effect
	HangRate                float64 `json:"hang_rate"`                  // no reply, no effect but a late one
	ResetRate               float64 `json:"reset_rate"`                 // connection reset, no effect
	TimeoutAfterSuccessRate float64 `json:"timeout_after_success_rate"` // effect, but no reply

	DuplicateRate float64 `json:"duplicate_rate"` // calls that arrive twice, as by a resending proxy
	IgnoreKeys    bool    `json:"ignore_keys"`    // every call has an effect: a badly made dependency

	Decision   Decision `json:"decision"`    // for screenings that no rule below decides; empty approves
	BlockOver  int64    `json:"block_over"`  // block above so many minor units, 0 never
	ReviewOver int64    `json:"review_over"` // review above so many minor units, 0 never

	// Capacity is how many calls are served at once, 0 for any number. The others queue, first come first
	// served, so that latency grows with load; a caller who leaves gives up its turn. A call that hangs
	// keeps its place until its caller leaves.
	Capacity int `json:"capacity"`

	PayoutPendingRate     float64 `json:"payout_pending_rate"`     // of submissions: pending at first
	PayoutSettle          float64 `json:"payout_settle_ms"`        // after which a pending payout is final
	PayoutRefuseOver      int64   `json:"payout_refuse_over"`      // refuse above, in minor units, 0 never
	PayoutRefuseRate      float64 `json:"payout_refuse_rate"`      // of pending ones: refused in the end
	PayoutUnstoppableRate float64 `json:"payout_unstoppable_rate"` // of pending ones: cannot be withdrawn

	// ArriveLate lets a submission whose caller has left, while it queued, took its time or hung, take
	// effect so long afterwards, unless it was withdrawn by then. At 0 it takes effect as other calls do.
	ArriveLate float64 `json:"arrive_late_ms"`

	// Callbacks tell of the end of payouts that were pending.
	CallbackURL        string  `json:"callback_url"`        // who is told
	CallbackSecret     string  `json:"callback_secret"`     // base64, with or without whsec_
	CallbackRate       float64 `json:"callback_rate"`       // of pending ones; the others are to be polled
	CallbackDuplicates int     `json:"callback_duplicates"` // times that each callback is sent again

	Seed uint64 `json:"seed"`
}

// Validate returns all problems at once, or nil.
func (k Knobs) Validate() error { return errors.Join(k.problems()...) }

func (k Knobs) problems() []error {
	problems := k.Latency.problems()
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	rates := []struct {
		name  string
		value float64
	}{
		{"error_rate", k.ErrorRate},
		{"hang_rate", k.HangRate},
		{"reset_rate", k.ResetRate},
		{"timeout_after_success_rate", k.TimeoutAfterSuccessRate},
		{"duplicate_rate", k.DuplicateRate},
		{"payout_pending_rate", k.PayoutPendingRate},
		{"payout_refuse_rate", k.PayoutRefuseRate},
		{"payout_unstoppable_rate", k.PayoutUnstoppableRate},
		{"callback_rate", k.CallbackRate},
	}
	for _, rate := range rates {
		if !(rate.value >= 0 && rate.value <= 1) {
			bad("%s %v is not between 0 and 1", rate.name, rate.value)
		}
	}
	if sum := k.ErrorRate + k.HangRate + k.ResetRate + k.TimeoutAfterSuccessRate; sum > 1 {
		bad("error, hang, reset and timeout_after_success rates add up to %v, more than 1", sum)
	}
	switch k.Decision {
	case "", Approve, Review, Block:
	default:
		bad("decision %q is none of approve, review, block", k.Decision)
	}
	if k.BlockOver < 0 || k.ReviewOver < 0 {
		bad("block_over %d and review_over %d must not be negative", k.BlockOver, k.ReviewOver)
	}
	if k.BlockOver > 0 && k.ReviewOver > k.BlockOver {
		bad("review_over %d is above block_over %d, so nothing would be reviewed", k.ReviewOver, k.BlockOver)
	}
	if k.Capacity < 0 {
		bad("capacity %d must not be negative", k.Capacity)
	}
	return append(append(problems, k.payoutProblems()...), k.callbackProblems()...)
}

func (k Knobs) payoutProblems() []error {
	var problems []error
	maxMillis := float64(maxLater.Milliseconds())
	if !(k.PayoutSettle >= 0 && k.PayoutSettle <= maxMillis) {
		problems = append(problems, fmt.Errorf(
			"payout_settle_ms %v is not between 0 and %v", k.PayoutSettle, maxMillis))
	}
	if !(k.ArriveLate >= 0 && k.ArriveLate <= maxMillis) {
		problems = append(problems, fmt.Errorf(
			"arrive_late_ms %v is not between 0 and %v", k.ArriveLate, maxMillis))
	}
	if k.PayoutRefuseOver < 0 {
		problems = append(problems, fmt.Errorf(
			"payout_refuse_over %d must not be negative", k.PayoutRefuseOver))
	}
	return problems
}

func (l Latency) problems() []error {
	var problems []error
	maxMillis := float64(maxLatency.Milliseconds())
	for _, p := range []float64{l.P50, l.P99} {
		if !(p >= 0 && p <= maxMillis) {
			problems = append(problems, fmt.Errorf("latency of %v ms is not between 0 and %v", p, maxMillis))
		}
	}
	switch l.Distribution {
	case "", Fixed:
		return problems
	case Uniform, Normal, LogNormal:
	default:
		problems = append(problems, fmt.Errorf(
			"latency distribution %q is none of fixed, uniform, normal, lognormal", l.Distribution))
	}
	if l.P99 < l.P50 {
		problems = append(problems, fmt.Errorf("latency p99 %v ms is below p50 %v ms", l.P99, l.P50))
	}
	if l.Distribution == LogNormal && l.P50 <= 0 {
		problems = append(problems, errors.New("a lognormal latency needs a p50 above 0 ms"))
	}
	return problems
}

// draw returns one latency, never negative.
func (l Latency) draw(random *rand.Rand) time.Duration {
	millis := l.P50
	switch l.Distribution {
	case "", Fixed:
	case Uniform:
		// From p50 to p99 lie 49 of the 50 hundredths above the median.
		millis += (l.P99 - l.P50) / 0.49 * (random.Float64() - 0.5)
	case Normal:
		millis += (l.P99 - l.P50) / z99 * random.NormFloat64()
	case LogNormal:
		millis *= math.Exp(math.Log(l.P99/l.P50) / z99 * random.NormFloat64())
	}
	millis = min(max(millis, 0), float64(maxLatency.Milliseconds()))
	return time.Duration(millis * float64(time.Millisecond))
}

// fate is what a call meets.
type fate int

const (
	answered  fate = iota
	failed         // 500 without an effect
	hung           // nothing, for as long as the caller waits
	wasReset       // connection reset without an effect
	replyLost      // effect, then nothing
)

// draw is everything random about one call.
type draw struct {
	latency time.Duration
	fate    fate
	twice   bool
}

// draw decides the nth call under a key.
func (k Knobs) draw(key string, nth int) draw {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(key))
	random := rand.New(rand.NewPCG(k.Seed^hash.Sum64(), uint64(nth))) //nolint:gosec // nth counts from 1
	return draw{
		fate:    k.fate(random.Float64()),
		twice:   random.Float64() < k.DuplicateRate,
		latency: k.Latency.draw(random),
	}
}

// course is everything random about the life of one payout.
type course struct {
	pending, refused, unstoppable, calledBack bool
}

// coursesSalt parts the randomness of courses from that of fates.
const coursesSalt = 1 << 63

// course decides what becomes of the nth submission under a reference.
func (k Knobs) course(key string, nth int) course {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(key))
	random := rand.New(rand.NewPCG(k.Seed^hash.Sum64(), coursesSalt|uint64(nth))) //nolint:gosec // as above
	return course{
		pending:     random.Float64() < k.PayoutPendingRate,
		refused:     random.Float64() < k.PayoutRefuseRate,
		unstoppable: random.Float64() < k.PayoutUnstoppableRate,
		calledBack:  random.Float64() < k.CallbackRate,
	}
}

// fate lays the exclusive rates end to end and looks where u in [0, 1) falls.
func (k Knobs) fate(u float64) fate {
	if u -= k.ErrorRate; u < 0 {
		return failed
	}
	if u -= k.HangRate; u < 0 {
		return hung
	}
	if u -= k.ResetRate; u < 0 {
		return wasReset
	}
	if u -= k.TimeoutAfterSuccessRate; u < 0 {
		return replyLost
	}
	return answered
}

// decide is the risk service's whole wisdom.
func (k Knobs) decide(amountValue int64) (Decision, string) {
	switch {
	case k.BlockOver > 0 && amountValue > k.BlockOver:
		return Block, "amount_over_block_limit"
	case k.ReviewOver > 0 && amountValue > k.ReviewOver:
		return Review, "amount_over_review_limit"
	case k.Decision == "":
		return Approve, "no_rule_matched"
	}
	return k.Decision, "decided_by_knob"
}
