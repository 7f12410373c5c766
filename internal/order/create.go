package order

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/holdfast/internal/fairshare"
	"example.com/holdfast/internal/fault"
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

// faultAfterPlace is where a test may crash an API between the commit and the reply.
const faultAfterPlace = "order.place.after_commit"

// Result is the outcome of one item: an order, or why there is none.
type Result struct {
	Order   Order
	Refused *problem.Error
}

// Create asks for one order, or for several under one key with a result each.
type Create struct {
	Key   idempotency.Keyed
	Items []New
	// Actor says who asks, Cause through what.
	Actor, Cause string
	// Render puts the results into the response that is stored with them. It is called inside the
	// batch: it has to be pure and quick.
	Render func([]Result) idempotency.Response

	ids     []uuid.UUID
	invalid []error
	lane    int16
	trace   string
}

// accepted is what one Create came to.
type accepted struct {
	response idempotency.Response
	err      error
}

// Create places orders: each is stored with its lines, its event and its wake-up, and the response with
// its key, in one transaction that it shares with its neighbours. Nothing is reserved yet: that is the
// first step of the order's life. A request that was answered before gets that answer again.
func (s *Service) Create(ctx context.Context, c Create) (idempotency.Response, error) {
	if err := c.prepare(); err != nil {
		return idempotency.Response{}, err
	}
	c.lane = int16(s.lanes.Bring(c.Key.TenantID, len(c.Items), s.cfg.Now())) //nolint:gosec // one of four
	c.trace = tracing.Parent(ctx)
	combiner := s.accepts
	if len(c.Items) > 1 {
		combiner = s.bulks
	}
	out, err := combiner.Do(ctx, c)
	if err == nil {
		err = fault.At(ctx, faultAfterPlace)
	}
	if err != nil {
		return idempotency.Response{}, fmt.Errorf("place order: %w", err)
	}
	return out.response, out.err
}

// prepare does what needs no look at anything, before the batch: it validates each item, merges its lines
// and gives it its id. A single item that is not valid ends the request; among several it is refused
// alone.
func (c *Create) prepare() error {
	if len(c.Items) == 0 || len(c.Items) > BulkMaxItems {
		return problem.Invalid("/orders", "has to have 1 to %d items", BulkMaxItems)
	}
	items := make([]New, len(c.Items))
	c.ids, c.invalid = make([]uuid.UUID, len(c.Items)), make([]error, len(c.Items))
	for i, n := range c.Items {
		id, err := uuid.NewV7()
		if err != nil {
			return fmt.Errorf("make order id: %w", err)
		}
		c.ids[i], c.invalid[i] = id, n.validate()
		items[i] = n
		items[i].Lines = merge(n.Lines)
	}
	c.Items = items
	if len(c.Items) == 1 {
		return c.invalid[0]
	}
	return nil
}

// valid lists the items that are looked at. The others are refused unseen: what they name may not even
// be readable.
func (c *Create) valid() []New {
	var items []New
	for i, n := range c.Items {
		if c.invalid[i] == nil {
			items = append(items, n)
		}
	}
	return items
}

// flushAccepts places a batch of orders in one transaction of two round trips.
func (s *Service) flushAccepts(ctx context.Context, requests []Create) ([]accepted, error) {
	var b *acceptBatch
	decided := false
	var outcomes []accepted
	err := pgtx.Pipeline(ctx, s.pool, "place orders",
		func(read *pgx.Batch) { b = openAccepts(read, requests, nil) },
		func(write *pgx.Batch) error {
			decided = true
			outcomes = b.decide(requests)
			return b.write(ctx, write)
		})
	switch {
	case err == nil:
		s.count(b.inserted)
		return outcomes, nil
	case pgtx.Busy(err) && decided:
		return nil, idempotency.InProgress(err) // nothing else is locked: only a key can be waited for
	}
	return nil, busy(err)
}

// retryAfterBusy is how long a caller should wait when something stayed locked.
const retryAfterBusy = time.Second

// busy tells the caller to come again when a row stayed locked for longer than anybody waits.
func busy(err error) error {
	var known *problem.Error
	if !pgtx.Busy(err) || errors.As(err, &known) {
		return err
	}
	p := problem.Wrap(problem.Unavailable, err, "Something that the order needs is locked.")
	p.RetryAfter = retryAfterBusy
	return p
}

// acceptBatch is what a batch of requests read and decided.
type acceptBatch struct {
	accounts *ledger.Book
	keys     *idempotency.Ledger
	taken    map[reference]bool
	skus     map[inventory.Ref]inventory.SKU
	slots    map[inventory.Ref]inventory.Slot

	inserted []Order
	events   []outbox.Event
}

type reference struct {
	tenantID uuid.UUID
	name     string
}

