package transfer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/holdfast/internal/budget"
	"example.com/holdfast/internal/fault"
	"example.com/holdfast/internal/groupcommit"
	"example.com/holdfast/internal/jobqueue"
	"example.com/holdfast/internal/outbound"
	"example.com/holdfast/internal/outbound/risk"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/tracing"
	"example.com/holdfast/internal/transfer/internal/transferdb"
)

// The points at which a test may crash a step.
const (
	faultBeforeScreen = "transfer.screen.before_call"
	faultAfterScreen  = "transfer.screen.after_call"
	faultAfterMove    = "transfer.move.after_commit"
	faultBeforeSettle = "transfer.settle.before_move"
	faultBeforePayout = "transfer.payout.before_call"
	faultAfterPayout  = "transfer.payout.after_call"
	faultBeforeNotify = "transfer.notify.before_call"
	faultAfterNotify  = "transfer.notify.after_call"
	faultAfterNote    = "transfer.note.after_commit"
)

// pass is the way of a transfer that may go on, from where it stands: nothing external is between an approval
// and the settlement, or the submission of a payout, so they commit together.
func (t Transfer) pass() []Event {
	last := Settle
	if t.Payout {
		last = Submit
	}
	if t.State == Approved {
		return []Event{last}
	}
	return []Event{Approve, last}
}

// judge turns a decision of the risk service into the events of a transfer and their reason.
func judge(t Transfer, d risk.Decision) ([]Event, string, error) {
	switch d.Outcome {
	case risk.OutcomeApprove:
		return t.pass(), "", nil
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
	events, reason, err := judge(t, decision)
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
	ctx, cancel := context.WithTimeout(outbound.As(ctx, w.caller(t)), w.left(t.PromiseAt))
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

// undecided handles a call without an answer: the next one has its time, or the promise ends. Where the risk
// service cannot be asked at all, the tenant's posture may let the transfer pass.
func (s *Service) undecided(ctx context.Context, t Transfer, w work, cause error) error {
	if noRoom(cause) {
		return cause
	}
	wait, need := s.retryIn(t.Attempts, cause)
	hopeless := !budget.Fits(w.left(t.PromiseAt), wait+need)
	if unavailable(cause) || hopeless && !answered(cause) {
		passed, err := s.failOpen(ctx, t, w)
		if passed || err != nil {
			return err
		}
	}
	s.cfg.Log.InfoContext(ctx, "transfer step gave no answer", slog.String("transfer", t.ID.String()),
		slog.Int("attempt", int(t.Attempts)+1), slog.Duration("retry_in", wait), slog.Any("error", cause))
	switch {
	case hopeless:
		return s.move(ctx, w.expire(t))
	case t.Attempts+1 >= attemptsMax:
		return s.move(ctx, w.fail(t, ReasonAttempts))
	}
	return s.note(ctx, again(t, stepScreen, wait, cause))
}

// noRoom says that the dependency had no place for the call within the wait: nothing was sent, and the job is
// given back as it is.
func noRoom(err error) bool {
	failure, ok := errors.AsType[*outbound.Error](err)
	return ok && failure.Kind == outbound.KindFull
}

// unavailable says that the dependency is not even asked, since it has failed others.
func unavailable(err error) bool {
	failure, ok := errors.AsType[*outbound.Error](err)
	return ok && failure.Kind == outbound.KindOpen
}

// answered says that the dependency was asked and has answered, by a refusal or by what nobody understands: a
// posture says nothing of that, since whoever can bring it about would pass by it.
func answered(err error) bool {
	failure, ok := errors.AsType[*outbound.Error](err)
	return !ok || failure.Refused() || failure.Kind == outbound.KindBadReply
}

// retryIn is how long to wait before the next attempt, and how long that one is likely to take.
func (s *Service) retryIn(attempts int32, cause error) (time.Duration, time.Duration) {
	wait := budget.Backoff(int(attempts)+1, s.random)
	failure, ok := errors.AsType[*outbound.Error](cause)
	if !ok {
		return wait, 0
	}
	if failure.RetryAfter > wait {
		wait = failure.RetryAfter + time.Duration(s.random()*float64(failure.RetryAfter)*retryAfterSpread)
	}
	return wait, failure.P95
}

// settle takes an approved transfer to its postings, and ends a review that nobody decided.
func (s *Service) settle(ctx context.Context, t Transfer, w work) error {
	if err := fault.At(ctx, faultBeforeSettle); err != nil {
		return err
	}
	switch {
	case t.State == Approved:
		return s.move(ctx, move{seen: t, events: t.pass(), actor: w.actor, cause: w.cause})
	case w.left(t.PromiseAt) <= 0:
		return s.move(ctx, w.expire(t))
	}
	return nil
}

// recordMax bounds the wait for the commit of what a step came to. It fits into the time that a process that
// stops keeps for giving back.
const recordMax = 2500 * time.Millisecond

// recording is a context for the commit of what a step came to. The call was made: a worker that stops
// still writes down what it heard, or that it heard nothing, so that the next one asks before it sends.
func recording(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), recordMax)
}

// move hands a decision to the group commit. Who comes too late reports success: it is done.
func (s *Service) move(ctx context.Context, m move) error {
	ctx, cancel := recording(ctx)
	defer cancel()
	m.trace = tracing.Parent(ctx)
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
		jobqueue.Count(ctx, jobqueue.OutcomeStale, 1)
	} else {
		jobqueue.Count(ctx, string(out.transfer.State), 1)
	}
	return fault.At(ctx, faultAfterMove)
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

// asked says whether a call of the present step may have been sent before. A payout is claimed in its row
// before it is sent, so of payouts the row alone says it.
func (w work) asked(t Transfer) bool { return t.Sent > 0 || w.again && t.State != Settling }

// caller says to the dependency's door who calls for a transfer.
func (w work) caller(t Transfer) outbound.Caller {
	return outbound.Caller{Lane: int(t.Lane), Repeat: w.asked(t)}
}

// expire ends a transfer whose promise cannot be kept.
func (w work) expire(t Transfer) move {
	return move{seen: t, events: []Event{Expire}, reason: ReasonDeadline, actor: w.actor, cause: w.cause}
}

// fail ends a transfer that cannot go on.
func (w work) fail(t Transfer, reason string) move {
	return move{seen: t, events: []Event{Fail}, reason: reason, actor: w.actor, cause: w.cause}
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

// passing says that a step failed for what is of the moment: rows that others had, a database that was away
// or had too much to do. The same may succeed later.
func passing(err error) bool {
	return pgtx.Passing(err) || errors.Is(err, groupcommit.ErrFull) ||
		errors.Is(err, context.DeadlineExceeded)
}
