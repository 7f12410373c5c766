package outbound

import (
	"slices"
	"time"
)

const (
	// latencySamples is how many successful attempts are remembered.
	latencySamples = 128

	// latencyStale is how many attempts the quantile may be behind: sorting is left to those who ask.
	latencyStale = 8

	latencyPercent = 95
)

// latency remembers how long successful attempts took. The caller guards it.
type latency struct {
	ring  [latencySamples]time.Duration
	total int // attempts ever added
	known int // total when p95 was computed
	cache time.Duration
}

func (l *latency) add(took time.Duration) {
	l.ring[l.total%latencySamples] = took
	l.total++
}

// p95 is what 95 % of the recent successful attempts stayed below; 0 before the first.
func (l *latency) p95() time.Duration {
	if l.total == l.known || (l.known >= latencyStale && l.total-l.known < latencyStale) {
		return l.cache
	}
	recent := l.ring // a copy: the order of the ring is kept
	n := min(l.total, latencySamples)
	slices.Sort(recent[:n])
	const percent = 100
	l.cache, l.known = recent[(n*latencyPercent-1)/percent], l.total
	return l.cache
}
