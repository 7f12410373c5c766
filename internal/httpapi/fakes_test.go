package httpapi

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/inventory"
	"example.com/holdfast/internal/ledger"
	"example.com/holdfast/internal/mode"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/tenancy"
	"example.com/holdfast/internal/transfer"
)

type fakeKeys struct{}

func (fakeKeys) Authenticate(_ context.Context, plain string) (tenancy.Principal, error) {
	p := tenancy.Principal{KeyID: plain, TenantID: acme, Scopes: tenancy.Scopes(), Class: tenancy.Standard}
	switch plain {
	case "acme":
	case "globex":
		p.TenantID = globex
	case "reader":
		p.Scopes = []tenancy.Scope{
			tenancy.TransfersRead, tenancy.AccountsRead, tenancy.OrdersRead, tenancy.InventoryRead,
			tenancy.EventsRead, tenancy.WebhooksRead,
		}
	case "sheddable":
		p.Class = tenancy.Sheddable
	default:
		return tenancy.Principal{}, problem.New(problem.Unauthenticated, "The key is not valid.")
	}
	return p, nil
}

func (fakeKeys) AuthenticateAdmin(_ context.Context, plain string) (tenancy.Admin, error) {
	switch role := tenancy.Role(plain); role {
	case tenancy.Viewer, tenancy.Operator, tenancy.Approver:
		return tenancy.Admin{KeyID: plain, Name: "kim", Role: role}, nil
	}
	return tenancy.Admin{}, problem.New(problem.Unauthenticated, "The key is not valid.")
}

// fakeService stands for the domain: it keeps keys as the real one does, knows one transfer and one
// account of acme, and answers err or refuses where a test says so.
type fakeService struct {
	mu      sync.Mutex
	keys    map[string]idempotency.Response
	hashes  map[string]hash
	created []transfer.Create
	acted   []transfer.Action
	filters []transfer.Filter
	waited  []time.Duration
	woken   []woken
	limits  []LimitChange
	// overrides are those of the mode, and simulated is how far back somebody looked last.
	overrides []mode.Override
	simulated time.Duration
	// postures are those of acme, the latest first.
	postures []transfer.Posture
	err      error
	refuse   *problem.Error
	// block, if there is one, holds every call up until it is closed or the context ends.
	block chan struct{}
	panic any
	real  *transfer.Service

	placed       []order.Create
	orderActs    []order.Action
	orderFilters []order.Filter
	changes      []inventory.Change
	// kept counts the changes of the inventory.
	kept int
	feed *fakeFeed
	// asked is what was asked of webhook endpoints.
	asked []asked
}

func newFake() *fakeService {
	return &fakeService{
		keys: map[string]idempotency.Response{}, hashes: map[string]hash{}, feed: &fakeFeed{},
		real: transfer.NewService(transfer.Config{Now: func() time.Time { return noon }}),
	}
}

