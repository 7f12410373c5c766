package drill

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// steady is a spread of n durations that are all the same.
func steady(n int, d time.Duration) spread {
	all := make([]time.Duration, n)
	for i := range all {
		all[i] = d
	}
	return spreadOf(all)
}

func TestAPercentileIsNotExceededByThatManyOfAHundred(t *testing.T) {
	t.Parallel()
	all := make([]time.Duration, 200)
	for i := range all {
		all[len(all)-1-i] = time.Duration(i+1) * time.Millisecond
	}
	s := spreadOf(all)
	require.Equal(t, spread{200, 100 * time.Millisecond, 198 * time.Millisecond, 200 * time.Millisecond}, s)
	require.Equal(t, time.Second, steady(1, time.Second).p99)
	require.Equal(t, spread{}, spreadOf(nil))
	require.Contains(t, spreadOf([]time.Duration{time.Second, never}).String(), "max never of 2")
}

func TestWhatTheFaultMakesSlowerFails(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	holds := func(calm, fault spread) bool { return notSlower("x", calm, fault, 1.5, 0).Holds }
	require.True(t, holds(steady(100, 40*ms), steady(100, 60*ms)))
	require.False(t, holds(steady(100, 40*ms), steady(100, 61*ms)))
	require.True(t, holds(steady(100, 2*ms), steady(100, 20*ms)), "below the floor is noise")
	require.False(t, holds(steady(100, 2*ms), steady(100, 21*ms)))
	require.False(t, holds(steady(100, 40*ms), steady(samplesMin-1, ms)), "too few say nothing")
	require.False(t, holds(steady(samplesMin-1, 40*ms), steady(100, ms)))
	require.False(t, holds(spread{}, spread{}))
	require.False(t, holds(steady(100, 40*ms), steady(100, never)))
	require.True(t, notSlower("x", steady(100, 2*ms), steady(100, 90*ms), 1.5, 90*ms).Holds)
	require.False(t, notSlower("x", steady(100, 2*ms), steady(100, 91*ms), 1.5, 90*ms).Holds)
}

func TestWhatIsLateOrNotMeasuredFails(t *testing.T) {
	t.Parallel()
	require.True(t, within("x", steady(3, time.Second), time.Second, 3).Holds)
	require.False(t, within("x", steady(3, time.Second+1), time.Second, 3).Holds)
	require.False(t, within("x", steady(3, time.Second), time.Second, 4).Holds)
	require.False(t, within("x", spread{}, time.Second, 0).Holds)
}

func TestNumbersBeyondTheirBoundFail(t *testing.T) {
	t.Parallel()
	require.True(t, atMost("x", 8, 8).Holds)
	require.False(t, atMost("x", 9, 8).Holds)
	require.True(t, atLeast("x", 0.5, 0.5).Holds)
	require.False(t, atLeast("x", 0.49, 0.5).Holds)
	require.True(t, equal("x", 7, 7).Holds)
	require.False(t, equal("x", 8, 7).Holds)
	require.False(t, equal("x", 0, 0).Holds, "equal to nothing says nothing")
	require.False(t, shown("x", false, "no").Holds)
	require.True(t, shown("x", true, "yes").Holds)
	require.Equal(t, "0.49", atLeast("x", 0.49, 0.5).Measured)
}

func TestADrainThatIsLateOrNotDoneFails(t *testing.T) {
	t.Parallel()
	require.True(t, drained(promise, true).Holds)
	require.False(t, drained(promise+1, true).Holds)
	require.False(t, drained(0, false).Holds)
}

func TestWhatWasFoundFails(t *testing.T) {
	t.Parallel()
	require.True(t, none("x", nil).Holds)
	c := none("x", []string{"a", "b", "c"})
	require.False(t, c.Holds)
	require.Equal(t, "3: [a b]", c.Measured)
}

func TestWhoIsRefusedForTheTroubleOfOthersFails(t *testing.T) {
	t.Parallel()
	require.True(t, letIn("x", 99, 100, 0.99).Holds)
	require.False(t, letIn("x", 98, 100, 0.99).Holds)
	require.False(t, letIn("x", 0, 0, 0.99).Holds, "nobody asked")
}

func TestAMultipliedLoadFails(t *testing.T) {
	t.Parallel()
	require.True(t, amplified("x", 120, 100, 1.2).Holds)
	require.False(t, amplified("x", 121, 100, 1.2).Holds)
	require.False(t, amplified("x", 0, 0, 1.2).Holds, "nobody called")
}

