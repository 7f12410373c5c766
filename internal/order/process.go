package order

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
	"example.com/holdfast/internal/money"
	"example.com/holdfast/internal/order/internal/orderdb"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/tracing"
)

// The points at which a test may crash a step.
const (
	faultBeforeReserve = "order.reserve.before_move"
	faultBeforePay     = "order.pay.before_call"
	faultAfterPay      = "order.pay.after_call"
	faultBeforeHear    = "order.hear.before_move"
	faultBeforeReverse = "order.reverse.before_call"
	faultAfterReverse  = "order.reverse.after_call"
	faultAfterMove     = "order.move.after_commit"
)

// Payment is what an order asks of Payments. Together with the way back it is known by the order's id:
// asking again for the same is always safe.
type Payment struct {
	Order Ref
	// Transfer is the one that pays, or uuid.Nil if the order does not know it.
	Transfer uuid.UUID
	From, To uuid.UUID
	Amount   money.Amount
	// Reference names the payment, and begins the reference of a way back.
	Reference string
	// Attempt counts the ways back that were tried before.
	Attempt      int32
	Actor, Cause string
}

// Payments moves the money of orders. It is called outside transactions.
type Payments interface {
	// Pay makes sure that the payment of an order is accepted and names the transfer, whose outcome comes
	// as an event. A problem that is not retryable means that it never will be.
	Pay(ctx context.Context, p Payment) (uuid.UUID, error)
	// Reverse makes sure that nothing of a payment stays with the merchant: what is open is canceled, what
	// is settled is on its way back when it returns nil. A way back that fails later is told by an event
	// whose reference continues that of the payment.
	Reverse(ctx context.Context, p Payment) error
}

// referencePrefix begins the references of payments; the order's id follows.
const referencePrefix = "order:"

// paymentSettled is the event of a payment that came through. Every other event that the subscription
// names ends a payment without moving money.
const paymentSettled = "transfer.settled"

// Subscription says which events an order waits for: the ends of the transfers that pay. Their types are
// given by whoever wires payments.
func Subscription(types ...string) outbox.Subscription {
	return outbox.Subscription{
		Consumer: "order", Types: types, ReferencePrefix: referencePrefix,
		Queue: queue, Kind: paymentJob{}.Kind(),
	}
}

func (w work) payment(o Order) Payment {
	return Payment{
		Order: o.Ref, Transfer: o.PaymentTransfer, From: o.CustomerAccount, To: o.MerchantAccount,
		Amount: o.Total, Reference: referencePrefix + o.ID.String(), Attempt: o.Attempts,
		Actor: w.actor, Cause: "order:" + o.ID.String(),
	}
}

// reserve takes a pending order to its reservation.
func (s *Service) reserve(ctx context.Context, o Order, w work) error {
	if err := fault.At(ctx, faultBeforeReserve); err != nil {
		return err
	}
	return s.move(ctx, w.move(o, askReserve))
}

// pay asks for the payment of a reserved order, and ends one whose promise has passed. That the payment
// is on its way is noted; how it ends comes as an event.
func (s *Service) pay(ctx context.Context, o Order, w work) error {
	left := w.left(o.PromiseAt)
	if left <= 0 {
		return s.move(ctx, w.cancel(o, ReasonExpired))
	}
	m := w.move(o, askPaid)
	if m.transfer = o.PaymentTransfer; m.transfer != uuid.Nil {
		return s.move(ctx, m)
	}
	if err := fault.At(ctx, faultBeforePay); err != nil {
		return err
	}
	callCtx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	var err error
	if m.transfer, err = s.cfg.Payments.Pay(callCtx, w.payment(o)); err != nil {
		return s.unpaid(ctx, o, w, err)
	}
	if err := fault.At(ctx, faultAfterPay); err != nil {
		return err
	}
	return s.move(ctx, m)
}

// unpaid decides what a payment means that was not accepted: it never will be, or it is asked for again.
func (s *Service) unpaid(ctx context.Context, o Order, w work, cause error) error {
	if stopped(cause) {
		return cause
	}
	if final(cause) {
		return s.move(ctx, w.cancel(o, ReasonPayment))
	}
	m := w.move(o, askRetry)
	m.retryIn = budget.Backoff(int(o.Attempts)+1, s.random)
	s.cfg.Log.InfoContext(ctx, "payment gave no answer", slog.String("order", o.ID.String()),
		slog.Int("attempt", int(o.Attempts)+1), slog.Duration("retry_in", m.retryIn), slog.Any("error",
			cause))
	return s.move(ctx, m)
}

