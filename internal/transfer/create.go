package transfer

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
	"example.com/holdfast/internal/ledger"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/tracing"
	"example.com/holdfast/internal/transfer/internal/transferdb"
)

// faultAfterAccept is where a test may crash an API between the commit and the reply.
const faultAfterAccept = "transfer.accept.after_commit"

// Result is the outcome of one item: a transfer, or why there is none.
type Result struct {
	Transfer Transfer
	Refused  *problem.Error
}

// Create asks for one transfer, or for several under one key with a result each.
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

// Create accepts transfers: each is stored with its hold, its event and its wake-up, and the response
// with its key, in one transaction that it shares with its neighbours. A request that was answered
// before gets that answer again.
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
		err = fault.At(ctx, faultAfterAccept)
	}
	if err != nil {
		return idempotency.Response{}, fmt.Errorf("accept transfer: %w", err)
	}
	return out.response, out.err
}

// prepare does what needs no look at the accounts, before the batch: it validates each item and gives
// it its id. A single item that is not valid ends the request; among several it is refused alone.
func (c *Create) prepare() error {
	if len(c.Items) == 0 || len(c.Items) > BulkMaxItems {
		return problem.Invalid("/transfers", "has to have 1 to %d items", BulkMaxItems)
	}
	c.ids, c.invalid = make([]uuid.UUID, len(c.Items)), make([]error, len(c.Items))
	for i, n := range c.Items {
		id, err := uuid.NewV7()
		if err != nil {
			return fmt.Errorf("make transfer id: %w", err)
		}
		c.ids[i], c.invalid[i] = id, n.validate()
	}
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

// flushAccepts accepts a batch of requests in one transaction of two round trips.
func (s *Service) flushAccepts(ctx context.Context, requests []Create) ([]accepted, error) {
	var b *acceptBatch
	decided := false
	var outcomes []accepted
	err := pgtx.Pipeline(ctx, s.pool, "accept transfers",
		func(read *pgx.Batch) { b = openAccepts(read, requests) },
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
		return nil, idempotency.InProgress(err) // the balances were locked: only a key can be waited for
	}
	return nil, busy(err)
}

// retryAfterBusy is how long a caller should wait when an account stayed locked.
const retryAfterBusy = time.Second

// busy tells the caller to come again when an account stayed locked for longer than anybody waits.
func busy(err error) error {
	var known *problem.Error
	if !pgtx.Busy(err) || errors.As(err, &known) {
		return err
	}
	p := problem.Wrap(problem.Unavailable, err, "An account of the transfer is locked.")
	p.RetryAfter = retryAfterBusy
	return p
}

// acceptBatch is what a batch of requests read and decided.
type acceptBatch struct {
	book      *ledger.Book
	keys      *idempotency.Ledger
	taken     map[reference]bool
	originals map[Ref]*Transfer

	inserted []Transfer
	events   []outbox.Event
	reversed map[Ref]int64
}

type reference struct {
	tenantID uuid.UUID
	name     string
}

// openAccepts queues the locks and reads of a batch: debit balances first, so that what is read after
// them is what the last holder of the lock left.
func openAccepts(read *pgx.Batch, requests []Create) *acceptBatch {
	b := &acceptBatch{taken: map[reference]bool{}, originals: map[Ref]*Transfer{}, reversed: map[Ref]int64{}}
	var lock, look []ledger.Ref
	var keys []idempotency.Key
	var refTenants, origTenants, origIDs []uuid.UUID
	var refNames []string
	for _, r := range requests {
		tenant := r.Key.TenantID
		if r.Key.Key.Key != "" {
			keys = append(keys, r.Key.Key)
		}
		for _, n := range r.valid() {
			lock = append(lock, ledger.Ref{TenantID: tenant, ID: n.FromAccount})
			to := ledger.Ref{TenantID: tenant, ID: n.ToAccount}
			if n.reverses == uuid.Nil {
				look = append(look, to)
			} else { // the original's debit balance guards its reversed amount
				lock = append(lock, to)
				origTenants, origIDs = append(origTenants, tenant), append(origIDs, n.reverses)
			}
			if n.ClientReference != "" {
				refTenants, refNames = append(refTenants, tenant), append(refNames, n.ClientReference)
			}
		}
	}
	b.book = ledger.Open(read, lock, look)
	b.keys = idempotency.Open(read, keys)
	if refNames != nil {
		pgtx.Read(read, func(r transferdb.FindReferencesRow) {
			b.taken[reference{r.TenantID, pgtx.OrZero(r.ClientReference)}] = true
		}, transferdb.FindReferences, refTenants, refNames)
	}
	if origIDs != nil {
		pgtx.Read(read, func(r transferdb.Transfers) {
			t := fromRow(r)
			b.originals[t.Ref] = &t
		}, transferdb.ReadTransfers, origTenants, origIDs)
	}
	return b
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
	results := make([]Result, len(r.Items))
	for i, n := range r.Items {
		t, err := Transfer{}, r.invalid[i]
		if err == nil {
			t, err = b.accept(r, n, r.ids[i])
		}
		if err != nil {
			results[i].Refused = problem.Of(err)
			continue
		}
		results[i].Transfer = t
	}
	response := r.Render(results)
	if r.Key.Key.Key != "" {
		b.keys.Store(r.Key.Key, response)
	}
	return accepted{response: response}
}

// accept decides one valid transfer. The first rule that refuses is the answer: the client's own
// reference first, since it says that this may be a repetition; then the accounts, what is left to
// reverse, and the funds.
func (b *acceptBatch) accept(r Create, n New, id uuid.UUID) (Transfer, error) {
	ref := reference{r.Key.TenantID, n.ClientReference}
	if n.ClientReference != "" && b.taken[ref] {
		return Transfer{}, problem.New(problem.ReferenceUsed,
			"client_reference %q is already used.", n.ClientReference)
	}
	now := b.book.Now()
	t := Transfer{
		Ref: Ref{r.Key.TenantID, id}, FromAccount: n.FromAccount, ToAccount: n.ToAccount, Amount: n.Amount,
		State: Accepted, Version: 1, ClientReference: n.ClientReference, Metadata: n.Metadata,
		Reverses: n.reverses, Notification: NotificationNone, WakeAt: now, PromiseAt: now.Add(promiseWindow),
		CreatedAt: now, UpdatedAt: now, Lane: max(r.lane, fairshare.First), PayoutTry: 1,
		Payout: b.book.External(ledger.Ref{TenantID: r.Key.TenantID, ID: n.ToAccount}),
		trace:  r.trace,
	}
	if err := b.book.Check(t.debit(), t.credit(), t.Amount.Currency); err != nil {
		return Transfer{}, err
	}
	var err error
	if t.Amount.Value, err = b.checkReversal(t, n.allLeft); err != nil {
		return Transfer{}, err
	}
	if err := b.book.Hold(t.debit(), id, t.Amount.Value, t.PromiseAt.Add(holdMargin)); err != nil {
		return Transfer{}, err
	}
	if n.ClientReference != "" {
		b.taken[ref] = true
	}
	if t.Reverses != uuid.Nil {
		original := Ref{t.TenantID, t.Reverses}
		b.originals[original].Reversed += t.Amount.Value
		b.reversed[original] += t.Amount.Value
	}
	b.inserted = append(b.inserted, t)
	b.events = append(b.events, event(t, "", r.Actor, r.Cause))
	return t, nil
}

// write queues everything that the batch decided.
func (b *acceptBatch) write(ctx context.Context, write *pgx.Batch) error {
	now := b.book.Now()
	if err := b.keys.Write(ctx, write, now); err != nil {
		return err
	}
	if len(b.inserted) == 0 {
		return nil
	}
	if err := insertTransfers(ctx, write, now, b.inserted); err != nil {
		return err
	}
	if err := b.book.Write(ctx, write); err != nil {
		return err
	}
	if err := addReversed(ctx, write, b.reversed); err != nil {
		return err
	}
	if err := outbox.Append(ctx, write, now, b.events); err != nil {
		return err
	}
	return enqueue(write, b.inserted)
}

func insertTransfers(ctx context.Context, write *pgx.Batch, now time.Time, transfers []Transfer) error {
	n := len(transfers)
	p := transferdb.InsertTransfersParams{
		Now: now, Tenants: make([]uuid.UUID, n), Ids: make([]uuid.UUID, n),
		FromAccounts: make([]uuid.UUID, n), ToAccounts: make([]uuid.UUID, n), Amounts: make([]int64, n),
		Currencies: make([]string, n), ClientReferences: make([]string, n), Metadata: make([][]byte, n),
		Reverses: make([]uuid.UUID, n), Payouts: make([]bool, n), Lanes: make([]int16, n),
		PromisesAt: make([]time.Time, n),
	}
	for i, t := range transfers {
		p.Tenants[i], p.Ids[i] = t.TenantID, t.ID
		p.FromAccounts[i], p.ToAccounts[i] = t.FromAccount, t.ToAccount
		p.Amounts[i], p.Currencies[i] = t.Amount.Value, t.Amount.Currency
		p.ClientReferences[i], p.Metadata[i] = t.ClientReference, t.Metadata
		p.Reverses[i], p.PromisesAt[i] = t.Reverses, t.PromiseAt
		p.Payouts[i], p.Lanes[i] = t.Payout, t.Lane
	}
	return transferdb.New().InsertTransfers(ctx, pgtx.Into(write), p)
}

var errPreview = errors.New("preview is rolled back")

// Preview accepts transfers as Create does, and rolls everything back.
func (s *Service) Preview(ctx context.Context, tenantID uuid.UUID, items []New) ([]Result, error) {
	var results []Result
	c := Create{
		Key: idempotency.Keyed{Key: idempotency.Key{TenantID: tenantID}}, Items: items, Actor: "preview",
		Render: func(r []Result) idempotency.Response { results = r; return idempotency.Response{} },
	}
	if err := c.prepare(); err != nil {
		return nil, err
	}
	var err error
	for range batchAttempts {
		err = pgtx.Run(ctx, s.pool, "preview transfers", func(ctx context.Context, tx pgx.Tx) error {
			return preview(ctx, tx, c)
		})
		if !pgtx.Raced(err) {
			break
		}
	}
	if !errors.Is(err, errPreview) {
		return nil, busy(err)
	}
	return results, nil
}

// preview does all that Create does and ends in errPreview, which rolls it back.
func preview(ctx context.Context, tx pgx.Tx, c Create) error {
	var read, write pgx.Batch
	b := openAccepts(&read, []Create{c})
	if err := tx.SendBatch(ctx, &read).Close(); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	b.decide([]Create{c})
	if err := b.write(ctx, &write); err != nil {
		return err
	}
	if write.Len() > 0 {
		if err := tx.SendBatch(ctx, &write).Close(); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	return errPreview
}
