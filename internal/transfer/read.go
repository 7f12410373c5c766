package transfer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/holdfast/internal/fsm"
	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/money"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/tracing"
	"example.com/holdfast/internal/transfer/internal/transferdb"
)

// Wait asks the database again after waitFirst, then after twice that, up to waitLongest.
const (
	waitFirst   = 5 * time.Millisecond
	waitLongest = 250 * time.Millisecond
)

func fromRow(r transferdb.Transfers) Transfer {
	return Transfer{
		Ref: Ref{r.TenantID, r.ID}, FromAccount: r.FromAccount, ToAccount: r.ToAccount,
		Amount: money.Amount{Value: r.Amount, Currency: r.Currency},
		State:  State(r.State), Version: r.Version,
		Reason: pgtx.OrZero(r.Reason), ClientReference: pgtx.OrZero(r.ClientReference), Metadata: r.Metadata,
		Reverses: pgtx.OrZero(r.Reverses), Reversed: r.Reversed, RiskReference: pgtx.OrZero(r.RiskReference),
		RailReference: pgtx.OrZero(r.RailReference), Payout: r.Payout, PayoutTry: r.PayoutTry, Lane: r.Lane,
		Attempts: r.Attempts, Sent: r.Sent, Failures: r.Failures,
		Notification: r.Notification, WakeAt: pgtx.OrZero(r.WakeAt),
		PromiseAt: r.PromiseAt, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
	}
}

func fromRows(rows []transferdb.Transfers) []Transfer {
	transfers := make([]Transfer, len(rows))
	for i, r := range rows {
		transfers[i] = fromRow(r)
	}
	return transfers
}

// Get reads a transfer of a tenant.
func (s *Service) Get(ctx context.Context, ref Ref) (Transfer, error) {
	return read(ctx, s.pool, ref)
}

func read(ctx context.Context, db transferdb.DBTX, ref Ref) (Transfer, error) {
	r, err := transferdb.New().GetTransfer(ctx, db, transferdb.GetTransferParams{
		TenantID: ref.TenantID, ID: ref.ID,
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return Transfer{}, notFound(ref.ID)
	}
	if err != nil {
		return Transfer{}, fmt.Errorf("read transfer %s: %w", ref.ID, err)
	}
	return fromRow(r), nil
}

// Wait reads a transfer until it has ended or maxWait has passed; it returns what it read last.
func (s *Service) Wait(ctx context.Context, ref Ref, maxWait time.Duration) (Transfer, error) {
	deadline := s.cfg.Now().Add(maxWait)
	for pause := waitFirst; ; pause = min(2*pause, waitLongest) {
		t, err := s.Get(ctx, ref)
		left := deadline.Sub(s.cfg.Now())
		if err != nil || t.State.Terminal() || left <= 0 {
			return t, err
		}
		select {
		case <-ctx.Done():
			return t, ctx.Err()
		case <-time.After(min(pause, left)):
		}
	}
}

// Filter says which transfers to list. The zero values do not filter.
type Filter struct {
	State           State
	Account         uuid.UUID
	CreatedFrom     time.Time
	CreatedTo       time.Time
	ClientReference string
	// Before is where the page starts: the Next of the page before.
	Before uuid.UUID
	// Limit is how many transfers the page may have, kept between 1 and PageMaxRows.
	Limit int
}

// passes says what the filter says of a transfer that was found by its reference.
func (f Filter) passes(t Transfer) bool {
	return (f.State == "" || t.State == f.State) &&
		(f.Account == uuid.Nil || t.FromAccount == f.Account || t.ToAccount == f.Account) &&
		(f.CreatedFrom.IsZero() || !t.CreatedAt.Before(f.CreatedFrom)) &&
		(f.CreatedTo.IsZero() || t.CreatedAt.Before(f.CreatedTo)) &&
		(f.Before == uuid.Nil || compareRefs(t.Ref, Ref{t.TenantID, f.Before}) < 0)
}

// Page is a page of transfers, newest first. Next is uuid.Nil on the last one. A page may be short,
// or empty, and have a next one: each looks at a bounded number of rows.
type Page struct {
	Transfers []Transfer
	Next      uuid.UUID
}

// List reads a page of a tenant's transfers.
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
	rows, err := transferdb.New().ListTransfers(ctx, s.pool, transferdb.ListTransfersParams{
		TenantID: tenantID, Before: f.Before, LastLookedAt: last, PageSize: limit,
		State: pgtx.OrNull(string(f.State)), Account: pgtx.OrNull(f.Account),
		CreatedFrom: pgtx.OrNull(f.CreatedFrom), CreatedTo: pgtx.OrNull(f.CreatedTo),
	})
	if err != nil {
		return Page{}, fmt.Errorf("list transfers of tenant %s: %w", tenantID, err)
	}
	page := Page{Transfers: fromRows(rows), Next: last}
	if len(rows) == int(limit) {
		page.Next = rows[len(rows)-1].ID
	}
	return page, nil
}

// pageSize keeps a caller's limit between one row and PageMaxRows.
func pageSize(limit int) int32 { return int32(min(max(limit, 1), PageMaxRows)) }