// final says that asking again gives the same answer: it was decided on the state of things.
func final(err error) bool {
	var refused *problem.Error
	return errors.As(err, &refused) && !problem.MeaningOf(refused.Code).Retryable
}

// retry is the order with another wake-up for its step, at the latest when the promise ends. A step that
// was done meanwhile needs none.
func (m move) retry(o Order, now time.Time) Order {
	if nextStep(o) == "" {
		return o
	}
	o.Attempts++
	if m.broke {
		o.Failures++
	}
	o.WakeAt, o.UpdatedAt = wakeIn(now, m.retryIn), now
	if !o.State.Terminal() && o.PromiseAt.After(now) && o.PromiseAt.Before(o.WakeAt) {
		o.WakeAt = o.PromiseAt
	}
	return o
}

// shortage says for which reason an order is canceled that could not reserve; false if the program is at
// fault.
func shortage(err error) (Reason, bool) {
	switch problem.Of(err).Code { //nolint:exhaustive // what a reservation can lack
	case problem.InsufficientStock:
		return ReasonStock, true
	case problem.SlotNotFound, problem.SlotClosed, problem.SlotElsewhere, problem.SlotFull:
		return ReasonSlot, true
	}
	return "", false
}

// listen tells an order how its payment ended. An order that does not know yet which transfer pays asks
// first: anybody may have given a transfer the order's reference.
func (s *Service) listen(ctx context.Context, d outbox.Delivery, w work) error {
	o, err := s.about(ctx, d)
	if err != nil {
		return err
	}
	m := move{seen: o, ask: askHear, delivery: &d, actor: w.actor, cause: w.cause}
	if m.seen.State == Reserved && m.seen.PaymentTransfer == uuid.Nil {
		if err := s.pay(ctx, m.seen, w); err != nil {
			return err
		}
	}
	if err := fault.At(ctx, faultBeforeHear); err != nil {
		return err
	}
	return s.move(ctx, m)
}

// loadDeliveries reads the deliveries of a job, and what its worker knows.
func (s *Service) loadDeliveries(
	ctx context.Context, refs []outbox.DeliveryRef, jobID int64,
) ([]outbox.Delivery, work, error) {
	loadedAt := s.cfg.Now()
	deliveries, err := Subscription().Read(ctx, s.pool, refs)
	if err != nil {
		return nil, work{}, err
	}
	var now time.Time
	if err := s.pool.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&now); err != nil {
		return nil, work{}, fmt.Errorf("read time: %w", err)
	}
	return deliveries, s.workOf(jobID, now, loadedAt), nil
}

// about reads the order that an event belongs to; one that does not exist is a reference that somebody
// else made up, and is left with its id alone.
func (s *Service) about(ctx context.Context, d outbox.Delivery) (Order, error) {
	ref := Ref{TenantID: d.TenantID, ID: paidOrder(d.Reference)}
	orders, _, err := s.load(ctx, []Ref{ref})
	if err != nil || len(orders) == 0 {
		return Order{Ref: ref}, err
	}
	return orders[0], nil
}

// paidOrder is the order whose id a reference has, or uuid.Nil.
func paidOrder(reference string) uuid.UUID {
	id, _, _ := strings.Cut(strings.TrimPrefix(reference, referencePrefix), "/")
	parsed, err := uuid.Parse(id)
	if err != nil {
		return uuid.Nil
	}
	return parsed
}

// errPaymentUnknown is that of an event that comes while the payment of its order cannot be asked for:
// whether it is the order's own cannot be told yet.
var errPaymentUnknown = errors.New("the payment is not known yet")

// hear is the order after an event of its payment. What does not belong to it changes nothing.
func (b *moveBatch) hear(o Order, d outbox.Delivery) (Order, error) {
	settled, ours := d.Type == paymentSettled, d.AggregateID == o.PaymentTransfer
	if strings.Contains(d.Reference, "/") {
		return heardReversal(o, settled, b.book.Now()), nil
	}
	switch o.State {
	case Reserved:
		switch {
		case o.PaymentTransfer == uuid.Nil:
			return o, fmt.Errorf("order %s: %w", o.ID, errPaymentUnknown)
		case ours && settled:
			return b.confirm(o)
		case ours:
			return b.cancel(o, ReasonPayment)
		}
	case Canceled:
		switch {
		case settled:
			return b.late(o), nil
		case ours && o.PaymentState == PaymentReversing: // nothing was moved, and nothing will be
			o = o.returned(b.book.Now())
		}
	case Pending, Confirmed:
	}
	return o, nil
}

