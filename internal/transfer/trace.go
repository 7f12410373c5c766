package transfer

import (
	"context"

	"example.com/holdfast/internal/jobqueue"
)

// traced does one step within its span.
func (w *cohortWorker[Job]) traced(ctx context.Context, t Transfer, known work) error {
	ctx, span := jobqueue.Step(ctx, t.ID)
	err := w.one(ctx, t, known)
	span.End(err)
	return err
}
