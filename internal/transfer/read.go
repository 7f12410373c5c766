package transfer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/money"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/problem"
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
		Amount: money.Amount{Value: r.Amount, Currency: r.Currency}, State: State(r.State), Version: r.Version,
		Reason: pgtx.OrZero(r.Reason), ClientReference: pgtx.OrZero(r.ClientReference), Metadata: r.Metadata,
		Reverses: pgtx.OrZero(r.Reverses), Reversed: r.Reversed, RiskReference: pgtx.OrZero(r.RiskReference),
		Attempts: r.Attempts, Notification: r.Notification, WakeAt: pgtx.OrZero(r.WakeAt),
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
	r, err := transferdb.New().GetTransfer(ctx, s.pool, transferdb.GetTransferParams{TenantID: ref.TenantID, ID: ref.ID})
	if errors.Is(err, pgx.ErrNoRows) {
		return Transfer{}, problem.New(problem.NotFound, "Transfer %s does not exist.", ref.ID)
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
	// Limit is how many transfers the page may have, 1 to PageMaxRows.
	Limit int
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
		return s.byReference(ctx, tenantID, f.ClientReference)
	}
	if f.Before == uuid.Nil {
		f.Before = uuid.Max
	}
	last, err := s.lastLookedAt(ctx, tenantID, f.Before)
	if err != nil {
		return Page{}, err
	}
	rows, err := transferdb.New().ListTransfers(ctx, s.pool, transferdb.ListTransfersParams{
		TenantID: tenantID, Before: f.Before, LastLookedAt: last, PageSize: int32(f.Limit),
		State: pgtx.OrNull(string(f.State)), Account: pgtx.OrNull(f.Account),
		CreatedFrom: pgtx.OrNull(f.CreatedFrom), CreatedTo: pgtx.OrNull(f.CreatedTo),
	})
	if err != nil {
		return Page{}, fmt.Errorf("list transfers of tenant %s: %w", tenantID, err)
	}
	page := Page{Transfers: fromRows(rows), Next: last}
	if len(rows) == f.Limit {
		page.Next = rows[len(rows)-1].ID
	}
	return page, nil
}

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

func (s *Service) byReference(ctx context.Context, tenantID uuid.UUID, name string) (Page, error) {
	r, err := transferdb.New().GetByReference(ctx, s.pool, transferdb.GetByReferenceParams{
		TenantID: tenantID, ClientReference: &name,
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return Page{}, nil
	}
	if err != nil {
		return Page{}, fmt.Errorf("find transfer by reference: %w", err)
	}
	return Page{Transfers: []Transfer{fromRow(r)}}, nil
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
	rows, err := transferdb.New().SystemReviews(ctx, s.pool, int32(limit))
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
}

func (a Action) validate(t Transfer) error {
	if why := invalidText(a.Reason, reasonMaxBytes); why != "" {
		return problem.Invalid("/reason", "%s", why)
	}
	if a.Event != Cancel && t.State != InReview {
		return problem.New(problem.IllegalTransition, "A transfer that is %s waits for no decision.", t.State)
	}
	return nil
}

// Act moves a transfer once per key, or says why it cannot.
func (s *Service) Act(ctx context.Context, a Action) (idempotency.Response, error) {
	var ended []Transfer
	response, err := idempotency.Run(ctx, s.pool, "act on transfer", a.Key,
		func(ctx context.Context, tx pgx.Tx, _ time.Time) (idempotency.Response, error) {
			b, out, err := a.run(ctx, tx)
			if err != nil {
				return idempotency.Response{}, err
			}
			ended = b.ended()
			return a.Render(out), nil
		})
	s.count(err, ended)
	return response, err
}

func (a Action) run(ctx context.Context, tx pgx.Tx) (*moveBatch, Transfer, error) {
	r, err := transferdb.New().GetTransfer(ctx, tx, transferdb.GetTransferParams{TenantID: a.Key.TenantID, ID: a.ID})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, Transfer{}, problem.New(problem.NotFound, "Transfer %s does not exist.", a.ID)
	}
	if err != nil {
		return nil, Transfer{}, fmt.Errorf("read transfer %s: %w", a.ID, err)
	}
	m := move{seen: fromRow(r), events: []Event{a.Event}, reason: a.Reason, actor: a.Actor, cause: a.Cause}
	var read, write pgx.Batch
	b := openMoves(&read, []move{m})
	if err := tx.SendBatch(ctx, &read).Close(); err != nil {
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