// lookedAt is a look every 10 ms in which n calls are in flight.
func lookedAt(from time.Time, d time.Duration, n float64) []sample {
	var all []sample
	for at := from; at.Before(from.Add(d)); at = at.Add(10 * time.Millisecond) {
		all = append(all, sample{at, n})
	}
	return all
}

func TestALimitThatIsExceededOrLeftUnusedFails(t *testing.T) {
	t.Parallel()
	from := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	limit := inForce{places: 8, from: from, to: from.Add(20 * time.Second)}
	holds := func(samples ...[]sample) (bool, bool) {
		all := slices.Concat(samples...)
		kept, used := keptLimits(all, limit), usedLimits(all, limit)
		require.Len(t, kept, 1)
		require.Len(t, used, 1)
		return kept[0].Holds, used[0].Holds
	}
	later := from.Add(limitSettles)
	kept, used := holds(lookedAt(later, 10*time.Second, 8))
	require.True(t, kept && used)
	kept, _ = holds(lookedAt(later, 10*time.Second, 8), []sample{{later.Add(time.Second), 9}})
	require.False(t, kept, "one call too many is too many")
	kept, _ = holds(lookedAt(from, limitSettles, 12), lookedAt(later, 10*time.Second, 8))
	require.True(t, kept, "what was in flight before the change may end")
	_, used = holds(lookedAt(later, 10*time.Second, 7))
	require.False(t, used)
	_, used = holds(lookedAt(later, 4*time.Second, 8), lookedAt(later.Add(4*time.Second), 5*time.Second, 2))
	require.False(t, used, "most of the time")
	kept, used = holds()
	require.False(t, kept || used, "nobody looked")
	kept, _ = holds(lookedAt(limit.to, time.Second, 100), lookedAt(later, time.Second, 8))
	require.True(t, kept, "later is another limit's time")
}

func TestAReportHoldsOnlyIfEverythingWasPlayedAndHolds(t *testing.T) {
	t.Parallel()
	good, bad := atMost("good", 1, 2), atMost("bad", 3, 2)
	holds := func(outcomes ...Outcome) bool { r := Report{Outcomes: outcomes}; return r.Holds() }
	played := Outcome{Scenario: "a", Claims: []Claim{good}}
	require.True(t, holds(played))
	require.True(t, holds(played, Outcome{Scenario: "b", Skipped: "no library"}))
	require.False(t, holds(played, Outcome{Scenario: "b", Claims: []Claim{good, bad}}))
	require.False(t, holds(played, Outcome{Scenario: "b", Claims: []Claim{good}, Error: "broken off"}))
	require.False(t, holds(played, Outcome{Scenario: "b"}), "nothing was claimed")
	require.False(t, holds(), "nothing was played")
}

func TestTheTableShowsEveryVerdict(t *testing.T) {
	t.Parallel()
	r := Report{Scale: 0.5, Outcomes: []Outcome{
		{
			Scenario: "a", Variant: "v", Claims: []Claim{atMost("good", 1, 2), atMost("bad|one", 3, 2)},
			Figures: []Figure{{"seen", "7"}},
		},
		{Scenario: "b", Skipped: "no library"},
		{Scenario: "c", Error: "first\nsecond"},
	}}
	var text strings.Builder
	require.NoError(t, r.Markdown(&text))
	for _, row := range []string{
		"| a (v) | good | at most 2 | 1 | holds |", "| a (v) | bad/one | at most 2 | 3 | **FAILS** |",
		"| a (v) | seen |  | 7 |  |", "| b |  |  | no library | skipped |",
		"| c |  |  | first second | **BROKEN OFF** |", "at scale 0.5",
	} {
		require.Contains(t, text.String(), row)
	}
}

func TestPartsAreInOrderWithSomeSlack(t *testing.T) {
	t.Parallel()
	require.True(t, inOrder("", []float64{0, 0.4, 1}).Holds)
	require.True(t, inOrder("", []float64{0.51, 0.5, 0.5}).Holds)
	require.False(t, inOrder("", []float64{0.6, 0.5, 1}).Holds)
	require.False(t, inOrder("", []float64{0, 1, 0.9}).Holds)
	require.False(t, inOrder("", nil).Holds, "nothing has no order")
}