// openAccepts queues the reads of a batch. Placing an order locks nothing; only a preview locks the
// accounts that it would pay from.
func openAccepts(read *pgx.Batch, requests []Create, lock []ledger.Ref) *acceptBatch {
	b := &acceptBatch{
		taken: map[reference]bool{}, skus: map[inventory.Ref]inventory.SKU{},
		slots: map[inventory.Ref]inventory.Slot{},
	}
	var keys []idempotency.Key
	var n needs
	for _, r := range requests {
		if r.Key.Key.Key != "" {
			keys = append(keys, r.Key.Key)
		}
		for _, item := range r.valid() {
			n.add(r.Key.TenantID, item)
		}
	}
	b.accounts = ledger.Open(read, lock, n.accounts)
	b.keys = idempotency.Open(read, keys)
	inventory.ReadSKUs(read, n.skus, func(k inventory.SKU) {
		b.skus[inventory.Ref{TenantID: k.TenantID, ID: k.ID}] = k
	})
	if n.slots != nil {
		inventory.ReadSlots(read, n.slots, func(ref inventory.Ref, d inventory.Slot) { b.slots[ref] = d })
	}
	if n.refNames != nil {
		pgtx.Read(read, func(r orderdb.FindReferencesRow) {
			b.taken[reference{r.TenantID, pgtx.OrZero(r.ClientReference)}] = true
		}, orderdb.FindReferences, n.refTenants, n.refNames)
	}
	return b
}

// needs is what the decision about orders looks at.
type needs struct {
	accounts    []ledger.Ref
	skus, slots []inventory.Ref
	refTenants  []uuid.UUID
	refNames    []string
}

func (n *needs) add(tenantID uuid.UUID, item New) {
	n.accounts = append(n.accounts, ledger.Ref{TenantID: tenantID, ID: item.CustomerAccount},
		ledger.Ref{TenantID: tenantID, ID: item.MerchantAccount})
	for _, l := range item.Lines {
		n.skus = append(n.skus, inventory.Ref{TenantID: tenantID, ID: l.SKU})
	}
	if item.Slot != uuid.Nil {
		n.slots = append(n.slots, inventory.Ref{TenantID: tenantID, ID: item.Slot})
	}
	if item.ClientReference != "" {
		n.refTenants, n.refNames = append(n.refTenants, tenantID), append(n.refNames, item.ClientReference)
	}
}

// decide answers every request of the batch in order; it touches nothing outside the batch.
func (b *acceptBatch) decide(requests []Create) []accepted {
	outcomes := make([]accepted, len(requests))
	for i, r := range requests {
		outcomes[i] = b.decideOne(r)
	}
	return outcomes
}

func (b *acceptBatch) decideOne(r Create) accepted {
	if r.Key.Key.Key != "" {
		if response, found, err := b.keys.Find(r.Key.Key); found || err != nil {
			return accepted{response, err}
		}
	}
	response := r.Render(b.results(r))
	if r.Key.Key.Key != "" {
		b.keys.Store(r.Key.Key, response)
	}
	return accepted{response: response}
}

func (b *acceptBatch) results(r Create) []Result {
	results := make([]Result, len(r.Items))
	for i, n := range r.Items {
		o, err := Order{}, r.invalid[i]
		if err == nil {
			o, err = b.accept(r, n, r.ids[i])
		}
		if err != nil {
			results[i].Refused = problem.Of(err)
			continue
		}
		results[i].Order = o
	}
	return results
}

// accept decides one valid order. The first rule that refuses is the answer: the client's own reference
// first, since it says that this may be a repetition; then SKUs and total, the accounts, and the slot.
// Whether there is enough of it all is not decided here.
func (b *acceptBatch) accept(r Create, n New, id uuid.UUID) (Order, error) {
	ref := reference{r.Key.TenantID, n.ClientReference}
	if n.ClientReference != "" && b.taken[ref] {
		return Order{}, problem.New(problem.ReferenceUsed,
			"client_reference %q is already used.", n.ClientReference)
	}
	now := b.accounts.Now()
	o := Order{
		Ref: Ref{r.Key.TenantID, id}, CustomerAccount: n.CustomerAccount, MerchantAccount: n.MerchantAccount,
		Location: n.Location, Slot: n.Slot, State: Pending, Version: 1, ClientReference: n.ClientReference,
		Metadata: n.Metadata, PaymentState: PaymentNone, WakeAt: now, PromiseAt: now.Add(promiseWindow),
		CreatedAt: now, UpdatedAt: now, Lane: max(r.lane, fairshare.First),
		trace: r.trace,
	}
	var err error
	if o.Lines, o.Total, err = b.price(o.TenantID, n.Lines); err != nil {
		return Order{}, err
	}
	if err := b.accounts.CheckEarly(ledger.Ref{TenantID: o.TenantID, ID: o.CustomerAccount},
		ledger.Ref{TenantID: o.TenantID, ID: o.MerchantAccount}, o.Total.Currency); err != nil {
		return Order{}, err
	}
	if err := b.checkMerchant(o); err != nil {
		return Order{}, err
	}
	if err := b.checkSlot(o); err != nil {
		return Order{}, err
	}
	if n.ClientReference != "" {
		b.taken[ref] = true
	}
	b.inserted = append(b.inserted, o)
	b.events = append(b.events, event(o, "", r.Actor, r.Cause))
	return o, nil
}

