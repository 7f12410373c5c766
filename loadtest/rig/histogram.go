package rig

import (
	"math/bits"
	"time"
)

// The resolution of a histogram: microseconds, and from 2^subBits on each power of two in 2^subBits
// parts, so that a quantile is at most 0.8 % too large. What is longer than about an hour counts as that: no
// promise is longer.
const (
	subBits   = 7
	valueBits = 32
	buckets   = (valueBits - subBits + 1) << subBits
)

// Histogram counts durations in log-linear buckets. It is for one goroutine; Merge adds up several.
type Histogram struct {
	counts [buckets]uint32
	n      uint64
}

// Add counts a duration.
func (h *Histogram) Add(d time.Duration) {
	h.counts[bucketOf(d)]++
	h.n++
}

// Merge adds the counts of another histogram.
func (h *Histogram) Merge(other *Histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.n += other.n
}

// Count is how many durations were added.
func (h *Histogram) Count() uint64 { return h.n }

// Quantile is the upper bound of the bucket in which the q-th part of all durations is reached; zero if
// there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := max(1, uint64(q*float64(h.n)+0.5))
	var seen uint64
	for i, n := range h.counts {
		if seen += uint64(n); n > 0 && seen >= rank {
			return upperBound(i)
		}
	}
	return 0
}

func bucketOf(d time.Duration) int {
	v := uint64(max(0, d.Microseconds()))
	v = min(v, 1<<valueBits-1)
	shift := max(0, bits.Len64(v)-subBits-1)
	return shift<<subBits + int(v>>shift) //nolint:gosec // v is small
}

// upperBound is the largest duration that falls into a bucket.
func upperBound(bucket int) time.Duration {
	shift, part := 0, bucket
	if bucket >= 2<<subBits {
		shift = bucket>>subBits - 1
		part = bucket - shift<<subBits
	}
	return time.Duration((part+1)<<shift-1) * time.Microsecond
}
