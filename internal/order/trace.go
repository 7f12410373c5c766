package order

import (
	"context"

	"example.com/holdfast/internal/jobqueue"
	"example.com/holdfast/internal/outbox"
)

// traced does one step within its span.
func (w *cohortWorker[Job]) traced(ctx context.Context, o Order, known work) error {
	ctx, span := jobqueue.Step(ctx, o.ID)
	err := w.one(ctx, o, known)
	span.End(err)
	return err
}

// traced tells one event within its span.
func (w *paymentWorker) traced(ctx context.Context, d outbox.Delivery, known work) error {
	ctx, span := jobqueue.Step(ctx, d.AggregateID)
	err := w.service.caught(ctx, func() error { return w.service.listen(ctx, d, known) })
	span.End(err)
	return err
}
