package transfer

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/holdfast/internal/ledger"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/transfer/internal/transferdb"
)

// The reasons that the program itself gives.
const (
	ReasonDeadline = "deadline_exhausted"
	ReasonAttempts = "attempts_exhausted"
	// ReasonPoison is that of a transfer whose step breaks whenever it is tried.
	ReasonPoison = "poison"
	// ReasonPayoutRefused is that of a payout that the rail does not make.
	ReasonPayoutRefused = "payout_refused"
	// ReasonRiskUnavailable is that of a transfer that its tenant's posture let pass unscreened.
	ReasonRiskUnavailable = "risk_unavailable"
)

// attemptsMax ends what never gets an answer: with the longest backoff it is far beyond the promise,
// so it is only reached by a step that fails at once, again and again.
const attemptsMax = 100

// retryAfterSpread is how much of what a dependency asks us to wait we wait longer, at most, so that not all
// come back at once.
const retryAfterSpread = 0.5

// retryGrain is the grain of retry times, so that the retries of a batch share a wake-up.
const retryGrain = 50 * time.Millisecond

// wakeIn is the next grain after a wait.
func wakeIn(now time.Time, wait time.Duration) time.Time {
	return now.Add(wait).Truncate(retryGrain).Add(retryGrain)
}

// move asks for one transfer to move, if it still is what the decision saw.
type move struct {
	// seen is the transfer as the decision saw it.
	seen Transfer
	// events happen together, in order.
	events        []Event
	reason        string
	riskReference string
	railReference string
	actor, cause  string
	// trace is the traceparent of who moves.
	trace string
}

// moved is what became of a move.
type moved struct {
	// transfer is the row as it is now.
	transfer Transfer
	// stale says that the transfer was not any more what the decision saw, and nothing was done:
	// somebody else did it.
	stale bool
	err   error
}

// flushMoves commits a batch of moves in one transaction of two round trips.
func (s *Service) flushMoves(ctx context.Context, moves []move) ([]moved, error) {
	var b *moveBatch
	var outcomes []moved
	err := pgtx.Pipeline(ctx, s.pool, "move transfers",
		func(read *pgx.Batch) { b = openMoves(read, moves, s.cfg.Subscriptions) },
		func(write *pgx.Batch) error {
			outcomes = b.decide(moves)
			return b.write(ctx, write)
		})
	if err != nil {
		return nil, err
	}
	s.countEnds(b.ended())
	return outcomes, nil
}

// moveBatch is what a batch of moves read and decided.
type moveBatch struct {
	book     *ledger.Book
	rows     map[Ref]*Transfer
	before   []Transfer
	after    []Transfer
	events   []outbox.Event
	reversed map[Ref]int64
	// waiting says who is told of the events.
	waiting []outbox.Subscription
}

// openMoves queues the locks and reads of a batch: the balances of both sides, then the transfers,
// which nobody can move while we hold their debit balance.
func openMoves(read *pgx.Batch, moves []move, waiting []outbox.Subscription) *moveBatch {
	b := &moveBatch{
		rows: make(map[Ref]*Transfer, len(moves)), reversed: map[Ref]int64{}, waiting: waiting,
	}
	lock := make([]ledger.Ref, 0, 2*len(moves))
	tenants, ids := make([]uuid.UUID, 0, len(moves)), make([]uuid.UUID, 0, len(moves))
	for _, m := range moves {
		lock = append(lock, m.seen.debit(), m.seen.credit())
		tenants, ids = append(tenants, m.seen.TenantID), append(ids, m.seen.ID)
	}
	b.book = ledger.Open(read, lock, nil)
	pgtx.Read(read, func(r transferdb.Transfers) {
		t := fromRow(r)
		b.rows[t.Ref] = &t
	}, transferdb.ReadTransfers, tenants, ids)
	return b
}

// decide applies every move of the batch in order; it touches nothing outside the batch.
func (b *moveBatch) decide(moves []move) []moved {
	outcomes := make([]moved, len(moves))
	for i, m := range moves {
		outcomes[i] = b.decideOne(m)
	}
	return outcomes
}

func (b *moveBatch) decideOne(m move) moved {
	row := b.rows[m.seen.Ref]
	if row == nil {
		return moved{err: notFound(m.seen.ID)}
	}
	if row.State != m.seen.State || row.Version != m.seen.Version || row.Attempts != m.seen.Attempts {
		return moved{transfer: *row, stale: true}
	}
	next := *row
	next.trace = m.trace
	next, events, err := b.apply(next, b.inTime(next, m))
	if err != nil {
		return moved{transfer: *row, err: err}
	}
	b.before, b.after = append(b.before, *row), append(b.after, next)
	b.events = append(b.events, events...)
	*row = next
	return moved{transfer: next}
}

// inTime turns a move that comes after the promise into the end that the promise has. What the rail has is
// past that: only its answer counts.
func (b *moveBatch) inTime(t Transfer, m move) move {
	goesOn := slices.Contains([]Event{Approve, Review, Settle, Submit}, m.events[0])
	if goesOn && t.State != Settling && !b.book.Now().Before(t.PromiseAt) {
		m.events, m.reason = []Event{Expire}, ReasonDeadline
	}
	return m
}

// apply is the transfer after the move, with its events; the book is changed along.
func (b *moveBatch) apply(t Transfer, m move) (Transfer, []outbox.Event, error) {
	var events []outbox.Event
	for _, e := range m.events {
		next, err := b.step(t, e, m)
		if err != nil {
			return Transfer{}, nil, err
		}
		events = append(events, event(next, t.State, m.actor, m.cause))
		t = next
	}
	return t, events, nil
}

