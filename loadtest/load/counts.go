package load

import (
	"sync"
	"time"

	"example.com/holdfast/loadtest/rig"
)

// slicesMax is into how many slices of time a load is cut for its plots; none is shorter than sliceMin.
const (
	slicesMax = 120
	sliceMin  = time.Second
)

// outcome is how an answer is to be counted: how late it came, and whether it is the one that was asked for.
type outcome struct {
	took time.Duration
	good bool
}

// tally is what came of some requests.
type tally struct {
	sent, good, refused, wrong, failed uint64
	took                               rig.Histogram // of the good ones
	refusal                            rig.Histogram
	// codes are those of refusals, others are the answers that no load should get.
	codes, others map[string]uint64
	// told counts refusals that say how long to wait, and told* what they say.
	told             uint64
	toldMin, toldMax time.Duration
	toldSum          time.Duration
}

func newTally() *tally { return &tally{codes: map[string]uint64{}, others: map[string]uint64{}} }

func (t *tally) count(a answer, o outcome) {
	t.sent++
	switch {
	case o.good:
		t.good++
		t.took.Add(o.took)
	case a.err != nil:
		t.failed++
	case a.passing():
		t.refused++
		t.refusal.Add(o.took)
		t.codes[a.code]++
		t.tell(a.retryAfter)
	default:
		t.wrong++
		t.others[describe(a)]++
	}
}

func (t *tally) tell(d time.Duration) {
	if d < 0 {
		return
	}
	if t.told == 0 || d < t.toldMin {
		t.toldMin = d
	}
	t.told++
	t.toldMax = max(t.toldMax, d)
	t.toldSum += d
}

func (t *tally) merge(other *tally) {
	if other.told > 0 && (t.told == 0 || other.toldMin < t.toldMin) {
		t.toldMin = other.toldMin
	}
	t.sent += other.sent
	t.good += other.good
	t.refused += other.refused
	t.wrong += other.wrong
	t.failed += other.failed
	t.told += other.told
	t.toldSum += other.toldSum
	t.toldMax = max(t.toldMax, other.toldMax)
	t.took.Merge(&other.took)
	t.refusal.Merge(&other.refusal)
	for code, n := range other.codes {
		t.codes[code] += n
	}
	for what, n := range other.others {
		t.others[what] += n
	}
}

// group is what one tally is of.
type group struct {
	class string
	kind  Kind
	stage int
}

// slice is what was due in a short time.
type slice struct {
	offered, good, refused, completed uint64
	took, ended                       rig.Histogram
}

// counts is everything that is counted while a load runs.
type counts struct {
	mu      sync.Mutex
	tallies map[group]*tally
	slices  []slice
	width   time.Duration
	// late is how long after their time requests were sent, and drained how long the drain took.
	late    rig.Histogram
	drained time.Duration
}

func newCounts(d time.Duration) *counts {
	width := max(sliceMin, (d+slicesMax-1)/slicesMax)
	return &counts{tallies: map[group]*tally{}, slices: make([]slice, (d+width-1)/width), width: width}
}

func (c *counts) slice(due time.Duration) *slice {
	return &c.slices[min(int(due/c.width), len(c.slices)-1)]
}

// offer counts a request that is due now, and how late it is sent.
func (c *counts) offer(a arrival, late time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.late.Add(late)
	c.slice(a.due).offered++
}

// answer counts what came back to a request.
func (c *counts) answer(a arrival, class string, got answer, o outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := group{class, a.kind, a.stage}
	if c.tallies[g] == nil {
		c.tallies[g] = newTally()
	}
	c.tallies[g].count(got, o)
	s := c.slice(a.due)
	switch {
	case o.good:
		s.good++
		s.took.Add(o.took)
	case got.err == nil && got.passing():
		s.refused++
	}
}

// sum adds up the tallies of some groups.
func (c *counts) sum(of func(group) bool) *tally {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := newTally()
	for g, t := range c.tallies {
		if of(g) {
			all.merge(t)
		}
	}
	return all
}