func (f *fakeService) enter(ctx context.Context) error {
	if f.panic != nil {
		panic(f.panic)
	}
	if f.block != nil {
		select {
		case <-f.block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return f.err
}

func (f *fakeService) once(
	k idempotency.Keyed, work func() (idempotency.Response, error),
) (idempotency.Response, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := k.TenantID.String() + k.Key.Key
	if r, ok := f.keys[name]; ok {
		if f.hashes[name] != k.Hash {
			return r, problem.New(problem.KeyReused, "The key belongs to another request.")
		}
		r.Replayed = true
		return r, nil
	}
	r, err := work()
	if err == nil {
		f.keys[name], f.hashes[name] = r, k.Hash
	}
	return r, err
}

func someTransfer(n transfer.New) transfer.Transfer {
	return transfer.Transfer{
		Ref: transfer.Ref{TenantID: acme, ID: known}, FromAccount: n.FromAccount, ToAccount: n.ToAccount,
		Amount: n.Amount, State: transfer.Accepted, Version: 1, ClientReference: n.ClientReference,
		Metadata: n.Metadata, Notification: transfer.NotificationNone, PromiseAt: noon.Add(time.Minute),
		CreatedAt: noon, UpdatedAt: noon,
	}
}

func (f *fakeService) Create(ctx context.Context, c transfer.Create) (idempotency.Response, error) {
	if err := f.enter(ctx); err != nil {
		return idempotency.Response{}, err
	}
	if err := f.validate(ctx, c); err != nil {
		return idempotency.Response{}, err
	}
	return f.once(c.Key, func() (idempotency.Response, error) {
		f.created = append(f.created, c)
		results := make([]transfer.Result, len(c.Items))
		for i, n := range c.Items {
			results[i] = transfer.Result{Transfer: someTransfer(n), Refused: f.refuse}
			if alone := (transfer.Create{Items: []transfer.New{n}}); f.validate(ctx, alone) != nil {
				results[i].Refused = problem.Of(f.validate(ctx, alone))
			}
		}
		return c.Render(results), nil
	})
}

// validate asks the real domain, which looks at nothing outside before it has found a request valid.
func (f *fakeService) validate(ctx context.Context, c transfer.Create) error {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := f.real.Create(ended, c); problem.Is(err, problem.ValidationFailed) {
		return err
	}
	return nil
}

func (f *fakeService) Preview(
	ctx context.Context, _ uuid.UUID, items []transfer.New,
) ([]transfer.Result, error) {
	var out []transfer.Result
	_, err := f.Create(ctx, transfer.Create{
		Key: idempotency.Keyed{Key: idempotency.Key{Key: uuid.NewString()}}, Items: items,
		Render: func(r []transfer.Result) idempotency.Response { out = r; return idempotency.Response{} },
	})
	return out, err
}

func (f *fakeService) Reverse(ctx context.Context, r transfer.Reversal) (idempotency.Response, error) {
	original, err := f.Get(ctx, transfer.Ref{TenantID: r.Key.TenantID, ID: r.ID})
	if err != nil {
		return idempotency.Response{}, err
	}
	amount := original.Amount
	if r.Amount != 0 {
		amount.Value = r.Amount
	}
	n := transfer.New{
		FromAccount: bank, ToAccount: cash, Amount: amount, ClientReference: r.ClientReference,
		Metadata: r.Metadata,
	}
	return f.Create(ctx, transfer.Create{
		Key: r.Key, Items: []transfer.New{n}, Actor: r.Actor, Cause: r.Cause, Render: r.Render,
	})
}

func (f *fakeService) Get(ctx context.Context, ref transfer.Ref) (transfer.Transfer, error) {
	if err := f.enter(ctx); err != nil {
		return transfer.Transfer{}, err
	}
	if (ref != transfer.Ref{TenantID: acme, ID: known}) {
		return transfer.Transfer{}, problem.New(problem.NotFound, "Transfer %s does not exist.", ref.ID)
	}
	t := someTransfer(transfer.New{FromAccount: cash, ToAccount: bank})
	t.Amount.Value, t.Amount.Currency, t.State, t.Version = 125, "EUR", transfer.Settled, 3
	return t, nil
}

func (f *fakeService) Wait(
	ctx context.Context, ref transfer.Ref, most time.Duration,
) (transfer.Transfer, error) {
	f.mu.Lock()
	f.waited = append(f.waited, most)
	f.mu.Unlock()
	return f.Get(ctx, ref)
}

func (f *fakeService) List(
	ctx context.Context, tenantID uuid.UUID, q transfer.Filter,
) (transfer.Page, error) {
	f.filters = append(f.filters, q)
	t, err := f.Get(ctx, transfer.Ref{TenantID: tenantID, ID: known})
	if err != nil {
		return transfer.Page{}, err
	}
	if q.Before != uuid.Nil {
		return transfer.Page{}, nil
	}
	return transfer.Page{Transfers: []transfer.Transfer{t}, Next: known}, nil
}

func (f *fakeService) Act(ctx context.Context, a transfer.Action) (idempotency.Response, error) {
	t, err := f.Get(ctx, transfer.Ref{TenantID: a.Key.TenantID, ID: a.ID})
	if err != nil {
		return idempotency.Response{}, err
	}
	return f.once(a.Key, func() (idempotency.Response, error) {
		f.acted = append(f.acted, a)
		if p := f.refuse; p != nil {
			return a.Key.Refuse(p), nil
		}
		return a.Render(t), nil
	})
}

func (f *fakeService) Events(ctx context.Context, ref transfer.Ref, after int32) ([]outbox.Event, error) {
	if _, err := f.Get(ctx, ref); err != nil || after > 0 {
		return nil, err
	}
	return []outbox.Event{{
		Seq: 1, Type: "transfer.accepted", To: "accepted", Actor: "api:acme", Cause: "request:1",
		Data: json.RawMessage(`{"a":1}`), At: noon,
	}}, nil
}

func (f *fakeService) Reviews(ctx context.Context, limit int) ([]transfer.Transfer, error) {
	if err := f.enter(ctx); err != nil || limit < 1 {
		return nil, err
	}
	t := someTransfer(transfer.New{FromAccount: cash, ToAccount: bank})
	t.Amount.Value, t.Amount.Currency, t.State, t.Reason = 125, "EUR", transfer.InReview, "unusual amount"
	return []transfer.Transfer{t}, nil
}

// fakeAccounts is the account side of the same world.
type fakeAccounts struct{ *fakeService }

func someAccount(id uuid.UUID) ledger.Account {
	return ledger.Account{
		TenantID: acme, ID: id, Name: "Cash", Kind: "user", Currency: "EUR", Status: "active",
		CreatedAt: noon, Posted: 10_000, Held: 125, Version: 4,
	}
}

func (f fakeAccounts) Create(
	ctx context.Context, k idempotency.Keyed, n ledger.NewAccount,
	render func(ledger.Account) idempotency.Response,
) (idempotency.Response, error) {
	if err := f.enter(ctx); err != nil {
		return idempotency.Response{}, err
	}
	return f.once(k, func() (idempotency.Response, error) {
		if p := f.refuse; p != nil {
			return k.Refuse(p), nil
		}
		a := someAccount(cash)
		a.Name, a.Kind, a.Currency = n.Name, n.Kind, n.Currency
		return render(a), nil
	})
}

func (f fakeAccounts) SetStatus(
	ctx context.Context, k idempotency.Keyed, id uuid.UUID, status string,
	render func(ledger.Account) idempotency.Response,
) (idempotency.Response, error) {
	a, err := f.Account(ctx, ledger.Ref{TenantID: k.TenantID, ID: id})
	if err != nil {
		return idempotency.Response{}, err
	}
	return f.once(k, func() (idempotency.Response, error) {
		if p := f.refuse; p != nil {
			return k.Refuse(p), nil
		}
		a.Status = status
		return render(a), nil
	})
}

func (f fakeAccounts) Account(ctx context.Context, ref ledger.Ref) (ledger.Account, error) {
	if err := f.enter(ctx); err != nil {
		return ledger.Account{}, err
	}
	if (ref != ledger.Ref{TenantID: acme, ID: cash}) {
		return ledger.Account{}, problem.New(problem.NotFound, "Account %s does not exist.", ref.ID)
	}
	return someAccount(cash), nil
}

func (f fakeAccounts) Accounts(_ context.Context, _, after uuid.UUID, limit int) ([]ledger.Account, error) {
	all := []ledger.Account{someAccount(cash), someAccount(bank)}
	if after == cash {
		all = all[1:]
	}
	return all[:min(limit, len(all))], nil
}

func (f fakeAccounts) Postings(
	ctx context.Context, ref ledger.Ref, before int64, limit int,
) ([]ledger.Posting, error) {
	if _, err := f.Account(ctx, ref); err != nil {
		return nil, err
	}
	var out []ledger.Posting
	for v := min(before-1, 4); v > 0 && len(out) < limit; v-- {
		out = append(out, ledger.Posting{
			AccountVersion: v, EntryID: known, Amount: -125, PostedAfter: 10_000, Currency: "EUR", At: noon,
		})
	}
	return out, nil
}

func (f fakeAccounts) BalanceAt(
	ctx context.Context, ref ledger.Ref, at time.Time,
) (ledger.PostedBalance, error) {
	if _, err := f.Account(ctx, ref); err != nil || at.Before(noon) {
		return ledger.PostedBalance{}, err
	}
	return ledger.PostedBalance{Posted: 9_000, Version: 3, At: noon}, nil
}
