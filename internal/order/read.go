package order

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/inventory"
	"example.com/holdfast/internal/ledger"
	"example.com/holdfast/internal/money"
	"example.com/holdfast/internal/order/internal/orderdb"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/tracing"
)

// Wait asks the database again after waitFirst, then after twice that, up to waitLongest.
const (
	waitFirst   = 5 * time.Millisecond
	waitLongest = 250 * time.Millisecond
)

// fromRow is the order of a row, still without its lines.
func fromRow(r orderdb.Orders) Order {
	return Order{
		Ref: Ref{r.TenantID, r.ID}, CustomerAccount: r.CustomerAccount, MerchantAccount: r.MerchantAccount,
		Location: r.Location, Slot: pgtx.OrZero(r.SlotID),
		Total: money.Amount{Value: r.Total, Currency: r.Currency},
		State: State(r.State), Version: r.Version, Reason: Reason(pgtx.OrZero(r.Reason)),
		ClientReference: pgtx.OrZero(r.ClientReference), Metadata: r.Metadata,
		PaymentState: PaymentState(r.PaymentState), PaymentTransfer: pgtx.OrZero(r.PaymentTransferID),
		ReservationExpiresAt: pgtx.OrZero(r.ReservationExpiresAt), Attempts: r.Attempts,
		Failures: r.Failures, Lane: r.Lane, WakeAt: pgtx.OrZero(r.WakeAt), PromiseAt: r.PromiseAt,
		CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
	}
}

func fromRows(rows []orderdb.Orders) []Order {
	orders := make([]Order, len(rows))
	for i, r := range rows {
		orders[i] = fromRow(r)
	}
	return orders
}

// sender is a pool or a transaction.
type sender interface {
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// Get reads an order of a tenant with its lines.
func (s *Service) Get(ctx context.Context, ref Ref) (Order, error) {
	return read(ctx, s.pool, ref)
}

func read(ctx context.Context, db sender, ref Ref) (Order, error) {
	var batch pgx.Batch
	collect := readOrders(&batch, []Ref{ref})
	if err := db.SendBatch(ctx, &batch).Close(); err != nil {
		return Order{}, fmt.Errorf("read order %s: %w", ref.ID, err)
	}
	if orders := collect(); len(orders) == 1 {
		return orders[0], nil
	}
	return Order{}, notFound(ref.ID)
}

// Wait reads an order until it has ended or maxWait has passed; it returns what it read last.
func (s *Service) Wait(ctx context.Context, ref Ref, maxWait time.Duration) (Order, error) {
	deadline := s.cfg.Now().Add(maxWait)
	for pause := waitFirst; ; pause = min(2*pause, waitLongest) {
		o, err := s.Get(ctx, ref)
		left := deadline.Sub(s.cfg.Now())
		if err != nil || o.State.Terminal() || left <= 0 {
			return o, err
		}
		select {
		case <-ctx.Done():
			return o, ctx.Err()
		case <-time.After(min(pause, left)):
		}
	}
}

// Filter says which orders to list. The zero values do not filter.
type Filter struct {
	State           State
	Account         uuid.UUID
	SKU             uuid.UUID
	CreatedFrom     time.Time
	CreatedTo       time.Time
	ClientReference string
	// Before is where the page starts: the Next of the page before.
	Before uuid.UUID
	// Limit is how many orders the page may have, kept between 1 and PageMaxRows.
	Limit int
}

// passes says what the filter says of an order that was found by its reference.
func (f Filter) passes(o Order) bool {
	asksFor := func(l Line) bool { return l.SKU == f.SKU }
	return (f.State == "" || o.State == f.State) &&
		(f.Account == uuid.Nil || o.CustomerAccount == f.Account || o.MerchantAccount == f.Account) &&
		(f.SKU == uuid.Nil || slices.ContainsFunc(o.Lines, asksFor)) &&
		(f.CreatedFrom.IsZero() || !o.CreatedAt.Before(f.CreatedFrom)) &&
		(f.CreatedTo.IsZero() || o.CreatedAt.Before(f.CreatedTo)) &&
		(f.Before == uuid.Nil || compareRefs(o.Ref, Ref{o.TenantID, f.Before}) < 0)
}

// Page is a page of orders, newest first. Next is uuid.Nil on the last one. A page may be short, or
// empty, and have a next one: each looks at a bounded number of rows.
type Page struct {
	Orders []Order
	Next   uuid.UUID
}

// List reads a page of a tenant's orders with their lines.
func (s *Service) List(ctx context.Context, tenantID uuid.UUID, f Filter) (Page, error) {
	if f.ClientReference != "" {
		return s.byReference(ctx, tenantID, f)
	}
	if f.Before == uuid.Nil {
		f.Before = uuid.Max
	}
	limit := pageSize(f.Limit)
	last, err := s.lastLookedAt(ctx, tenantID, f.Before)
	if err != nil {
		return Page{}, err
	}
	rows, err := orderdb.New().ListOrders(ctx, s.pool, orderdb.ListOrdersParams{
		TenantID: tenantID, Before: f.Before, LastLookedAt: last, PageSize: limit,
		State: pgtx.OrNull(string(f.State)), Account: pgtx.OrNull(f.Account), Sku: pgtx.OrNull(f.SKU),
		CreatedFrom: pgtx.OrNull(f.CreatedFrom), CreatedTo: pgtx.OrNull(f.CreatedTo),
	})
	if err != nil {
		return Page{}, fmt.Errorf("list orders of tenant %s: %w", tenantID, err)
	}
	page := Page{Next: last}
	if len(rows) == int(limit) {
		page.Next = rows[len(rows)-1].ID
	}
	page.Orders, err = s.withLines(ctx, fromRows(rows))
	return page, err
}

// withLines adds the lines to orders that were read without them.
func (s *Service) withLines(ctx context.Context, orders []Order) ([]Order, error) {
	if len(orders) == 0 {
		return orders, nil
	}
	tenants, ids := make([]uuid.UUID, len(orders)), make([]uuid.UUID, len(orders))
	for i, o := range orders {
		tenants[i], ids[i] = o.TenantID, o.ID
	}
	rows, err := orderdb.New().ReadLines(ctx, s.pool, orderdb.ReadLinesParams{Tenants: tenants, Ids: ids})
	if err != nil {
		return nil, fmt.Errorf("read lines of %d orders: %w", len(orders), err)
	}
	lines := map[uuid.UUID][]Line{}
	for _, r := range rows {
		lines[r.OrderID] = append(lines[r.OrderID], Line{
			SKU: r.SkuID, Quantity: r.Quantity,
			UnitPrice: r.UnitPrice,
		})
	}
	for i := range orders {
		orders[i].Lines = lines[orders[i].ID]
	}
	return orders, nil
}

// pageSize keeps a caller's limit between one row and PageMaxRows.
func pageSize(limit int) int32 { return int32(min(max(limit, 1), PageMaxRows)) }

// lastLookedAt is where a page stops looking; uuid.Nil if it reaches the end.
func (s *Service) lastLookedAt(ctx context.Context, tenantID, before uuid.UUID) (uuid.UUID, error) {
	id, err := orderdb.New().LastLookedAt(ctx, s.pool, orderdb.LastLookedAtParams{
		TenantID: tenantID, Before: before, LastOffset: listScanRows - 1,
	})
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return uuid.Nil, fmt.Errorf("bound list of tenant %s: %w", tenantID, err)
	}
	return id, nil
}

