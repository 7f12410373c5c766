package mode_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"example.com/holdfast/internal/mode"
)

// controller is one with a stepped clock.
type controller struct {
	p        *mode.Policy
	j        mode.Judgement
	now      time.Time
	switches []mode.Switch
}

func newController(p *mode.Policy) *controller {
	return &controller{p: p, j: mode.Judgement{Level: mode.Normal}, now: time.Unix(1_000_000, 0)}
}

// see takes a sample and steps on.
func (c *controller) see(v mode.Values) {
	next, why := c.p.Judge(c.j, v, c.now)
	if why != nil {
		c.switches = append(c.switches, mode.Switch{At: c.now, From: c.j.Level, To: next.Level, Causes: why})
	}
	c.j = next
	c.now = c.now.Add(c.p.SampleEvery)
}

func (c *controller) times(n int, v mode.Values) {
	for range n {
		c.see(v)
	}
}

// aged is a sample in which nothing is wrong but the age of transfers, in seconds.
func aged(seconds float64) mode.Values {
	v := make(mode.Values)
	for _, s := range mode.Signals() {
		v[s] = 0
	}
	v[mode.TransferAge] = seconds
	return v
}

func TestALevelIsEnteredOnThreeOfThreeSamples(t *testing.T) {
	t.Parallel()
	c := newController(policyWith(t))
	c.times(2, aged(5))
	c.see(aged(4.9))
	c.times(2, aged(5))
	require.Empty(t, c.switches, "five of six are not three in a row")
	c.see(aged(5))
	require.Len(t, c.switches, 1)
	require.Equal(t, mode.Constrained, c.j.Level)
	require.Equal(t, "transfer_age_seconds 5 >= 5", c.switches[0].Reason())
}

func TestALevelIsLeftOnTwelveOfTwelveBelowALowerThreshold(t *testing.T) {
	t.Parallel()
	c := newController(policyWith(t))
	c.times(3, aged(5))
	c.times(30, aged(2))
	require.Equal(t, mode.Constrained, c.j.Level, "2 is not below 2")
	c.times(11, aged(1.9))
	c.see(aged(2))
	c.times(11, aged(1.9))
	require.Equal(t, mode.Constrained, c.j.Level)
	c.see(aged(1.9))
	require.Equal(t, mode.Normal, c.j.Level)
}

func TestOneLevelAtATimeAndAMinuteInEach(t *testing.T) {
	t.Parallel()
	c := newController(policyWith(t))
	c.times(40, aged(1_000))
	c.times(60, aged(0))
	require.Len(t, c.switches, 4)
	for i, to := range []mode.Mode{mode.Constrained, mode.Protection, mode.Constrained, mode.Normal} {
		require.Equal(t, to, c.switches[i].To)
		if i > 0 {
			require.GreaterOrEqual(t, c.switches[i].At.Sub(c.switches[i-1].At), time.Minute)
		}
	}
	require.Equal(t, time.Minute, c.switches[1].At.Sub(c.switches[0].At), "and no longer where it gets worse")
}

func TestEachSignalLeadsToItsLevelByItself(t *testing.T) {
	t.Parallel()
	p := policyWith(t)
	for _, level := range mode.Levels()[1:] {
		for signal, threshold := range p.Levels[level] {
			c := newController(p)
			v := aged(0)
			v[signal] = threshold.Enter
			c.times(100, v)
			require.Equal(t, level, c.j.Level, "%s", signal)
			v[signal] = math.Nextafter(threshold.Enter, 0)
			c.times(100, v)
			require.Equal(t, level, c.j.Level, "%s is not low", signal)
			c.times(100, aged(0))
			require.Equal(t, mode.Normal, c.j.Level, "%s", signal)
		}
	}
}

func TestSamplesBeforeAGapDoNotCount(t *testing.T) {
	t.Parallel()
	c := newController(policyWith(t))
	c.times(2, aged(9))
	c.now = c.now.Add(4 * c.p.SampleEvery)
	c.see(aged(9))
	require.Empty(t, c.switches, "what was between is not known")
	c.times(2, aged(9))
	require.Len(t, c.switches, 1)
}

func TestWhatIsNoNumberIsNotWell(t *testing.T) {
	t.Parallel()
	c := newController(policyWith(t))
	c.times(3, aged(math.NaN()))
	require.Equal(t, mode.Constrained, c.j.Level)
}

// TestNoLoadMakesTheModeFlap draws policies and oscillating loads, and holds the controller to what it
// promises about any of them.
func TestNoLoadMakesTheModeFlap(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		p := drawnPolicy(t, r)
		c := newController(p)
		mean := rapid.Float64Range(0, 30).Draw(r, "mean")
		swing := rapid.Float64Range(0, 30).Draw(r, "swing")
		period := rapid.Float64Range(1, 200).Draw(r, "period of the swing, in samples")
		noise := rapid.SliceOfN(rapid.Float64Range(-5, 5), 400, 400).Draw(r, "noise")
		var seen []float64
		for i, n := range noise {
			age := max(0, mean+swing*math.Sin(2*math.Pi*float64(i)/period)+n)
			seen = append(seen, age)
			before := len(c.switches)
			c.see(aged(age))
			if len(c.switches) > before {
				requireJustified(r, p, c.switches[before], seen)
			}
		}
		requireCalm(r, p, c.switches)
		if mean+swing+5 < p.Levels[mode.Constrained][mode.TransferAge].Enter && len(c.switches) > 0 {
			r.Fatalf("a load that is never high was answered by %v", c.switches)
		}
	})
}