// price fixes the prices of the lines and adds them up. All SKUs of an order are in one currency.
func (b *acceptBatch) price(tenantID uuid.UUID, lines []Line) ([]Line, money.Amount, error) {
	priced := make([]Line, len(lines))
	var total money.Amount
	for i, l := range lines {
		k, ok := b.skus[inventory.Ref{TenantID: tenantID, ID: l.SKU}]
		if !ok {
			return nil, total, problem.New(problem.SKUNotFound, "SKU %s does not exist.", l.SKU)
		}
		if total.Currency != "" && total.Currency != k.Currency {
			return nil, total, problem.New(problem.CurrencyMismatch,
				"SKU %s is in %s, another one in %s.", l.SKU, k.Currency, total.Currency)
		}
		total.Currency = k.Currency
		priced[i] = Line{SKU: l.SKU, Quantity: l.Quantity, UnitPrice: k.Price}
	}
	for _, l := range priced {
		if l.Quantity > (money.MaxValue-total.Value)/l.UnitPrice {
			return nil, total, problem.New(problem.TotalOverflow,
				"The total is above the largest amount, %d.", money.MaxValue)
		}
		total.Value += l.Quantity * l.UnitPrice
	}
	return priced, total, nil
}

// checkMerchant refuses a merchant outside: what is paid out by the rail cannot be reversed, so an order that
// is canceled after its payment could not be paid back.
func (b *acceptBatch) checkMerchant(o Order) error {
	if b.accounts.External(ledger.Ref{TenantID: o.TenantID, ID: o.MerchantAccount}) {
		return problem.New(problem.AccountExternal,
			"Account %s is external: what an order pays has to stay reversible.", o.MerchantAccount)
	}
	return nil
}

func (b *acceptBatch) checkSlot(o Order) error {
	if o.Slot == uuid.Nil {
		return nil
	}
	d, ok := b.slots[inventory.Ref{TenantID: o.TenantID, ID: o.Slot}]
	if !ok {
		return problem.New(problem.SlotNotFound, "Slot %s does not exist.", o.Slot)
	}
	return d.Check(o.Location, b.accounts.Now())
}

// write queues everything that the batch decided.
func (b *acceptBatch) write(ctx context.Context, write *pgx.Batch) error {
	now := b.accounts.Now()
	if err := b.keys.Write(ctx, write, now); err != nil {
		return err
	}
	if len(b.inserted) == 0 {
		return nil
	}
	if err := insertOrders(ctx, write, now, b.inserted); err != nil {
		return err
	}
	if err := insertLines(ctx, write, b.inserted); err != nil {
		return err
	}
	if err := outbox.Append(ctx, write, now, b.events); err != nil {
		return err
	}
	return enqueue(write, b.inserted)
}

func insertOrders(ctx context.Context, write *pgx.Batch, now time.Time, orders []Order) error {
	n := len(orders)
	p := orderdb.InsertOrdersParams{
		Now: now, Tenants: make([]uuid.UUID, n), Ids: make([]uuid.UUID, n), Customers: make([]uuid.UUID, n),
		Merchants: make([]uuid.UUID, n), Locations: make([]string, n), Slots: make([]uuid.UUID, n),
		Currencies: make([]string, n), Totals: make([]int64, n), ClientReferences: make([]string, n),
		Metadata: make([][]byte, n), Lanes: make([]int16, n), PromisesAt: make([]time.Time, n),
	}
	for i, o := range orders {
		p.Tenants[i], p.Ids[i] = o.TenantID, o.ID
		p.Customers[i], p.Merchants[i] = o.CustomerAccount, o.MerchantAccount
		p.Locations[i], p.Slots[i] = o.Location, o.Slot
		p.Currencies[i], p.Totals[i] = o.Total.Currency, o.Total.Value
		p.ClientReferences[i], p.Metadata[i] = o.ClientReference, o.Metadata
		p.Lanes[i], p.PromisesAt[i] = o.Lane, o.PromiseAt
	}
	return orderdb.New().InsertOrders(ctx, pgtx.Into(write), p)
}

func insertLines(ctx context.Context, write *pgx.Batch, orders []Order) error {
	var p orderdb.InsertLinesParams
	for _, o := range orders {
		for _, l := range o.Lines {
			p.Tenants, p.Orders = append(p.Tenants, o.TenantID), append(p.Orders, o.ID)
			p.Skus, p.Quantities = append(p.Skus, l.SKU), append(p.Quantities, l.Quantity)
			p.UnitPrices = append(p.UnitPrices, l.UnitPrice)
		}
	}
	return orderdb.New().InsertLines(ctx, pgtx.Into(write), p)
}