func (s *Service) byReference(ctx context.Context, tenantID uuid.UUID, f Filter) (Page, error) {
	r, err := orderdb.New().GetByReference(ctx, s.pool, orderdb.GetByReferenceParams{
		TenantID: tenantID, ClientReference: &f.ClientReference,
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return Page{}, nil
	}
	if err != nil {
		return Page{}, fmt.Errorf("find order by reference: %w", err)
	}
	found, err := s.withLines(ctx, []Order{fromRow(r)})
	if err != nil || !f.passes(found[0]) {
		return Page{}, err
	}
	return Page{Orders: found}, nil
}

// Events reads the events of an order after a version, in their order.
func (s *Service) Events(ctx context.Context, ref Ref, after int32) ([]outbox.Event, error) {
	if _, err := s.Get(ctx, ref); err != nil {
		return nil, err
	}
	return outbox.List(ctx, s.pool, ref.TenantID, ref.ID, after)
}

// Action is a move that somebody outside asks for: a client or an operator cancels.
type Action struct {
	Key   idempotency.Keyed
	ID    uuid.UUID
	Event Event
	// Reason is what the asker says of it; the event keeps it.
	Reason string
	// Actor says who asks, Cause through what. An actor that is an operator is so named.
	Actor, Cause string
	Render       func(Order) idempotency.Response

	trace string
}

// reason is the order's reason: who canceled it.
func (a Action) reason() Reason {
	if strings.HasPrefix(a.Actor, "operator:") {
		return ReasonOperator
	}
	return ReasonClient
}

// validate refuses what no outsider may ask for: stock and payment alone reserve and confirm.
func (a Action) validate() error {
	if why := problem.InvalidText(a.Reason, reasonMaxBytes); why != "" {
		return problem.Invalid("/reason", "%s", why)
	}
	switch a.Event {
	case Cancel:
		return nil
	case Reserve, Confirm:
	}
	return fmt.Errorf("act on order %s: %q is no action", a.ID, a.Event)
}

// Act moves an order once per key, or says why it cannot.
func (s *Service) Act(ctx context.Context, a Action) (idempotency.Response, error) {
	if err := a.validate(); err != nil {
		return idempotency.Response{}, err
	}
	a.trace = tracing.Parent(ctx)
	var ended []Order
	response, err := idempotency.Run(ctx, s.pool, "act on order", a.Key,
		func(ctx context.Context, tx pgx.Tx, _ time.Time) (idempotency.Response, error) {
			ended = nil // an earlier attempt was rolled back
			b, out, err := a.run(ctx, tx)
			if err != nil {
				s.countIllegal(err)
				return idempotency.Response{}, err
			}
			ended = b.ended()
			return a.Render(out), nil
		})
	if err != nil {
		return idempotency.Response{}, busy(err)
	}
	if !response.Replayed {
		s.countEnds(ended)
	}
	return response, nil
}

// run decides the move under the locks and writes it.
func (a Action) run(ctx context.Context, tx pgx.Tx) (*moveBatch, Order, error) {
	seen, err := read(ctx, tx, Ref{a.Key.TenantID, a.ID})
	if err != nil {
		return nil, Order{}, err
	}
	m := move{
		seen: seen, ask: askCancel, reason: a.reason(), note: a.Reason, actor: a.Actor, cause: a.Cause,
		trace: a.trace,
	}
	var reads, write pgx.Batch
	b := openMoves(&reads, []move{m})
	if err := tx.SendBatch(ctx, &reads).Close(); err != nil {
		return nil, Order{}, fmt.Errorf("lock order %s: %w", a.ID, err)
	}
	if locked := b.rows[m.seen.Ref]; locked != nil {
		m.seen = *locked // the lock may have been waited for: decide on what is there now
	}
	out := b.decideOne(m)
	if out.err != nil {
		return nil, Order{}, out.err
	}
	if err := b.write(ctx, &write); err != nil {
		return nil, Order{}, err
	}
	return b, out.order, tx.SendBatch(ctx, &write).Close()
}

var errPreview = errors.New("preview is rolled back")

// Preview says what would become of orders if they were placed, reserved and paid now, one after the
// other; everything is rolled back.
func (s *Service) Preview(ctx context.Context, tenantID uuid.UUID, items []New) ([]Result, error) {
	var results []Result
	c := Create{
		Key: idempotency.Keyed{Key: idempotency.Key{TenantID: tenantID}}, Items: items,
		Actor: "preview",
	}
	if err := c.prepare(); err != nil {
		return nil, err
	}
	err := pgtx.Run(ctx, s.pool, "preview orders", func(ctx context.Context, tx pgx.Tx) error {
		var err error
		if results, err = preview(ctx, tx, c); err != nil {
			return err
		}
		return errPreview
	})
	if !errors.Is(err, errPreview) {
		return nil, busy(err)
	}
	return results, nil
}

// preview locks all that the orders would take, in the order of all locks, and decides.
func preview(ctx context.Context, tx pgx.Tx, c Create) ([]Result, error) {
	var payers []ledger.Ref
	var claims []inventory.Claim
	for i, n := range c.Items {
		if c.invalid[i] != nil {
			continue
		}
		o := Order{Ref: Ref{c.Key.TenantID, c.ids[i]}, Location: n.Location, Slot: n.Slot, Lines: n.Lines}
		payers = append(payers, ledger.Ref{TenantID: c.Key.TenantID, ID: n.CustomerAccount})
		claims = append(claims, o.claim())
	}
	var read pgx.Batch
	b := openAccepts(&read, []Create{c}, payers)
	book := inventory.Open(&read, claims)
	book.Stamp(&read)
	if err := tx.SendBatch(ctx, &read).Close(); err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	results := b.results(c)
	for i, r := range results {
		if r.Refused != nil {
			continue
		}
		o := r.Order
		err := book.Reserve(o.claim(), o.PromiseAt)
		if err == nil {
			payer := ledger.Ref{TenantID: o.TenantID, ID: o.CustomerAccount}
			err = b.accounts.Hold(payer, o.ID, o.Total.Value, o.PromiseAt)
		}
		if err != nil {
			results[i] = Result{Refused: problem.Of(err)}
		}
	}
	return results, nil
}
