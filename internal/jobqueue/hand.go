package jobqueue

import (
	"sync"
	"time"
)

// lostAfter is how long a job may count as running of a process that does not have it in hand. A fetch whose
// reply was lost left it behind, or an end that could not be recorded.
const lostAfter = 5 * time.Second

// Hand is which jobs a process has: those that it works, and those that it ended less than lostAfter ago,
// whose end may still be on its way to their rows. Make it with NewHand; it may be used from anywhere.
type Hand struct {
	now func() time.Time

	mu sync.Mutex
	// jobs are by id, with when they ended; zero while they are worked.
	jobs map[int64]time.Time
}

// NewHand makes a hand that has nothing.
func NewHand(now func() time.Time) *Hand { return &Hand{now: now, jobs: map[int64]time.Time{}} }

// begin takes a job, and returns what puts it down. A hand that is nil does nothing.
func (h *Hand) begin(id int64) func() {
	if h == nil {
		return func() {}
	}
	h.set(id, time.Time{})
	return func() { h.set(id, h.now()) }
}

func (h *Hand) set(id int64, ended time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.jobs[id] = ended
}

// held lists the jobs in hand, in no order, and forgets the others. Of a hand that is nil nobody knows: nil.
func (h *Hand) held() []int64 {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	ids, now := make([]int64, 0, len(h.jobs)), h.now()
	for id, ended := range h.jobs {
		if !ended.IsZero() && now.Sub(ended) > lostAfter {
			delete(h.jobs, id)
			continue
		}
		ids = append(ids, id)
	}
	return ids
}
