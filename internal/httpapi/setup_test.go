package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/api"
	"example.com/holdfast/internal/httpapi/internal/publicapi"
	"example.com/holdfast/internal/problem"
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
	return bundle{fake, log, New(config(fake, log, change)), publicContract()}
}

func setupAdmin(t *testing.T, change ...func(*Config)) bundle {
	t.Helper()
	fake, log := newFake(), &bytes.Buffer{}
	return bundle{fake, log, NewAdmin(config(fake, log, change)), adminContract()}
}

func config(fake *fakeService, log io.Writer, change []func(*Config)) Config {
	cfg := Config{
		Keys: fakeKeys{}, Transfers: fake, Accounts: fakeAccounts{fake},
		Orders: fakeOrders{fake}, Inventory: fakeInventory{fake},
		Dependencies: fakeOperations{fake}, Backlog: fakeOperations{fake},
		Modes: fakeModes{fake},
		Feed:  fake.feed, Encode: fake.feed.encode, Webhooks: fakeHooks{fake},
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

// The contracts are read once for all tests, which only look at them.
var (
	publicContract = sync.OnceValue(func() contract { return load(api.Public()) })
	adminContract  = sync.OnceValue(func() contract { return load(api.Admin()) })
)

// nowhere is a pool that is never connected: for services that are asked what they refuse at once.
var nowhere = sync.OnceValue(func() *pgxpool.Pool {
	pool, err := pgxpool.New(context.Background(), "host=/nowhere") //nolint:forbidigo // outlives the tests
	if err != nil {
		panic(err)
	}
	return pool
})

func load(text []byte) contract {
	doc, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		panic(err)
	}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		panic(err)
	}
	return contract{doc, router}
}

func (k contract) input(tb testing.TB, r *http.Request) *openapi3filter.RequestValidationInput {
	tb.Helper()
	route, params, err := k.router.FindRoute(r)
	if err != nil {
		return nil // the contract has no such route
	}
	return &openapi3filter.RequestValidationInput{
		Request: r, Route: route, PathParams: params,
		Options: &openapi3filter.Options{
			AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true,
		},
	}
}

// request says whether the contract allows a request.
func (k contract) request(tb testing.TB, r *http.Request) error {
	tb.Helper()
	return openapi3filter.ValidateRequest(tb.Context(), k.input(tb, r))
}

// response fails the test unless the contract has the response for the request, and, if it is a
// problem, lists its code for the operation.
func (k contract) response(t *testing.T, r *http.Request, status int, h http.Header, body []byte) {
	t.Helper()
	in := k.input(t, r)
	if in == nil {
		return
	}
	out := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: status, Header: h, Options: in.Options,
	}
	err := openapi3filter.ValidateResponse(t.Context(), out.SetBodyBytes(body))
	require.NoError(t, err, "%s %s: %d %s", r.Method, r.URL, status, body)
	if h.Get("Content-Type") != typeProblem {
		return
	}
	var p publicapi.Problem
	require.NoError(t, json.Unmarshal(body, &p))
	codes := in.Route.Operation.Responses.Default().Value.Extensions["x-problems"].([]any)
	require.Contains(t, codes, p.Code, in.Route.Operation.OperationID)
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
	maps.Copy(r.Header, e.header)
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
