// Package breaker decides whether a dependency that fails is asked at all.
//
// A Breaker is closed until a share of the recent calls has failed. Then it is open, and nobody is let
// through, for a while that is drawn anew each time, so that processes do not come back in step. Then a
// bounded number of probes goes through: if all of them succeed it closes, and the first that fails opens
// it again. A call that was let through before the last change of state says nothing about the present
// one, and neither does a call that was given up.
//
// The package is a state machine over times that the caller hands in. It refuses to read a clock, to wait
// and to know what a call is; it is not safe for concurrent use.
//
// Invariant: every Ticket that Admit gave out comes back by Done, exactly once; while half open no more
// than Config.Probes are out.
package breaker

import "time"

// State is what a breaker does with a call. The set is closed.
type State string

// The states.
const (
	Closed   State = "closed"    // calls go through
	Open     State = "open"      // none does
	HalfOpen State = "half_open" // probes do
)

// Outcome is what a call said about the dependency. The set is closed.
type Outcome string

// The outcomes.
const (
	Succeeded Outcome = "succeeded"
	Failed    Outcome = "failed"
	Untold    Outcome = "untold" // it was given up, or never made
)

// slices is how many parts the window moves on by.
const slices = 10

// Config says when a breaker opens and closes. Every number has to be positive.
type Config struct {
	Window      time.Duration // how far back calls count
	CallsMin    int           // with fewer calls in the window it does not open
	FailPercent int           // it opens when so many percent of them failed
	OpenFor     time.Duration // shortest time that it is open
	OpenJitter  time.Duration // what is drawn on top
	Probes      int           // calls at once while half open, and successes that close it
	ProbeAgain  time.Duration // when to ask again while all probes are out
	Random      func() float64
}

// Ticket is the permission for one call.
type Ticket struct{ period uint64 }

type counts struct{ calls, failures int }

// Breaker is one state machine. Make it with New.
type Breaker struct {
	config Config
	state  State
	period uint64    // counts changes of state
	since  time.Time // when it last left Closed
	until  time.Time // end of Open

	window [slices]counts
	slice  int64 // number of the newest slice, counted from the epoch

	probes, passed int // out and succeeded while half open
}

// New returns a closed breaker.
func New(config Config) *Breaker { return &Breaker{config: config, state: Closed} }

// Admit lets a call through, or says after how long it may be asked again.
func (b *Breaker) Admit(now time.Time) (Ticket, time.Duration, bool) {
	if b.state == Open && !now.Before(b.until) {
		b.change(HalfOpen)
	}
	switch b.state {
	case Closed:
		return Ticket{b.period}, 0, true
	case HalfOpen:
		if b.probes+b.passed < b.config.Probes {
			b.probes++
			return Ticket{b.period}, 0, true
		}
		return Ticket{}, b.config.ProbeAgain, false
	case Open:
	}
	return Ticket{}, b.until.Sub(now), false
}

// Done takes back the ticket of a call.
func (b *Breaker) Done(now time.Time, t Ticket, o Outcome) {
	if t.period != b.period {
		return
	}
	switch b.state {
	case Closed:
		b.count(now, o)
	case HalfOpen:
		b.probes--
		b.judgeProbe(now, o)
	case Open:
	}
}

func (b *Breaker) count(now time.Time, o Outcome) {
	if o == Untold {
		return
	}
	b.advance(now)
	current := &b.window[b.slice%slices]
	current.calls++
	if o == Succeeded {
		return
	}
	current.failures++
	var sum counts
	for _, c := range b.window {
		sum.calls += c.calls
		sum.failures += c.failures
	}
	const percent = 100
	if sum.calls >= b.config.CallsMin && sum.failures*percent >= sum.calls*b.config.FailPercent {
		b.since = now
		b.open(now)
	}
}

// advance clears the slices that have left the window.
func (b *Breaker) advance(now time.Time) {
	newest := now.UnixNano() / int64(b.config.Window/slices)
	b.slice = max(b.slice, newest-slices)
	for b.slice < newest {
		b.slice++
		b.window[b.slice%slices] = counts{}
	}
}

func (b *Breaker) judgeProbe(now time.Time, o Outcome) {
	switch o {
	case Failed:
		b.open(now)
	case Succeeded:
		if b.passed++; b.passed == b.config.Probes {
			b.change(Closed)
			b.window, b.since = [slices]counts{}, time.Time{}
		}
	case Untold: // somebody else probes
	}
}

func (b *Breaker) open(now time.Time) {
	jitter := time.Duration(b.config.Random() * float64(b.config.OpenJitter))
	b.until = now.Add(b.config.OpenFor + jitter)
	b.change(Open)
}

func (b *Breaker) change(to State) {
	b.state, b.probes, b.passed = to, 0, 0
	b.period++
}

// State returns what would become of a call now, and since when the breaker has not been closed: zero
// while it is.
func (b *Breaker) State(now time.Time) (State, time.Time) {
	if b.state == Open && !now.Before(b.until) {
		return HalfOpen, b.since
	}
	return b.state, b.since
}
