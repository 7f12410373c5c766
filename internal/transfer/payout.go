package transfer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/holdfast/internal/fault"
	"example.com/holdfast/internal/outbound"
	"example.com/holdfast/internal/outbound/payout"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/tracing"
	"example.com/holdfast/internal/transfer/internal/transferdb"
)

// A reference of a payout is sent once. When nobody knows what became of it, the rail is asked; when the rail
// does not know it, it is withdrawn: from then on the rail never pays under it, also if the lost submission
// still arrives. Only then the payout gets another reference. So a payout is paid once even by a rail that
// ignores keys, and by a worker that slept.

// payoutTriesMax bounds the references of one payout.
const payoutTriesMax = 3

// payout takes a settling transfer through the rail and commits what the rail says.
func (s *Service) payout(ctx context.Context, t Transfer, w work) error {
	if err := fault.At(ctx, faultBeforePayout); err != nil {
		return err
	}
	late, first := w.left(t.PromiseAt) <= 0, !w.asked(t)
	if late && first {
		return s.move(ctx, w.fail(t, ReasonDeadline))
	}
	receipt, err := s.askRail(ctx, &t, w, late)
	switch {
	case errors.Is(err, errClaimed):
		return nil // somebody else has this payout in hand
	case err != nil:
		return s.unpaid(ctx, t, w, first, err)
	}
	if err := fault.At(ctx, faultAfterPayout); err != nil {
		return err
	}
	return s.heard(ctx, t, w, receipt)
}

// payoutReference is the reference that is in use.
func payoutReference(t Transfer) string { return fmt.Sprintf("%s/payout/%d", t.ID, t.PayoutTry) }

// tryOf says which of the references of a payout this is.
func tryOf(ref Ref, reference string) (int16, bool) {
	for try := int16(1); try <= payoutTriesMax; try++ {
		if payoutReference(Transfer{Ref: ref, PayoutTry: try}) == reference {
			return try, true
		}
	}
	return 0, false
}

var errClaimed = errors.New("another worker has claimed the reference")

// claim writes down that the reference in use is about to be sent. Only one worker gets it, so a reference is
// sent once; one that dies after it leaves a reference to ask about.
func (s *Service) claim(ctx context.Context, t *Transfer) error {
	n := waiting(*t, 0)
	n.claim = true
	n.after.Sent++
	reached, err := s.noted(ctx, n)
	switch {
	case err != nil:
		return err
	case !reached:
		return errClaimed
	}
	*t = n.after
	return nil
}

// askRail submits what was never sent, and asks about the rest. What the rail does not know, and what it has
// not paid when the promise ends, is withdrawn.
func (s *Service) askRail(ctx context.Context, t *Transfer, w work, late bool) (payout.Receipt, error) {
	ctx, cancel := context.WithTimeout(ctx, railWindow)
	defer cancel()
	who := w.caller(*t)
	who.Repeat = who.Repeat && t.RailReference == "" // to ask on about what the rail has is no retry
	reference := payoutReference(*t)
	if w.asked(*t) {
		ctx = outbound.As(ctx, who)
		receipt, known, err := s.cfg.Rail.Find(ctx, reference)
		if err != nil || known && (receipt.Status != payout.StatusPending || !late) {
			return receipt, err
		}
		return s.cfg.Rail.Withdraw(ctx, reference)
	}
	who.Before = func(ctx context.Context) error { return s.claim(ctx, t) }
	return s.cfg.Rail.Submit(outbound.As(ctx, who), payout.Request{
		Reference: reference, TransferID: t.ID.String(), TenantID: t.TenantID.String(),
		From: t.FromAccount.String(), To: t.ToAccount.String(),
		AmountValue: t.Amount.Value, Currency: t.Amount.Currency,
	})
}

// railWindow bounds the calls of one look at the rail; the promise does not, since what was submitted has to
// be asked about after it too.
const railWindow = 10 * time.Second

