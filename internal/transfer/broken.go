package transfer

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"example.com/holdfast/internal/tracing"
)

// brokenMax is how often a step may break in our own code before the transfer is given up as poison; the
// index of dead letters names the same number.
const brokenMax = 5

// passingMax is how often a step may be kept from its end by what is of the moment. What is so for longer is
// no moment any more, and counts as a break.
const passingMax = 50

// heldUpBy says that a step failed for what is of the moment, and not for too long yet. What is tried for
// hours anyway, a payout that the rail has or a notification, has many attempts that were nobody's fault.
func (t Transfer) heldUpBy(err error) bool {
	patient := t.State == Settling || t.State.Terminal()
	return passing(err) && (patient || t.Attempts < passingMax)
}

// parkedFor is when a transfer is looked at again that is poison and cannot end: the rail has it, and has to
// answer first, or its end breaks too.
const parkedFor = time.Hour

// one processes one transfer; neither its error nor its panic reaches its neighbours. What breaks again and
// again is given up; what was only in the way of others, or of the database, is tried again.
func (w *cohortWorker[Job]) one(ctx context.Context, t Transfer, known work) error {
	s := w.service
	cause := w.caught(ctx, t, known)
	if cause == nil || stopped(cause) || noRoom(cause) {
		return cause
	}
	tracing.Fail(ctx, cause)
	var err error
	if t.heldUpBy(cause) {
		err = s.heldUp(ctx, t, cause)
	} else {
		s.cfg.Log.ErrorContext(ctx, "transfer step failed", slog.String("transfer", t.ID.String()),
			slog.Int("failures", int(t.Failures)+1), slog.Any("error", cause))
		s.cfg.Metrics.StepFailed()
		err = s.broke(ctx, t, known, cause)
	}
	if stopped(err) {
		return err
	}
	if err != nil { // then the sweeper finds it
		s.cfg.Log.WarnContext(ctx, "failure of transfer step not noted",
			slog.String("transfer", t.ID.String()), slog.Any("error", err))
	}
	return nil
}

// caught does the step and turns its panic into an error.
func (w *cohortWorker[Job]) caught(ctx context.Context, t Transfer, known work) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
			w.service.cfg.Log.ErrorContext(ctx, "transfer step panicked",
				slog.String("transfer", t.ID.String()), slog.String("stack", string(debug.Stack())))
		}
	}()
	err = w.step(ctx, t, known)
	if err != nil && ctx.Err() != nil && !stopped(err) {
		return fmt.Errorf("%w: %w", context.Canceled, err) // a stop cuts statements off, by whatever error
	}
	return err
}

// heldUp notes that a step could not be written down for now. That is not the transfer's fault.
func (s *Service) heldUp(ctx context.Context, t Transfer, cause error) error {
	wait, _ := s.retryIn(t.Attempts, nil)
	s.cfg.Log.InfoContext(ctx, "transfer step was held up", slog.String("transfer", t.ID.String()),
		slog.Int("attempt", int(t.Attempts)+1), slog.Duration("retry_in", wait), slog.Any("error", cause))
	_, err := s.noted(ctx, again(t, stepOf(t), wait, cause))
	return err
}

// broke notes that a step broke in our own code, and ends what does so again and again.
func (s *Service) broke(ctx context.Context, t Transfer, w work, cause error) error {
	wait, _ := s.retryIn(t.Failures, nil)
	n := again(t, stepOf(t), wait, cause)
	n.after.Failures++
	switch {
	case n.after.Failures < brokenMax:
	case t.State == Settling:
		n.retryIn = parkedFor
	case t.State.Terminal():
		n.after.Notification = NotificationFailed
	default:
		err := s.move(ctx, w.fail(t, ReasonPoison))
		if err == nil || stopped(err) {
			return err
		}
		if !t.heldUpBy(err) { // not even its end can be written down
			n.retryIn = parkedFor
		}
	}
	_, err := s.noted(ctx, n)
	return err
}

// stepOf names the step that a transfer needs, for the ledger of attempts.
func stepOf(t Transfer) string {
	kind, _ := nextStep(t)
	return strings.TrimPrefix(kind, "transfer_")
}
