package simdep

import (
	"context"
	"errors"
	"math"
	"net/http"
	"time"

	"example.com/holdfast/internal/bulkhead"
)

// maxHold bounds how long a call waits for its turn, or is held when its fate is to hang.
const maxHold = 5 * time.Minute

// way is how one call goes through the server.
type way struct {
	work <-chan struct{} // cuts the latency short when it is closed
	draw draw

	// A question changes nothing: its fate is not counted, and no reply is lost after its success.
	question bool
}

// serve lets the call wait for its turn and meet its fate, and does what it is for if that lets it. The
// place is kept until the work is done, by a call that hangs until its caller leaves.
func (s *Server) serve(ctx context.Context, w way, do func() reply) reply {
	result := s.inPlace(ctx, w, do)
	succeeded := result.fate == answered && result.status < http.StatusBadRequest
	if w.draw.fate != replyLost || w.question || !succeeded {
		return result
	}
	s.journal.met(replyLost)
	result.fate = replyLost
	return hold(ctx.Done(), result)
}

func (s *Server) inPlace(ctx context.Context, w way, do func() reply) reply {
	leave, err := s.takePlace(ctx)
	if errors.Is(err, bulkhead.ErrFull) {
		return refuse(http.StatusServiceUnavailable, err.Error())
	}
	if err != nil {
		return reply{fate: hung} // it left before its turn
	}
	defer leave()
	wait(w.work, w.draw.latency)
	if !w.question && w.draw.fate != replyLost { // that one is met after success
		s.journal.met(w.draw.fate)
	}
	switch w.draw.fate {
	case failed:
		return refuse(http.StatusInternalServerError, "failed by knob")
	case hung:
		return hold(ctx.Done(), reply{fate: hung})
	case wasReset:
		return reply{fate: wasReset}
	case answered, replyLost:
	}
	return do()
}

// takePlace waits for one of the places of the capacity, first come first served. A caller who leaves
// loses its turn; one who need not wait is served even if it has left.
func (s *Server) takePlace(ctx context.Context) (func(), error) {
	place, err := s.places.Acquire(context.WithoutCancel(ctx), 0, bulkhead.LaneFirst)
	if err != nil {
		place, err = s.places.Acquire(ctx, maxHold, bulkhead.LaneFirst)
	}
	return place.Release, err
}

// newPlaces makes the queue in front of the dependency; the waits that its clock would measure are
// nobody's.
func newPlaces(knobs Knobs) *bulkhead.Bulkhead {
	return bulkhead.New("capacity", knobs.places(), func() time.Time { return time.Time{} })
}

// places is the capacity as a number of places.
func (k Knobs) places() int {
	if k.Capacity == 0 {
		return math.MaxInt
	}
	return k.Capacity
}

// wait lets the time pass and reports true, or false as soon as ended is closed.
func wait(ended <-chan struct{}, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ended:
		return false
	}
}

// hold keeps the caller waiting until it leaves.
func hold(left <-chan struct{}, result reply) reply {
	wait(left, maxHold)
	return result
}