// late is a canceled order whose payment came through. Whoever asked for the way back before this was
// known may have found nothing to take back: it is asked for again, and the attempt makes them stale.
func (b *moveBatch) late(o Order) Order {
	o.PaymentState, o.WakeAt, o.UpdatedAt = PaymentReversing, b.book.Now(), b.book.Now()
	o.Attempts++
	return o
}

// recordMax bounds the wait for the commit of what a step came to. It fits into the time that a process that
// stops keeps for giving back.
const recordMax = 2500 * time.Millisecond

// recording is a context for the commit of what a step came to. A payment may have been asked for: a worker
// that stops still writes down what it heard, and gives back what it did not do.
func recording(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), recordMax)
}

// move hands a decision to the group commit. Who comes too late reports success: it is done.
func (s *Service) move(ctx context.Context, m move) error {
	ctx, cancel := recording(ctx)
	defer cancel()
	m.trace = tracing.Parent(ctx)
	if m.ask == askRetry { // tries of a step stand side by side
		m.trace = m.seen.trace
	}
	out, err := s.moves.Do(ctx, m)
	if err == nil {
		err = out.err
	}
	if err != nil {
		s.countIllegal(err)
		return fmt.Errorf("move order %s: %w", m.seen.ID, err)
	}
	if out.stale {
		s.cfg.Metrics.StaleMove()
	}
	jobqueue.Count(ctx, m.outcome(out), 1)
	return fault.At(ctx, faultAfterMove)
}

// outcome says in a word what became of a move, for the line of its job.
func (m move) outcome(out moved) string {
	switch {
	case out.stale:
		return jobqueue.OutcomeStale
	case m.ask == askRetry:
		return jobqueue.OutcomeAgain
	case m.ask == askPaid:
		return "payment_asked"
	case m.ask == askReturned:
		return "payment_returned"
	}
	return string(out.order.State)
}

// work is what a worker knows while it processes a cohort.
type work struct {
	actor, cause string
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

func (w work) move(o Order, what ask) move {
	return move{seen: o, ask: what, actor: w.actor, cause: w.cause}
}

func (w work) cancel(o Order, reason Reason) move {
	m := w.move(o, askCancel)
	m.reason = reason
	return m
}

// load reads the orders of a cohort, with their lines, and Postgres's time.
func (s *Service) load(ctx context.Context, refs []Ref) ([]Order, time.Time, error) {
	var now time.Time
	var read pgx.Batch
	pgtx.Read(&read, func(r struct{ Now time.Time }) { now = r.Now }, "SELECT clock_timestamp()")
	collect := readOrders(&read, refs)
	if err := s.pool.SendBatch(ctx, &read).Close(); err != nil {
		return nil, now, fmt.Errorf("read cohort of %d orders: %w", len(refs), err)
	}
	return collect(), now, nil
}

// readOrders queues the read of orders with their lines; what it returns hands them out when the batch
// was sent.
func readOrders(read *pgx.Batch, refs []Ref) func() []Order {
	tenants, ids := make([]uuid.UUID, len(refs)), make([]uuid.UUID, len(refs))
	for i, r := range refs {
		tenants[i], ids[i] = r.TenantID, r.ID
	}
	var orders []Order
	lines := map[Ref][]Line{}
	pgtx.Read(read, func(r orderdb.Orders) { orders = append(orders, fromRow(r)) },
		orderdb.ReadOrders, tenants, ids)
	pgtx.Read(read, func(r orderdb.OrderLines) {
		ref := Ref{r.TenantID, r.OrderID}
		lines[ref] = append(lines[ref], Line{SKU: r.SkuID, Quantity: r.Quantity, UnitPrice: r.UnitPrice})
	}, orderdb.ReadLines, tenants, ids)
	return func() []Order {
		for i := range orders {
			orders[i].Lines = lines[orders[i].Ref]
		}
		return orders
	}
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

// passingMax is how often a step may be kept from its end by what is of the moment. What is so for longer is
// no moment any more, and counts as a break.
const passingMax = 50

// ofTheMoment says that a step failed for what passes, and not for too long yet. For how long a payment is
// not known is bounded by its order's promise.
func ofTheMoment(err error, attempts int32) bool {
	return errors.Is(err, errPaymentUnknown) || passing(err) && attempts < passingMax
}
