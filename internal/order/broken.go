package order

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"example.com/holdfast/internal/budget"
)

const (
	// brokenMax is how often a step may break in our own code before the order is given up as poison; the
	// index of dead letters names the same number.
	brokenMax = 5
	// parkedFor is when an order is looked at again that is poison and cannot end: its payment has to go
	// back, or its end breaks too.
	parkedFor = time.Hour
)

// caught does a step and turns its panic into an error.
func (s *Service) caught(ctx context.Context, step func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
			s.cfg.Log.ErrorContext(ctx, "order step panicked", slog.Any("panic", r),
				slog.String("stack", string(debug.Stack())))
		}
	}()
	return step()
}

// heldUp notes that a step could not be written down for now. That is not the order's fault.
func (s *Service) heldUp(ctx context.Context, o Order, w work, cause error) error {
	m := w.move(o, askRetry)
	m.retryIn = budget.Backoff(int(o.Attempts)+1, s.random)
	s.cfg.Log.InfoContext(ctx, "order step was held up", slog.String("order", o.ID.String()),
		slog.Int("attempt", int(o.Attempts)+1), slog.Duration("retry_in", m.retryIn),
		slog.Any("error", cause))
	return s.move(ctx, m)
}

// broke notes that a step broke in our own code, and ends what does so again and again.
func (s *Service) broke(ctx context.Context, o Order, w work) error {
	m := w.move(o, askRetry)
	m.broke, m.retryIn = true, budget.Backoff(int(o.Failures)+1, s.random)
	switch {
	case o.Failures+1 < brokenMax:
	case o.State.Terminal():
		m.retryIn = parkedFor
	default:
		err := s.move(ctx, w.cancel(o, ReasonPoison))
		if err == nil || stopped(err) {
			return err
		}
		if !ofTheMoment(err, o.Attempts) { // not even its end can be written down
			m.retryIn = parkedFor
		}
	}
	return s.move(ctx, m)
}
