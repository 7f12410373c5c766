// Package ledger keeps money: accounts, balances, holds, and entries with their postings.
//
// It refuses floats, overdrafts below an account's floor, and any change of history: a correction is
// a new entry. It knows nothing of transfers or orders; their owners lock balances with Open, decide
// on the Book, and Write it in their own transaction.
//
// Invariants: the postings of an entry sum to zero per currency; an account's posted amount is the
// sum of its postings and its version is their number, without gaps; posted minus held never goes
// below the floor; held is the sum of the active holds.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/ledger/internal/ledgerdb"
	"example.com/holdfast/internal/money"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/problem"
)

// The statuses of an account. A frozen account takes part in nothing new; what was accepted before
// is drained. A closed one is empty and stays so.
const (
	StatusActive = "active"
	StatusFrozen = "frozen"
	StatusClosed = "closed"
)

// The ends of a hold.
const (
	HoldCaptured = "captured"
	HoldReleased = "released"
	HoldExpired  = "expired"
)

// The kinds of an entry.
const (
	EntryTransfer = "transfer"
	EntryOpening  = "opening"
)

// KindUser is an account of a tenant's customer; KindExternal is the world outside, from which
// opening balances come, and the only kind that may go below zero.
const (
	KindUser     = "user"
	KindExternal = "external"
)

// externalFloor is how far below zero an external account may go, in minor units.
const externalFloor = -1_000_000_000_000_000_000

// nameMaxBytes bounds the name of an account.
const nameMaxBytes = 200

// Account is an account with its balance, both at one moment.
type Account struct {
	TenantID  uuid.UUID
	ID        uuid.UUID
	Name      string
	Kind      string
	Currency  string
	Status    string
	CreatedAt time.Time
	// Floor is the least that available may be, in minor units.
	Floor int64
	// Posted is the sum of the account's postings, in minor units.
	Posted int64
	// Held is the sum of the account's active holds, in minor units.
	Held int64
	// Version is the number of the account's postings.
	Version int64
}

// Available is what may still be held or spent, before the floor, in minor units.
func (a Account) Available() int64 { return a.Posted - a.Held }

// Posting is one line of an account's history.
type Posting struct {
	AccountVersion int64
	EntryID        uuid.UUID
	Amount         int64
	PostedAfter    int64
	Currency       string
	At             time.Time
}

// PostedBalance is what was posted at a time: Version and Posted are those of the last posting that
// is not later, or zero before the first.
type PostedBalance struct {
	Posted  int64
	Version int64
	At      time.Time
}

// NewAccount is what a client says of an account that it opens.
type NewAccount struct {
	Name     string
	Kind     string
	Currency string
}

func (n NewAccount) validate() error {
	switch {
	case n.Name == "" || len(n.Name) > nameMaxBytes:
		return problem.Invalid("/name", "has to have 1 to %d bytes", nameMaxBytes)
	case n.Kind != KindUser && n.Kind != "settlement" && n.Kind != "fee" && n.Kind != "suspense" && n.Kind != KindExternal:
		return problem.Invalid("/kind", "has to be user, settlement, fee, suspense or external")
	case !known(n.Currency):
		return problem.Invalid("/currency", "has to be an active ISO 4217 code")
	}
	return nil
}

// Service reads the ledger and changes accounts. Money moves through a Book.
type Service struct {
	pool *pgxpool.Pool
	q    *ledgerdb.Queries
}

// NewService makes a service on a pool.
func NewService(pool *pgxpool.Pool) *Service { return &Service{pool: pool, q: ledgerdb.New()} }

// Account reads an account and its balance.
func (s *Service) Account(ctx context.Context, ref Ref) (Account, error) {
	r, err := s.q.GetAccount(ctx, s.pool, ledgerdb.GetAccountParams{TenantID: ref.TenantID, ID: ref.ID})
	if errors.Is(err, pgx.ErrNoRows) {
		return Account{}, problem.New(problem.NotFound, "Account %s does not exist.", ref.ID)
	}
	if err != nil {
		return Account{}, fmt.Errorf("read account %s: %w", ref.ID, err)
	}
	return account(ref.TenantID, ledgerdb.ListAccountsRow(r)), nil
}

