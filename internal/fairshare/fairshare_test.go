package fairshare_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"example.com/holdfast/internal/fairshare"
)

// bringFor lets owners bring at their rates, in items a second, for a while, and returns when it ends.
func bringFor(l *fairshare.Lanes[string], from time.Time, d time.Duration, rates map[string]int) time.Time {
	const step = 100 * time.Millisecond
	now := from
	for ; now.Before(from.Add(d)); now = now.Add(step) {
		for owner, rate := range rates {
			l.Bring(owner, rate/10, now)
		}
	}
	return now
}

func TestWhoBringsMoreThanTheOthersWaitsBehindThem(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		rates map[string]int
		want  map[string]int
	}{
		{"alone", map[string]int{"a": 5_000}, map[string]int{"a": fairshare.First}},
		{"even", map[string]int{"a": 500, "b": 500, "c": 500}, map[string]int{"a": 1, "b": 1, "c": 1}},
		{
			"one of five sends fifty times as much",
			map[string]int{"a": 5_000, "b": 100, "c": 100, "d": 100, "e": 100},
			map[string]int{"a": fairshare.Third, "b": 1, "c": 1, "d": 1, "e": 1},
		},
		{"one of two", map[string]int{"a": 5_000, "b": 100}, map[string]int{"a": fairshare.Third, "b": 1}},
		{"four times", map[string]int{"a": 400, "b": 100}, map[string]int{"a": fairshare.Second, "b": 1}},
		{"little is never too much", map[string]int{"a": 10, "b": 1}, map[string]int{"a": 1, "b": 1}},
		{
			"two floods",
			map[string]int{"a": 5_000, "b": 5_000, "c": 100, "d": 100},
			map[string]int{"a": fairshare.Second, "b": fairshare.Second, "c": 1, "d": 1},
		},
	} {
		l := fairshare.New[string]()
		end := bringFor(l, time.Unix(1_000, 0), 10*time.Second, c.rates)
		for owner, want := range c.want {
			require.Equal(t, want, l.Lane(owner, end), "%s: %s", c.name, owner)
		}
	}
}

// TestManyWhoBringNextToNothingPutNobodyBesideAFlood keeps the mean from being that of a long tail, or of
// tenants that somebody made for that.
func TestManyWhoBringNextToNothingPutNobodyBesideAFlood(t *testing.T) {
	t.Parallel()
	l := fairshare.New[string]()
	rates := map[string]int{"small": 10, "medium": 40, "flood": 1_000}
	end := bringFor(l, time.Unix(1_000, 0), 10*time.Second, rates)
	for i := range 1_000 {
		l.Bring(fmt.Sprint("tail ", i), 1, end)
	}
	lanes := map[string]int{}
	for owner := range rates {
		l.Bring(owner, rates[owner]/10, end)
		lanes[owner] = l.Lane(owner, end)
	}
	want := map[string]int{"small": fairshare.First, "medium": fairshare.Second, "flood": fairshare.Third}
	require.Equal(t, want, lanes)
}

func TestAFloodIsForgottenAfterIt(t *testing.T) {
	t.Parallel()
	l := fairshare.New[string]()
	calm := map[string]int{"a": 100, "b": 100}
	now := bringFor(l, time.Unix(1_000, 0), 5*time.Second, map[string]int{"a": 5_000, "b": 100})
	require.Equal(t, fairshare.Third, l.Lane("a", now))
	now = bringFor(l, now, 20*time.Second, calm)
	require.Equal(t, fairshare.First, l.Lane("a", now))
}

func TestWhoIsGoneCountsForNobodysMean(t *testing.T) {
	t.Parallel()
	l := fairshare.New[string]()
	now := bringFor(l, time.Unix(1_000, 0), 5*time.Second, map[string]int{"a": 1_000, "b": 10})
	require.Equal(t, fairshare.Third, l.Lane("a", now))
	now = bringFor(l, now, time.Minute, map[string]int{"a": 1_000})
	require.Equal(t, fairshare.First, l.Lane("a", now), "there is nobody to wait behind")
}

func TestTheNumberOfOwnersIsBounded(t *testing.T) {
	t.Parallel()
	l := fairshare.New[int]()
	now := time.Unix(1_000, 0)
	for owner := range 20_000 {
		l.Bring(owner, 1, now)
	}
	require.Equal(t, fairshare.First, l.Bring(30_000, 1_000_000, now), "not remembered, not compared")
	require.Equal(t, fairshare.Third, l.Bring(1, 1_000_000, now))
}

func TestWhoBringsNoMoreThanTheMeanIsInTheFirstLane(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := fairshare.New[int]()
		now := time.Unix(1_000, 0)
		brought := rapid.SliceOfN(rapid.IntRange(1, 100_000), 2, 50).Draw(t, "brought")
		total := 0
		for owner, items := range brought {
			l.Bring(owner, items, now)
			total += items
		}
		for owner, items := range brought {
			lane := l.Lane(owner, now)
			if items*(len(brought)-1) <= total-items && lane != fairshare.First {
				t.Fatalf("owner %d with %d of %d is in lane %d", owner, items, total, lane)
			}
		}
	})
}
