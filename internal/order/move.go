package order

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/holdfast/internal/inventory"
	"example.com/holdfast/internal/order/internal/orderdb"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/problem"
)

// retryGrain is the grain of retry times, so that the retries of a batch share a wake-up.
const retryGrain = 50 * time.Millisecond

// wakeIn is the next grain after a wait.
func wakeIn(now time.Time, wait time.Duration) time.Time {
	return now.Add(wait).Truncate(retryGrain).Add(retryGrain)
}

// ask is what a move asks for.
type ask int

const (
	// askReserve asks for stock and slot; the order is canceled if they are not there.
	askReserve ask = iota
	// askCancel asks for the end of the order, for a reason.
	askCancel
	// askPaid tells which transfer pays.
	askPaid
	// askHear tells an event of that transfer, or of one that takes it back.
	askHear
	// askReturned tells that the way back of the payment is accepted, or that there is nothing to go back.
	askReturned
	// askRetry tells that the step gave no answer, or broke: it is tried again after retryIn.
	askRetry
)

// move asks for one order to move, if it still is what the decision saw.
type move struct {
	// seen is the order as the decision saw it.
	seen    Order
	ask     ask
	reason  Reason
	note    string
	retryIn time.Duration
	// broke says that the step broke in our own code.
	broke bool
	// transfer is the one that pays.
	transfer uuid.UUID
	// delivery is the event of a payment. It is told once, to the order as it is by then.
	delivery     *outbox.Delivery
	actor, cause string
	// trace is the traceparent of who moves.
	trace string
}

// moved is what became of a move.
type moved struct {
	// order is the row as it is now.
	order Order
	// stale says that the order was not any more what the decision saw, or that the event was told
	// before, and nothing was done: somebody else did it.
	stale bool
	err   error
}

// flushMoves commits a batch of moves in one transaction of two round trips.
func (s *Service) flushMoves(ctx context.Context, moves []move) ([]moved, error) {
	var b *moveBatch
	var outcomes []moved
	err := pgtx.Pipeline(ctx, s.pool, "move orders",
		func(read *pgx.Batch) { b = openMoves(read, moves) },
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
	book   *inventory.Book
	inbox  *outbox.Inbox
	rows   map[Ref]*Order
	before map[Ref]Order
	// changed are the orders that the batch changes, in the order of their first change.
	changed []Ref
	events  []outbox.Event
}

// openMoves queues the locks and reads of a batch: the slots and stock of those orders that may take or
// give something back, then the orders.
func openMoves(read *pgx.Batch, moves []move) *moveBatch {
	b := &moveBatch{rows: make(map[Ref]*Order, len(moves)), before: map[Ref]Order{}}
	var claims []inventory.Claim
	var heard []outbox.DeliveryRef
	tenants, ids := make([]uuid.UUID, 0, len(moves)), make([]uuid.UUID, 0, len(moves))
	lines := make(map[Ref][]Line, len(moves))
	for _, m := range moves {
		tenants, ids = append(tenants, m.seen.TenantID), append(ids, m.seen.ID)
		lines[m.seen.Ref] = m.seen.Lines
		if m.touchesStock() {
			claims = append(claims, m.seen.claim())
		}
		if m.delivery != nil {
			heard = append(heard, m.delivery.DeliveryRef)
		}
	}
	b.book = inventory.Open(read, claims)
	pgtx.Read(read, func(r orderdb.Orders) {
		o := fromRow(r)
		o.Lines = lines[o.Ref] // they never change
		b.rows[o.Ref] = &o
	}, orderdb.LockOrders, tenants, ids)
	b.inbox = Subscription().Open(read, heard)
	b.book.Stamp(read)
	return b
}

// touchesStock says whether the move may change what the order has reserved. An order that has ended has
// nothing any more, and never will.
func (m move) touchesStock() bool {
	return !m.seen.State.Terminal() && (m.ask == askReserve || m.ask == askCancel || m.ask == askHear)
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
		return b.unknown(m)
	}
	next, stale, err := *row, b.stale(*row, m), error(nil)
	if !stale {
		next.trace = m.trace
		next, err = b.apply(next, m)
	}
	if err != nil {
		return moved{order: *row, err: err}
	}
	if m.delivery != nil {
		b.inbox.Done(m.delivery.DeliveryRef)
	}
	b.change(*row, next, m)
	*row = next
	return moved{order: next, stale: stale}
}