// Accounts reads up to limit accounts of a tenant after an id, in id order.
func (s *Service) Accounts(ctx context.Context, tenantID, after uuid.UUID, limit int) ([]Account, error) {
	rows, err := s.q.ListAccounts(ctx, s.pool, ledgerdb.ListAccountsParams{
		TenantID: tenantID, After: after, PageSize: int32(limit),
	})
	if err != nil {
		return nil, fmt.Errorf("list accounts of tenant %s: %w", tenantID, err)
	}
	accounts := make([]Account, len(rows))
	for i, r := range rows {
		accounts[i] = account(tenantID, r)
	}
	return accounts, nil
}

func account(tenantID uuid.UUID, r ledgerdb.ListAccountsRow) Account {
	return Account{
		TenantID: tenantID, ID: r.ID, Name: r.Name, Kind: r.Kind, Currency: r.Currency, Status: r.Status,
		CreatedAt: r.CreatedAt, Floor: r.Floor, Posted: r.Posted, Held: r.Held, Version: r.Version,
	}
}

// Postings reads up to limit postings of an account with a version below before, newest first.
func (s *Service) Postings(ctx context.Context, ref Ref, before int64, limit int) ([]Posting, error) {
	if _, err := s.Account(ctx, ref); err != nil {
		return nil, err
	}
	rows, err := s.q.ListPostings(ctx, s.pool, ledgerdb.ListPostingsParams{
		TenantID: ref.TenantID, AccountID: ref.ID, Before: before, PageSize: int32(limit),
	})
	if err != nil {
		return nil, fmt.Errorf("list postings of account %s: %w", ref.ID, err)
	}
	postings := make([]Posting, len(rows))
	for i, r := range rows {
		postings[i] = Posting(r)
	}
	return postings, nil
}

// BalanceAt finds what was posted at a time by bisection over the account's versions: at most 63
// reads of one row each.
func (s *Service) BalanceAt(ctx context.Context, ref Ref, at time.Time) (PostedBalance, error) {
	current, err := s.Account(ctx, ref)
	if err != nil {
		return PostedBalance{}, err
	}
	var found PostedBalance
	var failed error
	sort.Search(int(current.Version), func(i int) bool {
		if failed != nil {
			return true
		}
		p, err := s.q.PostingAt(ctx, s.pool, ledgerdb.PostingAtParams{
			TenantID: ref.TenantID, AccountID: ref.ID, AccountVersion: int64(i) + 1,
		})
		failed = err
		if later := p.At.After(at); later || err != nil {
			return true
		}
		if p.AccountVersion > found.Version {
			found = PostedBalance{Posted: p.PostedAfter, Version: p.AccountVersion, At: p.At}
		}
		return false
	})
	if failed != nil {
		return PostedBalance{}, fmt.Errorf("read balance of account %s at %s: %w", ref.ID, at, failed)
	}
	return found, nil
}

