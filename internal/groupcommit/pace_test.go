package groupcommit

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheWaitIsWhatIsLeftOfAFlightAndTheBatchesAhead(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000, 0)
	const none = -1 // a flight that is not out
	for _, c := range []struct {
		name  string
		usual int   // ms
		gone  []int // ms, of each flight
		ahead int
		want  int // ms
	}{
		{"nothing is known yet", 0, []int{none}, 0, 0},
		{"no flight is out", 10, []int{none}, 0, 0},
		{"a flight has just begun", 10, []int{0}, 0, 10},
		{"a flight is half way", 10, []int{5}, 0, 5},
		{"a flight ends now", 10, []int{10}, 0, 0},
		{"a flight is late", 10, []int{30}, 0, 20},
		{"a flight has stalled", 10, []int{10_000}, 0, 9_990},
		{"the first flight of all stalls", 0, []int{400}, 3, 400},
		{"batches wait", 10, []int{4}, 7, 76},
		{"batches wait, and it is late", 10, []int{50}, 2, 60},
		{"one of two flights is not out", 10, []int{3, none}, 0, 0},
		{"the flight that ends first counts", 10, []int{3, 8}, 0, 2},
		{"one of two flights has stalled", 10, []int{9_000, 6}, 0, 4},
		{"two flights take turns", 10, []int{5, 0}, 4, 25},
	} {
		begun := make([]time.Time, len(c.gone))
		for i, gone := range c.gone {
			if gone != none {
				begun[i] = now.Add(-time.Duration(gone) * time.Millisecond)
			}
		}
		got := forecast(now, time.Duration(c.usual)*time.Millisecond, begun, c.ahead)
		require.Equal(t, time.Duration(c.want)*time.Millisecond, got, c.name)
	}
}

func TestAFlightThatStalledSaysNothingOfTheNext(t *testing.T) {
	t.Parallel()
	p := pace{begun: make([]time.Time, 1)}
	now := time.Unix(1_000, 0)
	flight := func(took time.Duration) {
		p.begin(0, now)
		now = now.Add(took)
		p.end(0, now)
	}
	for _, c := range []struct{ took, begins, ends time.Duration }{
		{10 * time.Millisecond, 0, 0}, // the one before is not known, so nobody is refused for it
		{12 * time.Millisecond, 20 * time.Millisecond, 30 * time.Millisecond},
		{10 * time.Second, 24 * time.Millisecond, 36 * time.Millisecond},
		{11 * time.Millisecond, 22 * time.Millisecond, 33 * time.Millisecond},
		{20 * time.Millisecond, 22 * time.Millisecond, 33 * time.Millisecond},
		{21 * time.Millisecond, 40 * time.Millisecond, 60 * time.Millisecond}, // slower from now on
	} {
		flight(c.took)
		begins, ends := p.forecast(now, 2)
		require.Equal(t, []time.Duration{c.begins, c.ends}, []time.Duration{begins, ends}, c.took)
	}
}
