package order

import (
	"context"
	"fmt"
	"log/slog"

	"example.com/holdfast/internal/order/internal/orderdb"
	"example.com/holdfast/internal/outbox"
)

// untold is an event that an order could not be told of.
func (s *Service) untold(ctx context.Context, d outbox.Delivery, cause error) outbox.Failure {
	f := outbox.Failure{Delivery: d, Broke: !ofTheMoment(cause, d.Attempts)}
	level := slog.LevelInfo
	if f.Broke {
		level = slog.LevelError
		s.cfg.Metrics.OrderStepFailed()
	}
	s.cfg.Log.Log(ctx, level, "event of payment not told", slog.String("transfer", d.AggregateID.String()),
		slog.String("reference", d.Reference), slog.Bool("broke", f.Broke), slog.Any("error", cause))
	return f
}

// tellAgain sets the next time of events that could not be told, also while the process stops.
func (s *Service) tellAgain(ctx context.Context, failed []outbox.Failure) {
	if len(failed) == 0 {
		return
	}
	ctx, cancel := recording(ctx)
	defer cancel()
	if err := Subscription().Retry(ctx, s.pool, failed, s.random); err != nil { // then the sweeper finds them
		s.cfg.Log.WarnContext(ctx, "next time of events not noted", slog.Any("error", err))
	}
}

// DeadLetters reads the orders of all tenants that were given up, the latest first: those that ended as
// poison, and those that are poison and cannot end.
func (s *Service) DeadLetters(ctx context.Context, limit int) ([]Order, error) {
	rows, err := orderdb.New().SystemDeadLetters(ctx, s.pool, pageSize(limit))
	if err != nil {
		return nil, fmt.Errorf("list dead orders: %w", err)
	}
	return s.withLines(ctx, fromRows(rows))
}
