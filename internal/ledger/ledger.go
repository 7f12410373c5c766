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
	"slices"
	"sort"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/ledger/internal/ledgerdb"
	"example.com/holdfast/internal/money"
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

// The kinds of an account. KindUser belongs to a tenant's customer; KindExternal is the world outside,
// from which opening balances come, and the only kind that may go below zero.
const (
	KindUser       = "user"
	KindSettlement = "settlement"
	KindFee        = "fee"
	KindSuspense   = "suspense"
	KindExternal   = "external"
)

// externalFloor is how far below zero an external account may go, in minor units.
const externalFloor = -1_000_000_000_000_000_000

// nameMaxBytes bounds the name of an account.
const nameMaxBytes = 200

// pageMaxRows bounds a page of accounts or postings.
const pageMaxRows = 1_000

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
	case !utf8.ValidString(n.Name) || strings.ContainsFunc(n.Name, unicode.IsControl):
		return problem.Invalid("/name", "has to be valid UTF-8 without control characters")
	case !slices.Contains([]string{KindUser, KindSettlement, KindFee, KindSuspense, KindExternal}, n.Kind):
		return problem.Invalid("/kind", "has to be user, settlement, fee, suspense or external")
	}
	if _, ok := money.Exponent(n.Currency); !ok {
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
	return s.read(ctx, s.pool, ref)
}

func (s *Service) read(ctx context.Context, db ledgerdb.DBTX, ref Ref) (Account, error) {
	r, err := s.q.GetAccount(ctx, db, ledgerdb.GetAccountParams{TenantID: ref.TenantID, ID: ref.ID})
	if errors.Is(err, pgx.ErrNoRows) {
		return Account{}, notFound(ref)
	}
	if err != nil {
		return Account{}, fmt.Errorf("read account %s: %w", ref.ID, err)
	}
	return account(ref.TenantID, ledgerdb.ListAccountsRow(r)), nil
}

func notFound(ref Ref) error {
	return problem.New(problem.NotFound, "Account %s does not exist.", ref.ID)
}

// Accounts reads up to limit accounts of a tenant after an id, in id order.
func (s *Service) Accounts(ctx context.Context, tenantID, after uuid.UUID, limit int) ([]Account, error) {
	rows, err := s.q.ListAccounts(ctx, s.pool, ledgerdb.ListAccountsParams{
		TenantID: tenantID, After: after, PageSize: pageSize(limit),
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

// pageSize keeps a caller's limit between one row and pageMaxRows.
func pageSize(limit int) int32 {
	return int32(min(max(limit, 1), pageMaxRows))
}

// Postings reads up to limit postings of an account with a version below before, newest first.
func (s *Service) Postings(ctx context.Context, ref Ref, before int64, limit int) ([]Posting, error) {
	if _, err := s.Account(ctx, ref); err != nil {
		return nil, err
	}
	rows, err := s.q.ListPostings(ctx, s.pool, ledgerdb.ListPostingsParams{
		TenantID: ref.TenantID, AccountID: ref.ID, Before: before, PageSize: pageSize(limit),
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