// Create opens an account with a zero balance and answers what render says, once per key.
func (s *Service) Create(
	ctx context.Context, key idempotency.Keyed, n NewAccount, render func(Account) idempotency.Response,
) (idempotency.Response, error) {
	if err := n.validate(); err != nil {
		return idempotency.Response{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return idempotency.Response{}, fmt.Errorf("make account id: %w", err)
	}
	a := Account{TenantID: key.TenantID, ID: id, Name: n.Name, Kind: n.Kind, Currency: n.Currency, Status: StatusActive}
	if n.Kind == KindExternal {
		a.Floor = externalFloor
	}
	return idempotency.Run(ctx, s.pool, "create account", key, func(ctx context.Context, tx pgx.Tx, now time.Time) (idempotency.Response, error) {
		a.CreatedAt = now
		return render(a), s.insert(ctx, tx, a)
	})
}

func (s *Service) insert(ctx context.Context, tx pgx.Tx, a Account) error {
	if err := s.q.InsertAccount(ctx, tx, ledgerdb.InsertAccountParams{
		TenantID: a.TenantID, ID: a.ID, Name: a.Name, Kind: a.Kind, Currency: a.Currency, CreatedAt: a.CreatedAt,
	}); err != nil {
		return fmt.Errorf("insert account %s: %w", a.ID, err)
	}
	if err := s.q.InsertBalance(ctx, tx, ledgerdb.InsertBalanceParams{
		TenantID: a.TenantID, AccountID: a.ID, Floor: a.Floor,
	}); err != nil {
		return fmt.Errorf("insert balance of account %s: %w", a.ID, err)
	}
	return nil
}

// SetStatus freezes, unfreezes or closes an account, once per key. A closed account stays closed,
// and only an empty one can be closed.
func (s *Service) SetStatus(
	ctx context.Context, key idempotency.Keyed, id uuid.UUID, status string, render func(Account) idempotency.Response,
) (idempotency.Response, error) {
	if status != StatusActive && status != StatusFrozen && status != StatusClosed {
		return idempotency.Response{}, problem.Invalid("/status", "has to be active, frozen or closed")
	}
	ref := Ref{key.TenantID, id}
	return idempotency.Run(ctx, s.pool, "set account status", key, func(ctx context.Context, tx pgx.Tx, _ time.Time) (idempotency.Response, error) {
		var read pgx.Batch
		book := Open(&read, []Ref{ref}, nil)
		if err := tx.SendBatch(ctx, &read).Close(); err != nil {
			return idempotency.Response{}, fmt.Errorf("lock balance of account %s: %w", id, err)
		}
		if err := book.checkStatus(ref, status); err != nil {
			return idempotency.Response{}, err
		}
		if err := s.q.SetStatus(ctx, tx, ledgerdb.SetStatusParams{Status: status, TenantID: ref.TenantID, AccountID: id}); err != nil {
			return idempotency.Response{}, fmt.Errorf("set status of account %s: %w", id, err)
		}
		r, err := s.q.GetAccount(ctx, tx, ledgerdb.GetAccountParams{TenantID: ref.TenantID, ID: id})
		if err != nil {
			return idempotency.Response{}, fmt.Errorf("read account %s: %w", id, err)
		}
		return render(account(ref.TenantID, ledgerdb.ListAccountsRow(r))), nil
	})
}

func (b *Book) checkStatus(ref Ref, status string) error {
	l, ok := b.locked[ref]
	switch {
	case !ok:
		return problem.New(problem.NotFound, "Account %s does not exist.", ref.ID)
	case l.status == StatusClosed && status != StatusClosed:
		return problem.New(problem.AccountClosed, "Account %s is closed and stays so.", ref.ID)
	case status == StatusClosed && (l.posted != 0 || l.held != 0):
		return problem.New(problem.AccountNotEmpty, "Account %s has %d posted and %d held.", ref.ID, l.posted, l.held)
	}
	return nil
}

// Seed opens an account with an opening balance paid from another account of the tenant, for
// demonstrations, tests and load runs.
func (s *Service) Seed(ctx context.Context, tenantID, from uuid.UUID, n NewAccount, amount int64) (Account, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Account{}, fmt.Errorf("make account id: %w", err)
	}
	a := Account{TenantID: tenantID, ID: id, Name: n.Name, Kind: n.Kind, Currency: n.Currency, Status: StatusActive}
	if n.Kind == KindExternal {
		a.Floor = externalFloor
	}
	err = pgtx.Run(ctx, s.pool, "seed account", func(ctx context.Context, tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, ledgerdb.SystemNow).Scan(&a.CreatedAt); err != nil {
			return fmt.Errorf("read time: %w", err)
		}
		if err := s.insert(ctx, tx, a); err != nil || amount == 0 {
			return err
		}
		return s.openingBalance(ctx, tx, Ref{tenantID, from}, Ref{tenantID, id}, amount)
	})
	if err != nil {
		return Account{}, err
	}
	return s.Account(ctx, Ref{tenantID, id})
}

func (s *Service) openingBalance(ctx context.Context, tx pgx.Tx, from, to Ref, amount int64) error {
	entryID, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make entry id: %w", err)
	}
	var read, write pgx.Batch
	book := Open(&read, []Ref{from, to}, nil)
	if err := tx.SendBatch(ctx, &read).Close(); err != nil {
		return fmt.Errorf("lock balances: %w", err)
	}
	if err := book.open(from, to, entryID, amount); err != nil {
		return err
	}
	if err := book.Write(ctx, &write); err != nil {
		return err
	}
	return tx.SendBatch(ctx, &write).Close()
}

func known(currency string) bool {
	_, ok := money.Exponent(currency)
	return ok
}