// step moves the transfer by one event, and its money along. The table is asked first: a refused move
// leaves the book as it was. What a settlement finds impossible fails the transfer.
func (b *moveBatch) step(t Transfer, e Event, m move) (Transfer, error) {
	next, err := transition(t, e, b.book.Now())
	if err != nil {
		return Transfer{}, err
	}
	if m.riskReference != "" {
		next.RiskReference = m.riskReference
	}
	if m.railReference != "" {
		next.RailReference = m.railReference
	}
	switch {
	case next.State == Settled && t.State == Settling:
		return next, b.book.Drain(t.debit(), t.credit(), t.ID, t.Amount.Value)
	case next.State == Settled:
		if err := b.book.Settle(t.debit(), t.credit(), t.ID, t.Amount.Value, t.Amount.Value); err != nil {
			m.reason = string(problem.Of(err).Code)
			return b.step(t, Fail, m)
		}
		return next, nil
	case next.State == Settling:
		if err := b.book.Check(t.debit(), t.credit(), t.Amount.Currency); closedSince(err) {
			m.reason = string(problem.Of(err).Code)
			return b.step(t, Fail, m)
		}
	}
	next.Reason = m.reason
	if !next.State.Terminal() {
		return next, nil
	}
	if next.Reason == "" {
		next.Reason = string(e)
	}
	return next, b.release(next)
}

// closedSince says that an account was closed after the transfer was accepted. A freeze does not stop what
// was accepted before it.
func closedSince(err error) bool { return problem.Is(err, problem.AccountClosed) }

// release gives the funds of a transfer back that ended without being settled, and what a reversal
// would have taken back of its original.
func (b *moveBatch) release(t Transfer) error {
	status := ledger.HoldReleased
	if t.State == Expired {
		status = ledger.HoldExpired
	}
	if err := b.book.Release(t.debit(), t.ID, t.Amount.Value, status); err != nil {
		return err
	}
	if t.Reverses != uuid.Nil {
		b.reversed[Ref{t.TenantID, t.Reverses}] -= t.Amount.Value
	}
	return nil
}

// transition is the only place where a state changes: by the table, with the next version and the
// wake-up that the new state needs.
func transition(t Transfer, e Event, now time.Time) (Transfer, error) {
	to, err := Transitions.Next(t.State, e)
	if err != nil {
		return t, problem.Wrap(problem.IllegalTransition, err,
			fmt.Sprintf("A transfer that is %s cannot %s.", t.State, e))
	}
	from := t.State
	t.State, t.Version, t.UpdatedAt, t.WakeAt = to, t.Version+1, now, now
	t.Attempts, t.Sent, t.Failures = 0, 0, 0
	switch to {
	case InReview:
		t.PromiseAt = now.Add(reviewWindow)
		t.WakeAt = t.PromiseAt
	case Approved:
		if from == InReview { // the operator's time is not taken from the promise of the settlement
			t.PromiseAt = now.Add(promiseWindow)
		}
	case Settled, Blocked, Canceled, Expired, Failed:
		t.Notification = NotificationPending
	case Accepted, Settling:
	}
	return t, nil
}

func event(t Transfer, from State, actor, cause string) outbox.Event {
	return outbox.Event{
		TenantID: t.TenantID, AggregateID: t.ID, Seq: t.Version, Type: "transfer." + string(t.State),
		From: string(from), To: string(t.State), Reason: t.Reason, Actor: actor, Cause: cause,
		Reference: t.ClientReference, Lane: t.Lane, Trace: t.trace,
	}
}

// write queues everything that the batch decided.
func (b *moveBatch) write(ctx context.Context, write *pgx.Batch) error {
	if len(b.after) == 0 {
		return nil
	}
	now := b.book.Now()
	if err := b.writeRows(ctx, write, now); err != nil {
		return err
	}
	if err := b.book.Write(ctx, write); err != nil {
		return err
	}
	if err := addReversed(ctx, write, b.reversed); err != nil {
		return err
	}
	if err := outbox.Append(ctx, write, now, b.events, b.waiting...); err != nil {
		return err
	}
	return enqueue(write, b.after)
}

func (b *moveBatch) writeRows(ctx context.Context, write *pgx.Batch, now time.Time) error {
	n := len(b.after)
	p := transferdb.MoveTransfersParams{
		Now: now, Tenants: make([]uuid.UUID, n), Ids: make([]uuid.UUID, n), FromStates: make([]string, n),
		FromVersions: make([]int32, n), FromAttempts: make([]int32, n), ToStates: make([]string, n),
		ToVersions: make([]int32, n), Reasons: make([]string, n), RiskReferences: make([]string, n),
		RailReferences: make([]string, n), Notifications: make([]string, n), WakesAt: make([]time.Time, n),
		PromisesAt: make([]time.Time, n),
	}
	for i, t := range b.after {
		was := b.before[i]
		p.Tenants[i], p.Ids[i] = t.TenantID, t.ID
		p.FromStates[i], p.FromVersions[i], p.FromAttempts[i] = string(was.State), was.Version, was.Attempts
		p.ToStates[i], p.ToVersions[i], p.Reasons[i] = string(t.State), t.Version, t.Reason
		p.RiskReferences[i], p.RailReferences[i] = t.RiskReference, t.RailReference
		p.Notifications[i] = t.Notification
		p.WakesAt[i], p.PromisesAt[i] = t.WakeAt, t.PromiseAt
	}
	return transferdb.New().MoveTransfers(ctx, pgtx.Into(write), p)
}

// ended lists the transfers that the batch brought to their end.
func (b *moveBatch) ended() []ended {
	var ends []ended
	for i, t := range b.after {
		if t.State.Terminal() {
			ends = append(ends, ended{t, b.before[i].State})
		}
	}
	return ends
}