// unknown answers a move of an order that does not exist. An event of a transfer whose reference somebody
// made up is handled by that.
func (b *moveBatch) unknown(m move) moved {
	if m.delivery == nil {
		return moved{err: notFound(m.seen.ID)}
	}
	b.inbox.Done(m.delivery.DeliveryRef)
	return moved{order: m.seen, stale: true}
}

// stale says that a decision came too late. An event is told to the order as it is, but only once.
func (b *moveBatch) stale(row Order, m move) bool {
	if m.delivery != nil {
		return b.inbox.Handled(m.delivery.DeliveryRef)
	}
	return row.State != m.seen.State || row.Version != m.seen.Version || row.Attempts != m.seen.Attempts
}

// change notes what has to be written of an order: the row as it was at first and is at last, and the
// event of a new state.
func (b *moveBatch) change(was, next Order, m move) {
	if was.UpdatedAt.Equal(next.UpdatedAt) {
		return
	}
	if _, known := b.before[was.Ref]; !known {
		b.before[was.Ref] = was
		b.changed = append(b.changed, was.Ref)
	}
	if next.Version != was.Version {
		e := event(next, was.State, m.actor, m.cause)
		e.Data = eventData(next, m.note)
		b.events = append(b.events, e)
	}
}

// apply is the order after the move; the book is changed along.
func (b *moveBatch) apply(o Order, m move) (Order, error) {
	now := b.book.Now()
	switch m.ask {
	case askReserve:
		return b.reserve(o)
	case askCancel:
		return b.cancel(o, m.reason)
	case askHear:
		return b.hear(o, *m.delivery)
	case askPaid:
		o.PaymentTransfer, o.WakeAt, o.UpdatedAt = m.transfer, o.PromiseAt, now
		o.Attempts, o.Failures = 0, 0
	case askReturned:
		return o.returned(now), nil
	case askRetry:
		return m.retry(o, now), nil
	}
	return o, nil
}

// reserve takes all that the order asks for, or cancels it.
func (b *moveBatch) reserve(o Order) (Order, error) {
	now := b.book.Now()
	if !now.Before(o.PromiseAt) {
		return b.cancel(o, ReasonExpired)
	}
	expires := now.Add(reservationTTL)
	if err := b.book.Reserve(o.claim(), expires); err != nil {
		if reason, short := shortage(err); short {
			return b.cancel(o, reason)
		}
		return o, err
	}
	next, err := transition(o, Reserve, now)
	next.PaymentState, next.ReservationExpiresAt, next.PromiseAt = PaymentPending, expires, expires
	return next, err
}

// cancel ends the order and gives back what it has. Its payment may exist from the moment on from which it
// may be asked for, so it has to go back unless it is known to have failed.
func (b *moveBatch) cancel(o Order, reason Reason) (Order, error) {
	next, err := transition(o, Cancel, b.book.Now())
	if err != nil {
		return o, err
	}
	status := inventory.StatusReleased
	if reason == ReasonExpired {
		status = inventory.StatusExpired
	}
	if err := b.book.Release(o.claim(), status); err != nil {
		return o, err
	}
	next.Reason = reason
	switch {
	case o.PaymentState != PaymentPending:
	case reason == ReasonPayment:
		next.PaymentState = PaymentFailed
	default:
		next.PaymentState, next.WakeAt = PaymentReversing, b.book.Now()
	}
	return next, nil
}

// confirm consumes what the order has reserved. What lapsed is reserved again; if it is not there any
// more, the order is canceled and its payment goes back.
func (b *moveBatch) confirm(o Order) (Order, error) {
	claim := o.claim()
	if !b.book.Active(claim) {
		err := b.renew(&o)
		if reason, short := shortage(err); short {
			return b.cancel(o, reason)
		}
		if err != nil {
			return o, err
		}
	}
	if err := b.book.Consume(claim); err != nil {
		return o, err
	}
	next, err := transition(o, Confirm, b.book.Now())
	next.PaymentState = PaymentSettled
	return next, err
}

// renew gives a lapsed reservation back and makes it again, if what it takes is still there.
func (b *moveBatch) renew(o *Order) error {
	if err := b.book.Release(o.claim(), inventory.StatusExpired); err != nil {
		return err
	}
	o.ReservationExpiresAt = b.book.Now().Add(reservationTTL)
	return b.book.Reserve(o.claim(), o.ReservationExpiresAt)
}

