package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/ledger/internal/ledgerdb"
	"example.com/holdfast/internal/money"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/problem"
)

// Render makes the response that is stored for a change of an account.
type Render = func(Account) idempotency.Response

// Create opens an account with a zero balance and answers what render says, once per key.
func (s *Service) Create(
	ctx context.Context, key idempotency.Keyed, n NewAccount, render Render,
) (idempotency.Response, error) {
	a, err := n.account(key.TenantID)
	if err != nil {
		return idempotency.Response{}, err
	}
	work := func(ctx context.Context, tx pgx.Tx, now time.Time) (idempotency.Response, error) {
		a.CreatedAt = now
		return render(a), s.insert(ctx, tx, a)
	}
	return idempotency.Run(ctx, s.pool, "create account", key, work)
}

// account is the new account as it will be stored, still without its time.
func (n NewAccount) account(tenantID uuid.UUID) (Account, error) {
	if err := n.validate(); err != nil {
		return Account{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Account{}, fmt.Errorf("make account id: %w", err)
	}
	a := Account{
		TenantID: tenantID, ID: id, Name: n.Name, Kind: n.Kind, Currency: n.Currency, Status: StatusActive,
	}
	if n.Kind == KindExternal {
		a.Floor = externalFloor
	}
	return a, nil
}

func (s *Service) insert(ctx context.Context, tx pgx.Tx, a Account) error {
	if err := s.q.InsertAccount(ctx, tx, ledgerdb.InsertAccountParams{
		TenantID: a.TenantID, ID: a.ID, Name: a.Name, Kind: a.Kind, Currency: a.Currency,
		CreatedAt: a.CreatedAt,
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
	ctx context.Context, key idempotency.Keyed, id uuid.UUID, status string, render Render,
) (idempotency.Response, error) {
	if status != StatusActive && status != StatusFrozen && status != StatusClosed {
		return idempotency.Response{}, problem.Invalid("/status", "has to be active, frozen or closed")
	}
	ref := Ref{key.TenantID, id}
	work := func(ctx context.Context, tx pgx.Tx, _ time.Time) (idempotency.Response, error) {
		a, err := s.changeStatus(ctx, tx, ref, status)
		if err != nil {
			return idempotency.Response{}, err
		}
		return render(a), nil
	}
	return idempotency.Run(ctx, s.pool, "set account status", key, work)
}

func (s *Service) changeStatus(ctx context.Context, tx pgx.Tx, ref Ref, status string) (Account, error) {
	var read pgx.Batch
	book := Open(&read, []Ref{ref}, nil)
	if err := tx.SendBatch(ctx, &read).Close(); err != nil {
		return Account{}, fmt.Errorf("lock balance of account %s: %w", ref.ID, err)
	}
	if err := book.checkStatus(ref, status); err != nil {
		return Account{}, err
	}
	if err := s.q.SetStatus(ctx, tx, ledgerdb.SetStatusParams{
		Status: status, TenantID: ref.TenantID, AccountID: ref.ID,
	}); err != nil {
		return Account{}, fmt.Errorf("set status of account %s: %w", ref.ID, err)
	}
	return s.read(ctx, tx, ref)
}

func (b *Book) checkStatus(ref Ref, status string) error {
	l, ok := b.locked[ref]
	switch {
	case !ok:
		return notFound(ref)
	case l.status == StatusClosed && status != StatusClosed:
		return problem.New(problem.AccountClosed, "Account %s is closed and stays so.", ref.ID)
	case status == StatusClosed && (l.posted != 0 || l.held != 0):
		return problem.New(problem.AccountNotEmpty,
			"Account %s has %d posted and %d held.", ref.ID, l.posted, l.held)
	}
	return nil
}

// Seed opens an account with an opening balance paid from another account of the tenant, for
// demonstrations, tests and load runs.
func (s *Service) Seed(
	ctx context.Context, tenantID, from uuid.UUID, n NewAccount, amount int64,
) (Account, error) {
	a, err := n.account(tenantID)
	if err != nil {
		return Account{}, err
	}
	if amount < 0 || amount > money.MaxValue {
		return Account{}, problem.Invalid("/amount", "has to be 0 to %d", money.MaxValue)
	}
	err = pgtx.Run(ctx, s.pool, "seed account", func(ctx context.Context, tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, ledgerdb.SystemNow).Scan(&a.CreatedAt); err != nil {
			return fmt.Errorf("read time: %w", err)
		}
		if err := s.insert(ctx, tx, a); err != nil || amount == 0 {
			return err
		}
		return s.openingBalance(ctx, tx, Ref{tenantID, from}, Ref{tenantID, a.ID}, amount)
	})
	if err != nil {
		return Account{}, err
	}
	return s.Account(ctx, Ref{tenantID, a.ID})
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
	if err := book.payOpening(from, to, entryID, amount); err != nil {
		return err
	}
	if err := book.Write(ctx, &write); err != nil {
		return err
	}
	if err := tx.SendBatch(ctx, &write).Close(); err != nil {
		return fmt.Errorf("write opening balance of account %s: %w", to.ID, err)
	}
	return nil
}
