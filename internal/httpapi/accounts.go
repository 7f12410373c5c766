package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/internal/httpapi/internal/publicapi"
	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/ledger"
	"example.com/holdfast/internal/problem"
)

// nameMaxBytes bounds the name of an account.
const nameMaxBytes = 200

// CreateAccount opens an account.
func (s *publicServer) CreateAccount(
	ctx context.Context, _ publicapi.CreateAccountRequestObject,
) (publicapi.CreateAccountResponseObject, error) {
	c := callOf(ctx)
	var in publicapi.NewAccount
	hash, err := decode(c, uuid.Nil, &in)
	if err != nil {
		return nil, err
	}
	if err := invalid(checkText("/name", in.Name, 1, nameMaxBytes)); err != nil {
		return nil, err
	}
	render := func(a ledger.Account) idempotency.Response {
		return idempotency.Response{
			Status: http.StatusCreated, Location: accounts + "/" + a.ID.String(),
			Body: marshal(renderAccount(a)),
		}
	}
	n := ledger.NewAccount{Name: in.Name, Kind: string(in.Kind), Currency: in.Currency}
	response, err := s.cfg.Accounts.Create(ctx, s.keyed(c, hash), n, render)
	return stored{response, c}, err
}

// SetAccountStatus freezes, unfreezes or closes an account.
func (s *publicServer) SetAccountStatus(
	ctx context.Context, in publicapi.SetAccountStatusRequestObject,
) (publicapi.SetAccountStatusResponseObject, error) {
	c := callOf(ctx)
	var request publicapi.AccountStatusRequest
	hash, err := decode(c, in.ID, &request)
	if err != nil {
		return nil, err
	}
	if !request.Status.Valid() {
		return nil, problem.Invalid("/status", "has to be active, frozen or closed")
	}
	render := func(a ledger.Account) idempotency.Response {
		return idempotency.Response{Status: http.StatusOK, Body: marshal(renderAccount(a))}
	}
	response, err := s.cfg.Accounts.SetStatus(ctx, s.keyed(c, hash), in.ID, string(request.Status), render)
	return stored{response, c}, err
}

// GetAccount reads an account with its balance.
func (s *publicServer) GetAccount(
	ctx context.Context, in publicapi.GetAccountRequestObject,
) (publicapi.GetAccountResponseObject, error) {
	a, err := s.cfg.Accounts.Account(ctx, ledger.Ref{TenantID: callOf(ctx).tenantID, ID: in.ID})
	if err != nil {
		return nil, err
	}
	return publicapi.GetAccount200JSONResponse(renderAccount(a)), nil
}

// GetBalance reads the balance of an account, now or at a time.
func (s *publicServer) GetBalance(
	ctx context.Context, in publicapi.GetBalanceRequestObject,
) (publicapi.GetBalanceResponseObject, error) {
	ref := ledger.Ref{TenantID: callOf(ctx).tenantID, ID: in.ID}
	a, err := s.cfg.Accounts.Account(ctx, ref)
	if err != nil {
		return nil, err
	}
	if in.Params.At.IsZero() {
		return publicapi.GetBalance200JSONResponse(renderBalance(a)), nil
	}
	then, err := s.cfg.Accounts.BalanceAt(ctx, ref, in.Params.At)
	if err != nil {
		return nil, err
	}
	return publicapi.GetBalance200JSONResponse{
		Currency: a.Currency, Posted: then.Posted, Version: then.Version, At: inUTC(then.At),
	}, nil
}

// inUTC keeps the zero time zero.
func inUTC(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC()
}

func renderAccount(a ledger.Account) publicapi.Account {
	return publicapi.Account{
		ID: a.ID, Name: a.Name, Kind: publicapi.AccountKind(a.Kind), Currency: a.Currency,
		Status: publicapi.AccountStatus(a.Status), Balance: renderBalance(a), CreatedAt: a.CreatedAt.UTC(),
	}
}

func renderBalance(a ledger.Account) publicapi.Balance {
	available := a.Available()
	return publicapi.Balance{
		Currency: a.Currency, Posted: a.Posted, Held: &a.Held, Available: &available, Floor: &a.Floor,
		Version: a.Version,
	}
}