// heard commits what the rail says of a reference.
func (s *Service) heard(ctx context.Context, t Transfer, w work, r payout.Receipt) error {
	switch r.Status {
	case payout.StatusPaid:
		return s.move(ctx, move{
			seen: t, events: []Event{Settle}, railReference: railReference(t, r),
			actor: w.actor, cause: w.cause,
		})
	case payout.StatusRefused:
		s.cfg.Log.InfoContext(ctx, "payout refused", slog.String("transfer", t.ID.String()),
			slog.String("reason", clean(r.Reason)))
		m := w.fail(t, ReasonPayoutRefused)
		m.railReference = clean(r.RailReference)
		return s.move(ctx, m)
	case payout.StatusPending:
		wait, _ := s.retryIn(t.Attempts, nil)
		n := waiting(t, wait)
		n.after.Sent, n.after.RailReference = max(t.Sent, 1), railReference(t, r)
		return s.note(ctx, n)
	case payout.StatusWithdrawn:
		return s.withdrawn(ctx, t, w)
	}
	return fmt.Errorf("payout of transfer %s: rail says %q", t.ID, r.Status)
}

// railReference is the rail's name for a payment, or ours where it gives none.
func railReference(t Transfer, r payout.Receipt) string {
	if name := clean(r.RailReference); name != "" {
		return name
	}
	return payoutReference(t)
}

// withdrawn gives a payout whose reference will never be paid the next one, or ends it.
func (s *Service) withdrawn(ctx context.Context, t Transfer, w work) error {
	switch {
	case w.left(t.PromiseAt) <= 0:
		return s.move(ctx, w.fail(t, ReasonDeadline))
	case t.PayoutTry >= payoutTriesMax:
		return s.move(ctx, w.fail(t, ReasonAttempts))
	}
	wait, _ := s.retryIn(t.Attempts, nil)
	n := waiting(t, wait)
	n.after.Sent, n.after.PayoutTry = 0, t.PayoutTry+1
	return s.note(ctx, n)
}

// unpaid handles a call without an answer. A refusal of the request itself ends the payout, if it is the
// first word about it; anything else is asked about later, also after the promise: the money may have left.
func (s *Service) unpaid(ctx context.Context, t Transfer, w work, first bool, cause error) error {
	if noRoom(cause) {
		return cause
	}
	failure, ok := errors.AsType[*outbound.Error](cause)
	if ok && first && failure.Refused() {
		return s.move(ctx, w.fail(t, ReasonPayoutRefused))
	}
	wait, _ := s.retryIn(t.Attempts, cause)
	s.cfg.Log.InfoContext(ctx, "payout gave no answer", slog.String("transfer", t.ID.String()),
		slog.Int("attempt", int(t.Attempts)+1), slog.Duration("retry_in", wait), slog.Any("error", cause))
	n := again(t, stepPayout, wait, cause)
	switch {
	case first && ok && !failure.Sent:
		n.after.Sent = 0 // claimed, and certainly not sent
	case first:
		n.after.Sent = t.Sent // the claim has counted it
	}
	return s.note(ctx, n)
}

// Wake lets a settling transfer be looked at now, because the rail has called back about the reference in
// use. What the rail said there is not taken for true: the worker asks. A word about any other reference
// changes nothing: it does not say that this one was sent.
func (s *Service) Wake(ctx context.Context, ref Ref, reference string) error {
	about, ok := tryOf(ref, reference)
	if !ok {
		return nil
	}
	trace := tracing.Parent(ctx)
	err := pgtx.Run(ctx, s.pool, "wake payout", func(ctx context.Context, tx pgx.Tx) error {
		rows, err := transferdb.New().WakeSettling(ctx, tx, transferdb.WakeSettlingParams{
			TenantID: ref.TenantID, ID: ref.ID, PayoutTry: about,
		})
		if err != nil || len(rows) == 0 {
			return err
		}
		transfers := fromRows(rows)
		for i := range transfers {
			transfers[i].trace = trace
		}
		var write pgx.Batch
		if err := enqueue(&write, transfers); err != nil {
			return err
		}
		return tx.SendBatch(ctx, &write).Close()
	})
	if err != nil {
		return fmt.Errorf("wake payout of transfer %s: %w", ref.ID, err)
	}
	return nil
}
