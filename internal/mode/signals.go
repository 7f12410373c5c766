package mode

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Signal is something that is measured. The set is closed.
type Signal string

// The signals. Those of ages are looked up in the database, the others are put together from what the
// processes report of the time since their last report.
const (
	// TransferAge is for how long the most urgent open transfer that waits for us has been open.
	TransferAge Signal = "transfer_age_seconds"
	// OrderAge is for how long the most urgent open order has been open; it may wait for a review.
	OrderAge Signal = "order_age_seconds"
	// Saturation is the demand for places, calls in flight and waiting, for each place there is, at the
	// dependency where it is largest.
	Saturation Signal = "saturation"
	// Amplification is attempts at dependencies for each first attempt.
	Amplification Signal = "amplification"
	// PoolWait is how long a connection to the database was waited for on average, at the process where it
	// was longest.
	PoolWait Signal = "pool_wait_seconds"
	// FailureRatio is the part of the requests that ended with an answer of ours that says "not known" or
	// "broken". Refusals on purpose are none: they must not keep up the mode that makes them.
	FailureRatio Signal = "failure_ratio"
)

// Signals lists them.
func Signals() []Signal {
	return []Signal{TransferAge, OrderAge, Saturation, Amplification, PoolWait, FailureRatio}
}

// Values are the signals of one sample.
type Values map[Signal]float64

// String lists the values in a fixed order.
func (v Values) String() string {
	var parts []string
	for _, s := range Signals() {
		if value, ok := v[s]; ok {
			parts = append(parts, fmt.Sprintf("%s=%.3g", s, value))
		}
	}
	return strings.Join(parts, " ")
}

// countsMin is from how many requests or calls on a ratio says anything.
const countsMin = 20

// Report is what a process has measured since its last report.
type Report struct {
	// Dependencies has the demand for places and the places of each.
	Dependencies map[string]Demand `json:"dependencies,omitempty"`
	// Attempts at dependencies, and those of them that were the first for their effect.
	Attempts int64 `json:"attempts"`
	Firsts   int64 `json:"firsts"`
	// Requests that were answered, and those of them that failed.
	Requests int64 `json:"requests"`
	Failures int64 `json:"failures"`
	// PoolWait is how long a connection was waited for on average.
	PoolWait time.Duration `json:"pool_wait_ns"`
}

// Demand is how many calls want a place, and how many places there are.
type Demand struct {
	Wanted int `json:"wanted"`
	Places int `json:"places"`
}

// measured puts reports together.
func measured(reports []Report) Values {
	var sum Report
	demand := map[string]Demand{}
	for _, r := range reports {
		sum.Attempts, sum.Firsts = sum.Attempts+r.Attempts, sum.Firsts+r.Firsts
		sum.Requests, sum.Failures = sum.Requests+r.Requests, sum.Failures+r.Failures
		sum.PoolWait = max(sum.PoolWait, r.PoolWait)
		for name, d := range r.Dependencies {
			all := demand[name]
			demand[name] = Demand{all.Wanted + d.Wanted, all.Places + d.Places}
		}
	}
	values := make(Values)
	values[Amplification], values[PoolWait] = ratio(sum.Attempts, sum.Firsts), sum.PoolWait.Seconds()
	values[FailureRatio], values[Saturation] = ratio(sum.Failures, sum.Requests), 0
	for _, d := range demand {
		if d.Places > 0 {
			values[Saturation] = max(values[Saturation], float64(d.Wanted)/float64(d.Places))
		}
	}
	return values
}

// ratio is a part of a whole, or 0 where there is too little of it to say.
func ratio(part, whole int64) float64 {
	if whole < countsMin {
		return 0
	}
	return float64(part) / float64(whole)
}

// Cause is a signal that speaks for a switch, and the threshold that it has passed.
type Cause struct {
	Signal    Signal  `json:"signal"`
	Value     float64 `json:"value"`
	Threshold float64 `json:"threshold"`
}

// String is such as "saturation 1.2 >= 0.95".
func (c Cause) String() string {
	sign := ">="
	if c.Value < c.Threshold {
		sign = "<"
	}
	return fmt.Sprintf("%s %.3g %s %g", c.Signal, c.Value, sign, c.Threshold)
}

// causes are the signals of a sample that are at the threshold of a level, in a fixed order.
func (p *Policy) causes(level Mode, v Values) []Cause {
	var all []Cause
	for _, s := range Signals() {
		t, ok := p.Levels[level][s]
		if value := v[s]; ok && (value >= t.Enter || math.IsNaN(value)) {
			all = append(all, Cause{s, value, t.Enter})
		}
	}
	return all
}

// calm are the signals of a level, if all of them are below where it is left.
func (p *Policy) calm(level Mode, v Values) ([]Cause, bool) {
	var all []Cause
	for _, s := range Signals() {
		t, ok := p.Levels[level][s]
		if !ok {
			continue
		}
		if !(v[s] < t.Leave) { // what is no number is not calm
			return nil, false
		}
		all = append(all, Cause{s, v[s], t.Leave})
	}
	return all, true
}

// reasonOf says all causes in words, in a fixed order.
func reasonOf(causes []Cause) string {
	texts := make([]string, len(causes))
	for i, c := range causes {
		texts[i] = c.String()
	}
	slices.Sort(texts)
	return strings.Join(texts, ", ")
}
