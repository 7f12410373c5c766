package outbound

import "time"

const (
	// adaptCallsMin is the least number of attempts that decides, and the effective limit the usual one:
	// about one turnover of all places.
	adaptCallsMin = 10

	// adaptOverloadPercent of them have to say overload for the limit to shrink, to adaptKeepPercent.
	adaptOverloadPercent = 20
	adaptKeepPercent     = 70
)

// signal is what an attempt said about the dependency's load. The set is closed.
type signal string

const (
	signalCalm     signal = "calm"
	signalOverload signal = "overload" // it ran out of time, or the dependency said that it is busy
	signalNone     signal = "none"     // nothing about load
)

// adaptive finds the limit that a dependency bears, below the cap (docs/adr/0011). It knows failures
// alone: a dependency that has become slow is not overloaded, and fewer calls would not make it faster.
// It judges attempts that were made side by side: under overload all of them are late, while a few that
// outlast all others are a tail, whatever the load. The caller guards it.
type adaptive struct {
	since    time.Time // attempts that began earlier do not count
	calls    int
	overload int
	peak     int // most in flight when an attempt was admitted
}

// verdict is what a window of attempts says about the limit. The set is closed.
type verdict string

const (
	verdictKeep   verdict = "keep"
	verdictShrink verdict = "shrink"
	verdictGrow   verdict = "grow"
)

// note takes an attempt that began at a moment, with so many in flight under a limit, and judges when
// there are enough of them.
func (a *adaptive) note(s signal, began, now time.Time, inFlight, limit int) verdict {
	if s == signalNone || began.Before(a.since) {
		return verdictKeep
	}
	a.calls++
	if s == signalOverload {
		a.overload++
	}
	a.peak = max(a.peak, inFlight)
	if a.calls < max(adaptCallsMin, limit) {
		return verdictKeep
	}
	const percent = 100
	v := verdictKeep
	switch {
	case a.overload*percent >= a.calls*adaptOverloadPercent:
		if a.peak > shrunk(limit) { // else a smaller limit would change nothing
			v = verdictShrink
		}
	case a.peak >= limit:
		v = verdictGrow
	}
	*a = adaptive{since: now}
	return v
}

// shrunk is the next smaller limit, at least 1.
func shrunk(limit int) int {
	const percent = 100
	return max(limit*adaptKeepPercent/percent, 1)
}

// grown is the next larger limit, 0 when the cap is reached and no adapted limit is needed.
func grown(limit, most int) int {
	if limit+1 >= most {
		return 0
	}
	return limit + 1
}
