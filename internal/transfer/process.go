package transfer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/holdfast/internal/budget"
	"example.com/holdfast/internal/fault"
	"example.com/holdfast/internal/groupcommit"
	"example.com/holdfast/internal/outbound"
	"example.com/holdfast/internal/outbound/notify"
	"example.com/holdfast/internal/outbound/risk"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/transfer/internal/transferdb"
)

// The points at which a test may crash a step.
const (
	faultBeforeScreen = "transfer.screen.before_call"
	faultAfterScreen  = "transfer.screen.after_call"
	faultAfterMove    = "transfer.move.after_commit"
	faultBeforeSettle = "transfer.settle.before_move"
	faultBeforeNotify = "transfer.notify.before_call"
	faultAfterNotify  = "transfer.notify.after_call"
	faultAfterNote    = "transfer.note.after_commit"
)

// judge turns a decision of the risk service into the events of a transfer and their reason. An
// approval settles in the same commit, since nothing external stands between the two.
func judge(d risk.Decision) ([]Event, string, error) {
	switch d.Outcome {
	case risk.OutcomeApprove:
		return []Event{Approve, Settle}, "", nil
	case risk.OutcomeReview:
		return []Event{Review}, clean(d.Reason), nil
	case risk.OutcomeBlock:
		return []Event{Block}, clean(d.Reason), nil
	}
	return nil, "", fmt.Errorf("risk service says %q", d.Outcome)
}

// clean makes a text from outside fit for a row: valid, printable and bounded.
func clean(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > reasonMaxBytes {
		text = strings.ToValidUTF8(text[:reasonMaxBytes], "")
	}
	return text
}

// worth says whether a step that failed may be tried again before the promise ends.
func worth(wait, left time.Duration) bool { return budget.Fits(left, wait) }

// screen takes an accepted transfer through the risk service and commits what it decided.
func (s *Service) screen(ctx context.Context, t Transfer, w work) error {
	if w.left(t.PromiseAt) <= 0 {
		return s.move(ctx, w.expire(t))
	}
	if err := fault.At(ctx, faultBeforeScreen); err != nil {
		return err
	}
	decision, err := s.askRisk(ctx, t, w)
	if err != nil {
		return s.undecided(ctx, t, w, err)
	}
	if err := fault.At(ctx, faultAfterScreen); err != nil {
		return err
	}
	events, reason, err := judge(decision)
	if err != nil {
		return s.undecided(ctx, t, w, err)
	}
	return s.move(ctx, move{
		seen: t, events: events, reason: reason, riskReference: clean(decision.Reference),
		actor: w.actor, cause: w.cause,
	})
}

// askRisk asks for a decision within the promise. If a call may have been sent before, the decision may
// be there already: it is looked up by our key before anything is sent again.
func (s *Service) askRisk(ctx context.Context, t Transfer, w work) (risk.Decision, error) {
	ctx, cancel := context.WithTimeout(ctx, w.left(t.PromiseAt))
	defer cancel()
	key := t.ID.String() + "/screen"
	if w.asked(t) {
		if decision, found, err := s.cfg.Risk.Find(ctx, key); found || err != nil {
			return decision, err
		}
	}
	return s.cfg.Risk.Screen(ctx, risk.Request{
		EffectKey: key, TransferID: t.ID.String(), TenantID: t.TenantID.String(),
		From: t.FromAccount.String(), To: t.ToAccount.String(),
		AmountValue: t.Amount.Value, Currency: t.Amount.Currency,
	})
}

// undecided records an attempt that gave no answer: the next one has its time, or the promise ends.
func (s *Service) undecided(ctx context.Context, t Transfer, w work, cause error) error {
	wait := s.retryIn(t.Attempts, cause)
	s.cfg.Log.InfoContext(ctx, "transfer step gave no answer", slog.String("transfer", t.ID.String()),
		slog.Int("attempt", int(t.Attempts)+1), slog.Duration("retry_in", wait), slog.Any("error", cause))
	if !worth(wait, w.left(t.PromiseAt)) {
		return s.move(ctx, w.expire(t))
	}
	return s.move(ctx, move{seen: t, retryIn: wait, actor: w.actor, cause: w.cause})
}

func (s *Service) retryIn(attempts int32, cause error) time.Duration {
	wait := budget.Backoff(int(attempts)+1, s.random)
	var failure *outbound.Error
	if errors.As(cause, &failure) && failure.RetryAfter > wait {
		wait = failure.RetryAfter
	}
	return wait
}

// settle takes an approved transfer to its postings, and ends a review that nobody decided.
func (s *Service) settle(ctx context.Context, t Transfer, w work) error {
	if err := fault.At(ctx, faultBeforeSettle); err != nil {
		return err
	}
	switch {
	case t.State == Approved:
		return s.move(ctx, move{seen: t, events: []Event{Settle}, actor: w.actor, cause: w.cause})
	case w.left(t.PromiseAt) <= 0:
		return s.move(ctx, w.expire(t))
	}
	return nil
}

// recordMax bounds the wait for the commit of what a step came to.
const recordMax = 5 * time.Second

// recording is a context for the commit of what a step came to. The call was made: a worker that stops
// still writes down what it heard, or that it heard nothing, so that the next one asks before it sends.
func recording(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), recordMax)
}

// move hands a decision to the group commit. Who comes too late reports success: it is done.
func (s *Service) move(ctx context.Context, m move) error {
	ctx, cancel := recording(ctx)
	defer cancel()
	out, err := s.moves.Do(ctx, m)
	if err == nil {
		err = out.err
	}
	if err != nil {
		s.countIllegal(err)
		return fmt.Errorf("move transfer %s: %w", m.seen.ID, err)
	}
	if out.stale {
		s.cfg.Metrics.StaleMove()
	}
	return fault.At(ctx, faultAfterMove)
}

