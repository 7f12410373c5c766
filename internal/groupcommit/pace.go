package groupcommit

import (
	"sync"
	"time"
)

// pace is what a combiner knows of its flights: since when those are out that are out, and how long the last
// ones took.
type pace struct {
	mu sync.Mutex
	// begun is when each flight began; one that is not out has none.
	begun []time.Time
	// took is how long the last two flights took that ended.
	took [2]time.Duration
}

func (p *pace) begin(flight int, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun[flight] = now
}

func (p *pace) end(flight int, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.took[1], p.took[0] = p.took[0], now.Sub(p.begun[flight])
	p.begun[flight] = time.Time{}
}

// forecast is when the flight begins and when it ends of an item that comes now behind so many full batches.
func (p *pace) forecast(now time.Time, ahead int) (time.Duration, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	usual := min(p.took[0], p.took[1])
	begins := forecast(now, usual, p.begun, ahead)
	return begins, begins + usual
}

// forecast is how long an item that comes now waits until its flight begins, where a flight usually takes so
// long. One that is out has left what the usual one takes longer; one that is late is taken to go on for as
// long as it is late already. The batches ahead follow, side by side on all flights.
//
// The usual flight is the shorter one of the last two: one that stalled says nothing of the next, and must
// not refuse what comes when all is well again.
func forecast(now time.Time, usual time.Duration, begun []time.Time, ahead int) time.Duration {
	var first time.Duration
	for i, at := range begun {
		left := time.Duration(0)
		if !at.IsZero() {
			left = (usual - now.Sub(at)).Abs()
		}
		if i == 0 || left < first {
			first = left
		}
	}
	return first + time.Duration(ahead)*usual/time.Duration(len(begun))
}
