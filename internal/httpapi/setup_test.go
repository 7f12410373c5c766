package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/api"
	"example.com/holdfast/internal/httpapi/internal/publicapi"
	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/ledger"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/tenancy"
	"example.com/holdfast/internal/transfer"
)

// The world of the fakes: two tenants, an account each, and what keys there are.
var (
	acme   = uuid.MustParse("018f2b6e-0000-7000-8000-0000000000e1")
	globex = uuid.MustParse("018f2b6e-0000-7000-8000-0000000000e2")
	cash   = uuid.MustParse("018f2b6e-0000-7000-8000-0000000000a1")
	bank   = uuid.MustParse("018f2b6e-0000-7000-8000-0000000000a2")
	theirs = uuid.MustParse("018f2b6e-0000-7000-8000-0000000000b1")
	known  = uuid.MustParse("018f2b6e-0000-7000-8000-0000000000f1")
	absent = uuid.MustParse("018f2b6e-0000-7000-8000-00000000dead")
	noon   = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
)

const goodTransfer = `{"from_account":"018f2b6e-0000-7000-8000-0000000000a1",` +
	`"to_account":"018f2b6e-0000-7000-8000-0000000000a2","amount":{"value":125,"currency":"EUR"},` +
	`"client_reference":"invoice-7","metadata":{"order":"7"}}`

type fakeKeys struct{}

