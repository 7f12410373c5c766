package breaker_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"example.com/holdfast/internal/breaker"
)

func settings() breaker.Config {
	return breaker.Config{
		Window: 10 * time.Second, CallsMin: 20, FailPercent: 50,
		OpenFor: 5 * time.Second, OpenJitter: 2 * time.Second,
		Probes: 3, ProbeAgain: time.Second, Random: func() float64 { return 0.5 },
	}
}

// at is a moment of the tests' day.
func at(d time.Duration) time.Time { return time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC).Add(d) }

type bundle struct {
	*testing.T
	*breaker.Breaker
}

func setup(t *testing.T) bundle { t.Helper(); return bundle{t, breaker.New(settings())} }

// call lets n calls through at a moment, which all end the same way.
func (b bundle) call(n int, when time.Duration, o breaker.Outcome) {
	b.Helper()
	for range n {
		ticket, _, ok := b.Admit(at(when))
		require.True(b, ok)
		b.Done(at(when), ticket, o)
	}
}

func (b bundle) state(when time.Duration) breaker.State {
	state, _ := b.State(at(when))
	return state
}

// open fails enough calls at a moment.
func (b bundle) open(when time.Duration) {
	b.Helper()
	b.call(20, when, breaker.Failed)
	require.Equal(b, breaker.Open, b.state(when))
}

func TestItOpensWhenTheShareOfFailuresIsReachedByEnoughCalls(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name            string
		good, untold    int
		failed          int
		failedAt        time.Duration
		want            breaker.State
		wantAfterOneBad breaker.State
	}{
		{"too few calls", 0, 0, 18, 0, breaker.Closed, breaker.Closed},
		{"enough calls, all failed", 0, 0, 19, 0, breaker.Closed, breaker.Open},
		{"just below half", 21, 0, 19, 0, breaker.Closed, breaker.Closed},
		{"half", 20, 0, 19, 0, breaker.Closed, breaker.Open},
		{"what was given up does not count", 10, 30, 9, 0, breaker.Closed, breaker.Open},
		{"successes have left the window", 100, 0, 19, 11 * time.Second, breaker.Closed, breaker.Open},
		{"successes are still in the window", 100, 0, 19, 9 * time.Second, breaker.Closed, breaker.Closed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.call(tt.good, 0, breaker.Succeeded)
			b.call(tt.untold, 0, breaker.Untold)
			b.call(tt.failed, tt.failedAt, breaker.Failed)
			require.Equal(t, tt.want, b.state(tt.failedAt))
			b.call(1, tt.failedAt, breaker.Failed)
			require.Equal(t, tt.wantAfterOneBad, b.state(tt.failedAt))
		})
	}
}

func TestFailuresLeaveTheWindow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.call(19, 0, breaker.Failed)
	b.call(1, 10*time.Second, breaker.Failed)
	require.Equal(t, breaker.Closed, b.state(10*time.Second), "the first nineteen are older than the window")
}

func TestAnOpenBreakerSaysWhenToComeBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.open(time.Second)
	_, wait, ok := b.Admit(at(3 * time.Second))
	require.False(t, ok)
	require.Equal(t, 4*time.Second, wait, "open for 5 s and half of the jitter, of which 2 s are over")
	require.Equal(t, breaker.Open, b.state(7*time.Second-1))
	require.Equal(t, breaker.HalfOpen, b.state(7*time.Second))
	_, since := b.State(at(7 * time.Second))
	require.Equal(t, at(time.Second), since)
}

func TestProbesAreBoundedAndCloseIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.open(0)
	const half = 6 * time.Second
	var probes []breaker.Ticket
	for range 3 {
		ticket, _, ok := b.Admit(at(half))
		require.True(t, ok)
		probes = append(probes, ticket)
	}
	_, wait, ok := b.Admit(at(half))
	require.False(t, ok, "three probes are out")
	require.Equal(t, time.Second, wait)

	b.Done(at(half), probes[0], breaker.Succeeded)
	_, _, ok = b.Admit(at(half))
	require.False(t, ok, "one succeeded, two are out: no more are needed")
	b.Done(at(half), probes[1], breaker.Untold)
	another, _, ok := b.Admit(at(half))
	require.True(t, ok, "a probe that was given up is replaced")
	b.Done(at(half), probes[2], breaker.Succeeded)
	require.Equal(t, breaker.HalfOpen, b.state(half))
	b.Done(at(half), another, breaker.Succeeded)
	state, since := b.State(at(half))
	require.Equal(t, breaker.Closed, state)
	require.Zero(t, since)
	b.call(19, half, breaker.Failed)
	require.Equal(t, breaker.Closed, b.state(half), "what failed before is forgotten")
}

func TestTheFirstFailedProbeOpensItAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.open(0)
	b.call(2, 6*time.Second, breaker.Succeeded)
	b.call(1, 6*time.Second, breaker.Failed)
	require.Equal(t, breaker.Open, b.state(12*time.Second-1))
	require.Equal(t, breaker.HalfOpen, b.state(12*time.Second))
	_, since := b.State(at(12 * time.Second))
	require.Equal(t, at(0), since, "it has not been closed since")
}

func TestACallFromBeforeSaysNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var late []breaker.Ticket
	for range 5 {
		ticket, _, _ := b.Admit(at(0))
		late = append(late, ticket)
	}
	b.open(0)
	b.Done(at(0), late[0], breaker.Succeeded)
	require.Equal(t, breaker.Open, b.state(0))
	probe, _, ok := b.Admit(at(6 * time.Second))
	require.True(t, ok)
	for _, ticket := range late[1:] {
		b.Done(at(6*time.Second), ticket, breaker.Failed)
	}
	require.Equal(t, breaker.HalfOpen, b.state(6*time.Second))
	b.Done(at(6*time.Second), probe, breaker.Succeeded)
	b.call(2, 6*time.Second, breaker.Succeeded)
	require.Equal(t, breaker.Closed, b.state(6*time.Second))
}

// TestItNeverLetsMoreThanItsProbesOutAndNeverSticks drives it at random: while it is not closed no more
// than the probes are out, and after any history good calls close it again.
func TestItNeverLetsMoreThanItsProbesOutAndNeverSticks(t *testing.T) {
	t.Parallel()
	outcomes := []breaker.Outcome{breaker.Succeeded, breaker.Failed, breaker.Failed, breaker.Untold}
	rapid.Check(t, func(t *rapid.T) {
		config := settings()
		config.CallsMin = 2
		b := breaker.New(config)
		var now time.Duration
		type call struct {
			ticket breaker.Ticket
			probe  bool
		}
		var out []call
		done := func(i int, o breaker.Outcome) {
			b.Done(at(now), out[i].ticket, o)
			out = append(out[:i], out[i+1:]...)
		}
		t.Repeat(map[string]func(*rapid.T){
			"call": func(*rapid.T) {
				if ticket, _, ok := b.Admit(at(now)); ok {
					state, _ := b.State(at(now))
					out = append(out, call{ticket, state == breaker.HalfOpen})
				}
			},
			"end": func(t *rapid.T) {
				if len(out) == 0 {
					t.Skip("nothing is out")
				}
				which := rapid.IntRange(0, len(out)-1).Draw(t, "which")
				done(which, rapid.SampledFrom(outcomes).Draw(t, "outcome"))
			},
			"wait": func(t *rapid.T) {
				now += time.Duration(rapid.IntRange(0, 4).Draw(t, "seconds")) * time.Second
			},
			"": func(t *rapid.T) {
				current := map[breaker.Ticket]int{}
				for _, c := range out {
					if c.probe {
						current[c.ticket]++
					}
				}
				for _, n := range current {
					if n > config.Probes {
						t.Fatalf("%d probes are out", n)
					}
				}
			},
		})
		for len(out) > 0 {
			done(0, breaker.Untold)
		}
		now += config.OpenFor + config.OpenJitter
		for range config.Probes {
			ticket, _, ok := b.Admit(at(now))
			if !ok {
				t.Fatal("nobody is out, and nobody is let through")
			}
			b.Done(at(now), ticket, breaker.Succeeded)
		}
		if state, _ := b.State(at(now)); state != breaker.Closed {
			t.Fatalf("%s after good probes", state)
		}
	})
}

func BenchmarkAdmitAndDone(b *testing.B) {
	machine, now := breaker.New(settings()), at(0)
	b.ReportAllocs()
	for b.Loop() {
		ticket, _, _ := machine.Admit(now)
		machine.Done(now, ticket, breaker.Succeeded)
	}
}