// transition is the only place where a state changes: by the table, with the next version and the
// wake-up that the new state needs.
func transition(o Order, e Event, now time.Time) (Order, error) {
	to, err := Transitions.Next(o.State, e)
	if err != nil {
		return o, problem.Wrap(problem.IllegalTransition, err,
			fmt.Sprintf("An order that is %s cannot %s.", o.State, e))
	}
	o.State, o.Version, o.UpdatedAt = to, o.Version+1, now
	o.Attempts, o.Failures = 0, 0
	switch to {
	case Pending, Reserved:
		o.WakeAt = now
	case Confirmed, Canceled:
		o.WakeAt = time.Time{}
	}
	return o, nil
}

func event(o Order, from State, actor, cause string) outbox.Event {
	return outbox.Event{
		TenantID: o.TenantID, AggregateID: o.ID, Seq: o.Version, Type: "order." + string(o.State),
		From: string(from), To: string(o.State), Reason: string(o.Reason), Actor: actor, Cause: cause,
		Reference: o.ClientReference, Lane: o.Lane, Trace: o.trace,
	}
}

// eventData is what an event tells beside the states: who pays, and what a person said.
func eventData(o Order, note string) json.RawMessage {
	data := struct {
		Payment string `json:"payment_transfer,omitempty"`
		Note    string `json:"note,omitempty"`
	}{Note: note}
	if o.PaymentTransfer != uuid.Nil {
		data.Payment = o.PaymentTransfer.String()
	}
	encoded, err := json.Marshal(data)
	if err != nil || string(encoded) == "{}" {
		return nil // two texts can always be encoded
	}
	return encoded
}

// write queues everything that the batch decided.
func (b *moveBatch) write(ctx context.Context, write *pgx.Batch) error {
	now := b.book.Now()
	if err := b.inbox.Write(ctx, write, now); err != nil {
		return err
	}
	if len(b.changed) == 0 {
		return nil
	}
	if err := b.writeRows(ctx, write, now); err != nil {
		return err
	}
	if err := b.book.Write(ctx, write); err != nil {
		return err
	}
	if err := outbox.Append(ctx, write, now, b.events); err != nil {
		return err
	}
	return enqueue(write, b.after())
}

// after are the changed orders as they are at last.
func (b *moveBatch) after() []Order {
	orders := make([]Order, len(b.changed))
	for i, ref := range b.changed {
		orders[i] = *b.rows[ref]
	}
	return orders
}

func (b *moveBatch) writeRows(ctx context.Context, write *pgx.Batch, now time.Time) error {
	n := len(b.changed)
	p := orderdb.MoveOrdersParams{
		Now: now, Tenants: make([]uuid.UUID, n), Ids: make([]uuid.UUID, n), FromStates: make([]string, n),
		FromVersions: make([]int32, n), FromAttempts: make([]int32, n), ToStates: make([]string, n),
		ToVersions: make([]int32, n), Reasons: make([]string, n), PaymentStates: make([]string, n),
		PaymentTransfers: make([]uuid.UUID, n), ReservationsExpireAt: make([]time.Time, n),
		ToAttempts: make([]int32, n), ToFailures: make([]int32, n), WakesAt: make([]time.Time, n),
		PromisesAt: make([]time.Time, n),
	}
	for i, o := range b.after() {
		was := b.before[o.Ref]
		p.Tenants[i], p.Ids[i] = o.TenantID, o.ID
		p.FromStates[i], p.FromVersions[i], p.FromAttempts[i] = string(was.State), was.Version, was.Attempts
		p.ToStates[i], p.ToVersions[i], p.ToAttempts[i] = string(o.State), o.Version, o.Attempts
		p.Reasons[i], p.PaymentStates[i] = string(o.Reason), string(o.PaymentState)
		p.PaymentTransfers[i], p.ReservationsExpireAt[i] = o.PaymentTransfer, o.ReservationExpiresAt
		p.ToFailures[i], p.WakesAt[i], p.PromisesAt[i] = o.Failures, o.WakeAt, o.PromiseAt
	}
	return orderdb.New().MoveOrders(ctx, pgtx.Into(write), p)
}

// ended lists the orders that the batch brought to their end.
func (b *moveBatch) ended() []Order {
	var ended []Order
	for _, o := range b.after() {
		if o.State.Terminal() && !b.before[o.Ref].State.Terminal() {
			ended = append(ended, o)
		}
	}
	return ended
}
