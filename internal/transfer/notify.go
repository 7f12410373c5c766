package transfer

import (
	"context"
	"log/slog"
	"time"

	"example.com/holdfast/internal/budget"
	"example.com/holdfast/internal/fault"
	"example.com/holdfast/internal/outbound"
	"example.com/holdfast/internal/outbound/notify"
)

// notify tells how a transfer ended, until that is told or notifyWindow is over.
func (s *Service) notify(ctx context.Context, t Transfer, w work) error {
	if err := fault.At(ctx, faultBeforeNotify); err != nil {
		return err
	}
	n, err := s.tell(ctx, t, w)
	if err != nil {
		return err
	}
	if err := fault.At(ctx, faultAfterNotify); err != nil {
		return err
	}
	return s.note(ctx, n)
}

// tell sends the notification and says what to note. What nobody took within notifyWindow has failed. What
// nobody has tried in it was deferred, and gets a try however late it is.
func (s *Service) tell(ctx context.Context, t Transfer, w work) (note, error) {
	left := w.left(t.UpdatedAt.Add(notifyWindow))
	if left <= 0 && t.Attempts == 0 {
		left = notifyLate
	}
	if left <= 0 {
		return told(t, NotificationFailed), nil
	}
	err := s.send(ctx, t, w, left)
	switch {
	case err == nil:
		return told(t, NotificationSent), nil
	case noRoom(err):
		return note{}, err
	}
	wait, need := s.retryIn(t.Attempts, err)
	n := again(t, stepNotify, wait, err)
	if !budget.Fits(left, wait+need) {
		n.after.Notification = NotificationFailed
	}
	s.cfg.Log.InfoContext(ctx, "notification gave no answer", slog.String("transfer", t.ID.String()),
		slog.Int("attempt", int(t.Attempts)+1), slog.String("result", n.after.Notification),
		slog.Any("error", err))
	return n, nil
}

func (s *Service) send(ctx context.Context, t Transfer, w work, left time.Duration) error {
	ctx, cancel := context.WithTimeout(outbound.As(ctx, w.caller(t)), left)
	defer cancel()
	key := t.ID.String() + "/notify"
	if w.asked(t) {
		if sent, err := s.cfg.Notify.Sent(ctx, key); sent || err != nil {
			return err
		}
	}
	return s.cfg.Notify.Send(ctx, notify.Message{
		EffectKey: key, TransferID: t.ID.String(), TenantID: t.TenantID.String(),
		Event: "transfer." + string(t.State), State: string(t.State), Reason: t.Reason,
	})
}
