package drill

import (
	"fmt"
	"slices"
	"time"
)

// samplesMin is how many measurements a claim about a 99th percentile needs: of fewer it says nothing.
const samplesMin = 20

// Claim is what a scenario says about the system, and what was measured of it.
type Claim struct {
	Name     string `json:"name"`
	Expected string `json:"expected"`
	Measured string `json:"measured"`
	Holds    bool   `json:"holds"`
}

// spread is the distribution of some durations.
type spread struct {
	n             int
	p50, p99, max time.Duration
}

// spreadOf sorts durations and reads their spread.
func spreadOf(all []time.Duration) spread {
	slices.Sort(all)
	s := spread{n: len(all)}
	if s.n > 0 {
		s.p50, s.p99, s.max = percentile(all, 50), percentile(all, 99), all[s.n-1]
	}
	return s
}

// percentile is the smallest of sorted values that p of a hundred do not exceed.
func percentile(sorted []time.Duration, p int) time.Duration {
	rank := (len(sorted)*p + 99) / 100
	return sorted[max(rank, 1)-1]
}

func (s spread) String() string {
	return fmt.Sprintf("p50 %s, p99 %s, max %s of %d", short(s.p50), short(s.p99), short(s.max), s.n)
}

// never stands for a duration that has not ended.
const never = 1000 * time.Hour

func short(d time.Duration) string {
	switch {
	case d >= never:
		return "never"
	case d >= 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1e3)
}

// noiseFloor is the 99th percentile below which a machine's noise is larger than what is measured.
const noiseFloor = 20 * time.Millisecond

// notSlower claims that the 99th percentile under a fault is at most a factor of the calm one. What is below
// the floor, or below noiseFloor, is never slow: there a factor would compare noise.
func notSlower(name string, calm, fault spread, factor float64, floor time.Duration) Claim {
	floor = max(floor, noiseFloor)
	limit := max(time.Duration(factor*float64(calm.p99)), floor)
	return Claim{
		Name:     name,
		Expected: fmt.Sprintf("p99 at most %.1f x calm, or %s", factor, short(floor)),
		Measured: fmt.Sprintf("calm p99 %s of %d, fault p99 %s of %d",
			short(calm.p99), calm.n, short(fault.p99), fault.n),
		Holds: calm.n >= samplesMin && fault.n >= samplesMin && fault.p99 <= limit,
	}
}

// within claims that the 99th percentile is at most a bound; least is how many measurements that takes.
func within(name string, s spread, limit time.Duration, least int) Claim {
	return Claim{
		Name: name, Expected: "p99 at most " + short(limit), Measured: s.String(),
		Holds: s.n >= max(least, 1) && s.p99 <= limit,
	}
}

// atMost claims that a number is not above a bound.
func atMost[N int | int64 | uint64 | float64](name string, measured, limit N) Claim {
	return Claim{
		Name: name, Expected: "at most " + number(limit), Measured: number(measured),
		Holds: measured <= limit,
	}
}

// atLeast claims that a number is not below a bound.
func atLeast[N int | int64 | uint64 | float64](name string, measured, limit N) Claim {
	return Claim{
		Name: name, Expected: "at least " + number(limit), Measured: number(measured),
		Holds: measured >= limit,
	}
}

// equal claims that two counts are the same, and not of nothing.
func equal[N int | int64 | uint64](name string, measured, wanted N) Claim {
	return Claim{
		Name: name, Expected: number(wanted), Measured: number(measured),
		Holds: measured == wanted && wanted > 0,
	}
}

func number[N int | int64 | uint64 | float64](n N) string {
	if f, is := any(n).(float64); is {
		return fmt.Sprintf("%.2f", f)
	}
	return fmt.Sprint(n)
}

// breaksShown is how many breaks a claim names.
const breaksShown = 2

// none claims that nothing was found.
func none(name string, found []string) Claim {
	c := Claim{Name: name, Expected: "none", Measured: "none", Holds: len(found) == 0}
	if len(found) > 0 {
		c.Measured = fmt.Sprintf("%d: %v", len(found), found[:min(len(found), breaksShown)])
	}
	return c
}

// drained claims that what was open when the load ended has ended, and within the promise.
func drained(took time.Duration, all bool) Claim {
	return Claim{
		Name:     "what was open after the load ended within the promise",
		Expected: "at most " + short(promise), Measured: short(took), Holds: all && took <= promise,
	}
}

// shown claims that something was seen.
func shown(name string, seen bool, measured string) Claim {
	return Claim{Name: name, Expected: "yes", Measured: measured, Holds: seen}
}

// letIn claims that those who are not the trouble are not refused for it.
func letIn(name string, let, asked uint64, least float64) Claim {
	return atLeast(name, float64(let)/float64(max(asked, 1)), least)
}

// orderSlack is how far a part may be off its order: near 0 and 1 the parts of all are the same.
const orderSlack = 0.02

// inOrder claims that parts do not fall.
func inOrder(name string, parts []float64) Claim {
	c := Claim{Name: name, Expected: "in this order", Measured: fmt.Sprintf("%.3f", parts)}
	c.Holds = len(parts) > 1
	for i := 1; i < len(parts); i++ {
		c.Holds = c.Holds && parts[i] >= parts[i-1]-orderSlack
	}
	return c
}

// amplification is how many requests a dependency got for each effect that was wanted of it.
func amplification(requests, keys uint64) float64 {
	if keys == 0 {
		return 0
	}
	return float64(requests) / float64(keys)
}

// amplified claims that retries and questions did not multiply the load.
func amplified(name string, requests, keys uint64, most float64) Claim {
	c := atMost(name, amplification(requests, keys), most)
	c.Measured += fmt.Sprintf(" (%d requests for %d keys)", requests, keys)
	c.Holds = c.Holds && keys > 0
	return c
}