// notify tells how a transfer ended, until that is told or notifyWindow is over.
func (s *Service) notify(ctx context.Context, t Transfer, w work) error {
	if err := fault.At(ctx, faultBeforeNotify); err != nil {
		return err
	}
	n := s.tell(ctx, t, w)
	if err := fault.At(ctx, faultAfterNotify); err != nil {
		return err
	}
	ctx, cancel := recording(ctx)
	defer cancel()
	if _, err := s.notes.Do(ctx, n); err != nil {
		return fmt.Errorf("note notification of transfer %s: %w", t.ID, err)
	}
	return fault.At(ctx, faultAfterNote)
}

// tell sends the notification and says what to note. What nobody took within notifyWindow has failed.
func (s *Service) tell(ctx context.Context, t Transfer, w work) note {
	left := w.left(t.UpdatedAt.Add(notifyWindow))
	if left <= 0 {
		return note{seen: t, result: NotificationFailed}
	}
	err := s.send(ctx, t, w, left)
	if err == nil {
		return note{seen: t, result: NotificationSent}
	}
	n := note{seen: t, result: NotificationPending, retryIn: s.retryIn(t.Attempts, err)}
	if !worth(n.retryIn, left) {
		n.result = NotificationFailed
	}
	s.cfg.Log.InfoContext(ctx, "notification gave no answer", slog.String("transfer", t.ID.String()),
		slog.Int("attempt", int(t.Attempts)+1), slog.String("result", n.result), slog.Any("error", err))
	return n
}

func (s *Service) send(ctx context.Context, t Transfer, w work, left time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, left)
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

// note is what became of the notification of an ended transfer.
type note struct {
	seen    Transfer
	result  string
	retryIn time.Duration
}

// flushNotes writes a batch of notification results in one transaction of two round trips. Only the
// notification changes, so no balance is locked; a row that another worker marked is left as it is.
func (s *Service) flushNotes(ctx context.Context, notes []note) ([]struct{}, error) {
	var p transferdb.MarkNotifiedParams
	var again []Transfer
	var now time.Time
	err := pgtx.Pipeline(ctx, s.pool, "note notifications",
		func(read *pgx.Batch) {
			pgtx.Read(read, func(r struct{ Now time.Time }) { now = r.Now }, "SELECT clock_timestamp()")
		},
		func(write *pgx.Batch) error {
			p, again = decideNotes(notes, now)
			if err := transferdb.New().MarkNotified(ctx, pgtx.Into(write), p); err != nil {
				return err
			}
			return enqueue(write, again)
		})
	return make([]struct{}, len(notes)), err
}

// decideNotes says what to write, in the order of ids so that two batches lock rows in one order, and
// which transfers need another wake-up.
func decideNotes(notes []note, now time.Time) (transferdb.MarkNotifiedParams, []Transfer) {
	var p transferdb.MarkNotifiedParams
	var again []Transfer
	ordered := slices.SortedStableFunc(slices.Values(notes), func(a, b note) int {
		return compareRefs(a.seen.Ref, b.seen.Ref)
	})
	for _, n := range ordered {
		t := n.seen
		t.WakeAt = time.Time{}
		if n.result == NotificationPending {
			t.Attempts++
			t.WakeAt = wakeIn(now, n.retryIn)
			again = append(again, t)
		}
		p.Tenants, p.Ids = append(p.Tenants, t.TenantID), append(p.Ids, t.ID)
		p.FromAttempts = append(p.FromAttempts, n.seen.Attempts)
		p.ToAttempts = append(p.ToAttempts, t.Attempts)
		p.Notifications, p.WakesAt = append(p.Notifications, n.result), append(p.WakesAt, t.WakeAt)
	}
	return p, again
}

// work is what a worker knows while it processes a cohort.
type work struct {
	actor, cause string
	// again says that the job ran before: what it called then may have been sent.
	again bool
	// now is Postgres's time and loadedAt the local time when the cohort was read: promises are
	// measured by Postgres's clock, waiting by ours.
	now      time.Time
	loadedAt time.Time
	clock    func() time.Time
}

// left is how long it is until a time of Postgres's clock.
func (w work) left(until time.Time) time.Duration {
	return until.Sub(w.now) - w.clock().Sub(w.loadedAt)
}

// asked says whether a call of the present step may have been sent before.
func (w work) asked(t Transfer) bool { return w.again || t.Attempts > 0 }

// expire ends a transfer whose promise cannot be kept.
func (w work) expire(t Transfer) move {
	return move{seen: t, events: []Event{Expire}, reason: ReasonDeadline, actor: w.actor, cause: w.cause}
}

// load reads the transfers of a cohort with Postgres's time.
func (s *Service) load(ctx context.Context, refs []Ref) ([]Transfer, time.Time, error) {
	tenants, ids := make([]uuid.UUID, len(refs)), make([]uuid.UUID, len(refs))
	for i, r := range refs {
		tenants[i], ids[i] = r.TenantID, r.ID
	}
	transfers := make([]Transfer, 0, len(refs))
	var now time.Time
	var read pgx.Batch
	pgtx.Read(&read, func(r struct{ Now time.Time }) { now = r.Now }, "SELECT clock_timestamp()")
	pgtx.Read(&read, func(r transferdb.Transfers) { transfers = append(transfers, fromRow(r)) },
		transferdb.ReadTransfers, tenants, ids)
	if err := s.pool.SendBatch(ctx, &read).Close(); err != nil {
		return nil, now, fmt.Errorf("read cohort of %d transfers: %w", len(refs), err)
	}
	return transfers, now, nil
}

// stopped says that a step ended because the process does: others take its work over.
func stopped(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, groupcommit.ErrStopped)
}