func (fakeKeys) Authenticate(_ context.Context, plain string) (tenancy.Principal, error) {
	p := tenancy.Principal{KeyID: plain, TenantID: acme, Scopes: tenancy.Scopes(), Class: tenancy.Standard}
	switch plain {
	case "acme":
	case "globex":
		p.TenantID = globex
	case "reader":
		p.Scopes = []tenancy.Scope{tenancy.TransfersRead, tenancy.AccountsRead}
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
	err     error
	refuse  *problem.Error
	// block, if there is one, holds every call up until it is closed or the context ends.
	block chan struct{}
	panic any
	real  *transfer.Service
}

func newFake() *fakeService {
	return &fakeService{
		keys: map[string]idempotency.Response{}, hashes: map[string]hash{},
		real: transfer.NewService(transfer.Config{}),
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
			return idempotency.Response{}, problem.New(problem.KeyReused, "The key belongs to another request.")
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

func (f *fakeService) Preview(ctx context.Context, _ uuid.UUID, items []transfer.New) ([]transfer.Result, error) {
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
		FromAccount: bank, ToAccount: cash, Amount: amount, ClientReference: r.ClientReference, Metadata: r.Metadata,
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

func (f *fakeService) Wait(ctx context.Context, ref transfer.Ref, most time.Duration) (transfer.Transfer, error) {
	f.mu.Lock()
	f.waited = append(f.waited, most)
	f.mu.Unlock()
	return f.Get(ctx, ref)
}

func (f *fakeService) List(ctx context.Context, tenantID uuid.UUID, q transfer.Filter) (transfer.Page, error) {
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
		if f.refuse != nil {
			return a.Key.Refuse(f.refuse), nil
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
		TenantID: acme, ID: id, Name: "Cash", Kind: "user", Currency: "EUR", Status: "active", CreatedAt: noon,
		Posted: 10_000, Held: 125, Version: 4,
	}
}

func (f fakeAccounts) Create(
	ctx context.Context, k idempotency.Keyed, n ledger.NewAccount, render func(ledger.Account) idempotency.Response,
) (idempotency.Response, error) {
	if err := f.enter(ctx); err != nil {
		return idempotency.Response{}, err
	}
	return f.once(k, func() (idempotency.Response, error) {
		if f.refuse != nil {
			return k.Refuse(f.refuse), nil
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
		if f.refuse != nil {
			return k.Refuse(f.refuse), nil
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

func (f fakeAccounts) Postings(ctx context.Context, ref ledger.Ref, before int64, limit int) ([]ledger.Posting, error) {
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

func (f fakeAccounts) BalanceAt(ctx context.Context, ref ledger.Ref, at time.Time) (ledger.PostedBalance, error) {
	if _, err := f.Account(ctx, ref); err != nil || at.Before(noon) {
		return ledger.PostedBalance{}, err
	}
	return ledger.PostedBalance{Posted: 9_000, Version: 3, At: noon}, nil
}

// bundle is a listener over the fakes; its do checks every exchange against the contract.
type bundle struct {
	fake    *fakeService
	log     *bytes.Buffer
	handler http.Handler
	spec    contract
}

func setup(t *testing.T, change ...func(*Config)) bundle {
	t.Helper()
	fake, log := newFake(), &bytes.Buffer{}
	return bundle{fake, log, New(config(fake, log, change)), load(t, api.Public())}
}

func setupAdmin(t *testing.T, change ...func(*Config)) bundle {
	t.Helper()
	fake, log := newFake(), &bytes.Buffer{}
	return bundle{fake, log, NewAdmin(config(fake, log, change)), load(t, api.Admin())}
}

func config(fake *fakeService, log io.Writer, change []func(*Config)) Config {
	cfg := Config{
		Keys: fakeKeys{}, Transfers: fake, Accounts: fakeAccounts{fake},
		Now: time.Now, //nolint:forbidigo // the deadlines of contexts go by this clock too
		Log: slog.New(slog.NewJSONHandler(log, nil)),
	}
	for _, c := range change {
		c(&cfg)
	}
	return cfg
}

// contract checks requests and responses against a contract.
type contract struct {
	doc    *openapi3.T
	router routers.Router
}

func load(t testing.TB, text []byte) contract {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(text)
	require.NoError(t, err)
	router, err := gorillamux.NewRouter(doc)
	require.NoError(t, err)
	return contract{doc, router}
}

func (k contract) input(t testing.TB, r *http.Request) *openapi3filter.RequestValidationInput {
	t.Helper()
	route, params, err := k.router.FindRoute(r)
	if err != nil {
		return nil // the contract has no such route
	}
	return &openapi3filter.RequestValidationInput{
		Request: r, Route: route, PathParams: params,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true},
	}
}

// request says whether the contract allows a request.
func (k contract) request(t testing.TB, r *http.Request) error {
	t.Helper()
	return openapi3filter.ValidateRequest(t.Context(), k.input(t, r))
}

// response fails the test unless the contract has the response for the request, and, if it is a
// problem, lists its code for the operation.
func (k contract) response(t *testing.T, r *http.Request, status int, h http.Header, body []byte) {
	t.Helper()
	in := k.input(t, r)
	if in == nil {
		return
	}
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: status, Header: h, Options: in.Options}
	out.SetBodyBytes(body)
	require.NoError(t, openapi3filter.ValidateResponse(t.Context(), out), "%s %s: %d %s", r.Method, r.URL, status, body)
	if h.Get("Content-Type") != typeProblem {
		return
	}
	var p publicapi.Problem
	require.NoError(t, json.Unmarshal(body, &p))
	codes := in.Route.Operation.Responses.Default().Value.Extensions["x-problems"].([]any)
	require.True(t, slices.Contains(codes, any(p.Code)), "%s does not list %s", in.Route.Operation.OperationID, p.Code)
}

// exchange is a request to be made.
type exchange struct {
	method, path, body string
	// key is the API key, acme if empty, none if "-"; name is the Idempotency-Key, a new one if empty,
	// none if "-".
	key, name string
	header    http.Header
}

type answer struct {
	*httptest.ResponseRecorder

	text string
}

func (a answer) problem(t *testing.T) publicapi.Problem {
	t.Helper()
	require.Equal(t, typeProblem, a.Header().Get("Content-Type"), a.text)
	var p publicapi.Problem
	require.NoError(t, json.Unmarshal([]byte(a.text), &p))
	require.Equal(t, int(p.Status), a.Code)
	return p
}

func (e exchange) request() *http.Request {
	r := httptest.NewRequest(e.method, e.path, strings.NewReader(e.body))
	if e.body == "" {
		r = httptest.NewRequest(e.method, e.path, http.NoBody)
	}
	if e.body != "" {
		r.Header.Set("Content-Type", typeJSON)
	}
	if e.key == "" {
		e.key = "acme"
	}
	if e.key != "-" {
		r.Header.Set("Authorization", "Bearer "+e.key)
	}
	if e.name == "" {
		e.name = uuid.NewString()
	}
	if e.name != "-" {
		r.Header.Set("Idempotency-Key", e.name)
	}
	for name, values := range e.header {
		r.Header[name] = values
	}
	return r
}

// do makes a request and checks the answer against the contract; a request that succeeds has to be
// allowed by it, too.
func (b bundle) do(t *testing.T, e exchange) answer {
	t.Helper()
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, e.request())
	a := answer{w, w.Body.String()}
	b.spec.response(t, e.request(), w.Code, w.Header(), w.Body.Bytes())
	if w.Code < 300 && b.spec.input(t, e.request()) != nil {
		require.NoError(t, b.spec.request(t, e.request()), "%s %s %s", e.method, e.path, e.body)
	}
	return a
}

func (b bundle) requireProblem(t *testing.T, e exchange, code problem.Code) publicapi.Problem {
	t.Helper()
	p := b.do(t, e).problem(t)
	require.Equal(t, string(code), p.Code, p.Detail)
	m := problem.MeaningOf(code)
	require.Equal(t, m.Title, p.Title)
	require.Equal(t, m.Retryable, p.Retryable)
	require.Equal(t, m.SafeNewKey, p.SafeNewKey)
	require.Equal(t, "/problems/"+string(code), p.Type)
	require.NotEmpty(t, p.RequestID)
	return p
}
