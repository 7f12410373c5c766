package order

import (
	"context"
	"log/slog"
	"time"

	"example.com/holdfast/internal/budget"
	"example.com/holdfast/internal/fault"
)

// How long to wait before a payment is asked back again. It is never given up: the customer's money is
// with the merchant.
const (
	// reverseOftenMax is how often it is tried with the usual waits.
	reverseOftenMax = 10
	// reverseWait is the wait after that.
	reverseWait = 5 * time.Minute
)

// reverse takes the payment of a canceled order back.
func (s *Service) reverse(ctx context.Context, o Order, w work) error {
	if err := fault.At(ctx, faultBeforeReverse); err != nil {
		return err
	}
	if err := s.cfg.Payments.Reverse(ctx, w.payment(o)); err != nil {
		return s.unreversed(ctx, o, w, err)
	}
	if err := fault.At(ctx, faultAfterReverse); err != nil {
		return err
	}
	return s.move(ctx, w.move(o, askReturned))
}

func (s *Service) unreversed(ctx context.Context, o Order, w work, cause error) error {
	if stopped(cause) {
		return cause
	}
	m := w.move(o, askRetry)
	m.retryIn = reverseWait
	if o.Attempts < reverseOftenMax {
		m.retryIn = budget.Backoff(int(o.Attempts)+1, s.random)
	}
	s.cfg.Log.WarnContext(ctx, "payment did not go back", slog.String("order", o.ID.String()),
		slog.Int("attempt", int(o.Attempts)+1), slog.Duration("retry_in", m.retryIn), slog.Any("error",
			cause))
	return s.move(ctx, m)
}

// returned is the order whose payment is on its way back, or never was with the merchant.
func (o Order) returned(now time.Time) Order {
	o.PaymentState, o.WakeAt, o.UpdatedAt, o.Failures = PaymentReversed, time.Time{}, now, 0
	return o
}

// heardReversal is the order after the end of a way back: if it failed, the next one is tried, under
// another number.
func heardReversal(o Order, settled bool, now time.Time) Order {
	if o.State == Canceled && o.PaymentState == PaymentReversed && !settled {
		o.PaymentState, o.WakeAt, o.UpdatedAt = PaymentReversing, now, now
		o.Attempts++
	}
	return o
}