// lastLookedAt is the id at which a page stops looking, or uuid.Nil if it may look at all there are.
func (s *Service) lastLookedAt(ctx context.Context, tenantID, before uuid.UUID) (uuid.UUID, error) {
	last, err := transferdb.New().LastLookedAt(ctx, s.pool, transferdb.LastLookedAtParams{
		TenantID: tenantID, Before: before, LastOffset: listScanRows - 1,
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return uuid.Nil, nil
	}
	if err != nil {
		return uuid.Nil, fmt.Errorf("find end of page of tenant %s: %w", tenantID, err)
	}
	return last, nil
}

// byReference is a page of the one transfer that may have the reference.
func (s *Service) byReference(ctx context.Context, tenantID uuid.UUID, f Filter) (Page, error) {
	r, err := transferdb.New().GetByReference(ctx, s.pool, transferdb.GetByReferenceParams{
		TenantID: tenantID, ClientReference: &f.ClientReference,
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return Page{}, nil
	}
	if err != nil {
		return Page{}, fmt.Errorf("find transfer by reference: %w", err)
	}
	if t := fromRow(r); f.passes(t) {
		return Page{Transfers: []Transfer{t}}, nil
	}
	return Page{}, nil
}

// Events reads the events of a transfer after a version, in their order.
func (s *Service) Events(ctx context.Context, ref Ref, after int32) ([]outbox.Event, error) {
	if _, err := s.Get(ctx, ref); err != nil {
		return nil, err
	}
	return outbox.List(ctx, s.pool, ref.TenantID, ref.ID, after)
}

// Reviews reads the transfers of all tenants that wait for an operator, the most urgent first.
func (s *Service) Reviews(ctx context.Context, limit int) ([]Transfer, error) {
	rows, err := transferdb.New().SystemReviews(ctx, s.pool, pageSize(limit))
	if err != nil {
		return nil, fmt.Errorf("list reviews: %w", err)
	}
	return fromRows(rows), nil
}

// Action is a move that somebody outside asks for: a client cancels, an operator approves or blocks
// what is in review.
type Action struct {
	Key    idempotency.Keyed
	ID     uuid.UUID
	Event  Event
	Reason string
	// Actor says who asks, Cause through what.
	Actor, Cause string
	Render       func(Transfer) idempotency.Response

	trace string
}

// validate refuses what no outsider may ask for, and a decision that nobody waits for.
func (a Action) validate(t Transfer) error {
	if why := problem.InvalidText(a.Reason, reasonMaxBytes); why != "" {
		return problem.Invalid("/reason", "%s", why)
	}
	switch a.Event {
	case Cancel:
		return nil
	case Approve, Block:
		if t.State == InReview {
			return nil
		}
		return problem.Wrap(problem.IllegalTransition,
			&fsm.IllegalError{From: string(t.State), Event: string(a.Event)},
			fmt.Sprintf("A transfer that is %s waits for no decision.", t.State))
	case Review, Submit, Settle, Expire, Fail:
	}
	return fmt.Errorf("act on transfer %s: %q is no action", a.ID, a.Event)
}

// Act moves a transfer once per key, or says why it cannot.
func (s *Service) Act(ctx context.Context, a Action) (idempotency.Response, error) {
	a.trace = tracing.Parent(ctx)
	var ends []ended
	response, err := idempotency.Run(ctx, s.pool, "act on transfer", a.Key,
		func(ctx context.Context, tx pgx.Tx, _ time.Time) (idempotency.Response, error) {
			ends = nil // an earlier attempt was rolled back
			b, out, err := a.run(ctx, tx, s.cfg.Subscriptions)
			if err != nil {
				s.countIllegal(err)
				return idempotency.Response{}, err
			}
			ends = b.ended()
			return a.Render(out), nil
		})
	if err != nil {
		return idempotency.Response{}, busy(err)
	}
	if !response.Replayed {
		s.countEnds(ends)
	}
	return response, nil
}

// run decides the move under the lock and writes it.
func (a Action) run(
	ctx context.Context, tx pgx.Tx, waiting []outbox.Subscription,
) (*moveBatch, Transfer, error) {
	seen, err := read(ctx, tx, Ref{a.Key.TenantID, a.ID})
	if err != nil {
		return nil, Transfer{}, err
	}
	m := move{seen: seen, events: []Event{a.Event}, reason: a.Reason, actor: a.Actor, cause: a.Cause}
	m.trace = a.trace
	var reads, write pgx.Batch
	b := openMoves(&reads, []move{m}, waiting)
	if err := tx.SendBatch(ctx, &reads).Close(); err != nil {
		return nil, Transfer{}, fmt.Errorf("lock transfer %s: %w", a.ID, err)
	}
	if locked := b.rows[m.seen.Ref]; locked != nil {
		m.seen = *locked // the lock may have been waited for: decide on what is there now
	}
	if err := a.validate(m.seen); err != nil {
		return nil, Transfer{}, err
	}
	out := b.decideOne(m)
	if out.err != nil {
		return nil, Transfer{}, out.err
	}
	if err := b.write(ctx, &write); err != nil {
		return nil, Transfer{}, err
	}
	return b, out.transfer, tx.SendBatch(ctx, &write).Close()
}
