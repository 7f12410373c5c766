// Package fairshare sorts the work of many owners into lanes, so that one who brings very much waits behind
// those who bring little.
//
// It looks at what each brought lately, and compares one with the mean of the others: who brings about as
// much as they, or very little, is in the first lane. It refuses nothing and delays nothing by itself: a lane
// only says whose work goes first where work waits. It never reads a clock.
//
// Invariant: who brings no more than the others' mean is in the first lane, whatever anybody does.
package fairshare

import (
	"math"
	"sync"
	"time"
)

// The lanes. The work of a lane goes before that of those behind it; the last of a queue's four is for work
// that nobody waits for.
const (
	First  = 1
	Second = 2
	Third  = 3
)

const (
	// halfLife is the time in which what was brought counts half.
	halfLife = 2 * time.Second
	// littleItems is what everybody may have brought lately without being compared, and the least mean that
	// others are compared with: about ten items a second all the time.
	littleItems = 30
	// secondAbove and thirdAbove are how many times the others' mean lets one fall back.
	secondAbove = 2
	thirdAbove  = 8
	// forgetBelow is the rest at which an owner is forgotten, and ownersMax bounds those who are remembered:
	// whoever comes beyond it is in the first lane, uncounted.
	forgetBelow = 0.05
	ownersMax   = 10_000
	// grain is how often what was brought is aged: within it nothing changes that a lane would show.
	grain = 100 * time.Millisecond
)

// Lanes remembers who brought how much. Make it with New; it may be used from anywhere.
type Lanes[Owner comparable] struct {
	mu     sync.Mutex
	owners map[Owner]float64 // brought, as of at
	total  float64
	at     time.Time
}

// New makes lanes that know nobody.
func New[Owner comparable]() *Lanes[Owner] { return &Lanes[Owner]{owners: map[Owner]float64{}} }

// Bring counts items of an owner and says in which lane they go.
func (l *Lanes[Owner]) Bring(owner Owner, items int, now time.Time) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.age(now)
	if _, known := l.owners[owner]; !known && len(l.owners) >= ownersMax {
		return First
	}
	l.owners[owner] += float64(items)
	l.total += float64(items)
	return l.compare(owner)
}

// Lane says in which lane an owner is.
func (l *Lanes[Owner]) Lane(owner Owner, now time.Time) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.age(now)
	return l.compare(owner)
}

func (l *Lanes[Owner]) compare(owner Owner) int {
	mine, others := l.owners[owner], len(l.owners)-1
	if mine <= littleItems || others < 1 {
		return First
	}
	// Many who bring next to nothing would make a flood of everybody else, and put them beside a real one.
	mean := max((l.total-mine)/float64(others), littleItems)
	switch {
	case mine > thirdAbove*mean:
		return Third
	case mine > secondAbove*mean:
		return Second
	}
	return First
}

// age lets what was brought count less. Those whose rest is small are forgotten, so that the mean is one of
// those who are there.
func (l *Lanes[Owner]) age(now time.Time) {
	if now.Sub(l.at) < grain {
		return
	}
	keep := math.Exp2(-now.Sub(l.at).Seconds() / halfLife.Seconds())
	l.at, l.total = now, 0
	for owner, brought := range l.owners {
		brought *= keep
		if brought < forgetBelow {
			delete(l.owners, owner)
			continue
		}
		l.owners[owner] = brought
		l.total += brought
	}
}