func drawnPolicy(t *testing.T, r *rapid.T) *mode.Policy {
	t.Helper()
	enter := rapid.IntRange(1, 5).Draw(r, "enter after")
	leave := rapid.IntRange(enter, 20).Draw(r, "leave after")
	dwell := rapid.IntRange(1, 40).Draw(r, "dwell, in samples")
	return policyWith(t, "enter_after: 3", fmt.Sprintf("enter_after: %d", enter),
		"leave_after: 12", fmt.Sprintf("leave_after: %d", leave),
		"dwell: 60s", fmt.Sprintf("dwell: %ds", 5*dwell))
}

// requireJustified says that each of the samples that a switch needs voted for it.
func requireJustified(r *rapid.T, p *mode.Policy, s mode.Switch, seen []float64) {
	worse := s.To != mode.Normal && s.From != mode.Protection
	needs, threshold := p.LeaveAfter, p.Levels[s.From][mode.TransferAge].Leave
	if worse {
		needs, threshold = p.EnterAfter, p.Levels[s.To][mode.TransferAge].Enter
	}
	if len(seen) < needs {
		r.Fatalf("%v after %d samples", s, len(seen))
	}
	for _, age := range seen[len(seen)-needs:] {
		if (age >= threshold) != worse {
			r.Fatalf("from %s to %s though one of the last %d ages is %g, at a threshold of %g", s.From, s.To,
				needs, age, threshold)
		}
	}
}

// requireCalm says that between two switches there is the dwell, and that each goes one level.
func requireCalm(r *rapid.T, p *mode.Policy, switches []mode.Switch) {
	at := func(m mode.Mode) int { return slices.Index(mode.Levels(), m) }
	for i, s := range switches {
		if d := at(s.To) - at(s.From); d != 1 && d != -1 {
			r.Fatalf("from %s to %s", s.From, s.To)
		}
		if i > 0 && s.At.Sub(switches[i-1].At) < p.Dwell {
			r.Fatalf("two switches within %v: %v", p.Dwell, switches[i-1:i+1])
		}
	}
}

func TestASimulationSaysWhatThePolicyWouldHaveDone(t *testing.T) {
	t.Parallel()
	p := policyWith(t)
	live := newController(p)
	var samples []mode.Sample
	for _, part := range []struct {
		age   float64
		times int
	}{{0, 20}, {30, 60}, {1, 80}} {
		for range part.times {
			samples = append(samples, mode.Sample{At: live.now, Values: aged(part.age)})
			live.see(aged(part.age))
		}
	}
	made, lasted := p.Simulate(mode.Normal, samples)
	require.Equal(t, live.switches, made)
	require.Len(t, made, 4)
	total := samples[len(samples)-1].At.Sub(samples[0].At)
	require.Equal(t, total, lasted[mode.Normal]+lasted[mode.Constrained]+lasted[mode.Protection])
	patient := policyWith(t, "enter_after: 3", "enter_after: 61", "leave_after: 12", "leave_after: 61")
	made, _ = patient.Simulate(mode.Normal, samples)
	require.Empty(t, made, "another policy would have waited")
}

func TestReportsOfAllProcessesAreOneSample(t *testing.T) {
	t.Parallel()
	v := mode.Together(
		mode.Report{
			Dependencies: map[string]mode.Demand{
				"risk_api": {Wanted: 8, Places: 4}, "payout_rail": {Wanted: 1, Places: 4},
			},
			Attempts: 30, Firsts: 20, Requests: 100, Failures: 1, PoolWait: time.Millisecond,
		},
		mode.Report{
			Dependencies: map[string]mode.Demand{"risk_api": {Wanted: 1, Places: 5}, "away": {Wanted: 3}},
			Attempts:     10, Firsts: 10, Requests: 100, Failures: 3, PoolWait: time.Second,
		},
	)
	require.InDelta(t, 1.0, v[mode.Saturation], 1e-9, "nine want nine places")
	require.InDelta(t, 40.0/30, v[mode.Amplification], 1e-9)
	require.InDelta(t, 0.02, v[mode.FailureRatio], 1e-9)
	require.InDelta(t, 1.0, v[mode.PoolWait], 1e-9)
	few := mode.Together(mode.Report{Attempts: 19, Firsts: 1, Requests: 19, Failures: 19})
	require.Zero(t, few[mode.FailureRatio], "too few to say")
	require.Zero(t, few[mode.Amplification])
}
