package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/httpapi/internal/publicapi"
	"example.com/holdfast/internal/ledger"
	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/telemetry"
	"example.com/holdfast/internal/tenancy"
	"example.com/holdfast/internal/transfer"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// world is the listeners over the real services and a database of their own, with two tenants; the
// first has two EUR accounts, one with 1,000 minor units.
type world struct {
	bundle

	admin       bundle
	key, other  string
	operator    string
	rich, empty uuid.UUID
	dollars     uuid.UUID
}

func setupWorld(t *testing.T) world {
	t.Helper()
	ctx, pool, now := t.Context(), pgtest.New(t), time.Now //nolint:forbidigo // the test is the caller
	log := slog.New(slog.DiscardHandler)
	keys, accounts := tenancy.NewService(pool, now), ledger.NewService(pool)
	metrics := telemetry.New()
	service := transfer.NewService(transfer.Config{
		Pool: pool, Metrics: metrics, Log: log, Instance: "test", Now: now,
	})
	service.Start(ctx)
	t.Cleanup(service.Stop)
	cfg := Config{Keys: keys, Transfers: service, Accounts: accounts, Metrics: metrics, Now: now, Log: log}
	w := world{
		bundle: bundle{log: &bytes.Buffer{}, handler: New(cfg), spec: publicContract()},
		admin:  bundle{log: &bytes.Buffer{}, handler: NewAdmin(cfg), spec: adminContract()},
	}
	var tenants [2]uuid.UUID
	for i, name := range []string{"acme", "globex"} {
		id, err := keys.CreateTenant(ctx, name)
		require.NoError(t, err)
		tenants[i] = id
	}
	var err error
	w.key, err = keys.CreateKey(ctx, tenants[0], "test", tenancy.Scopes(), tenancy.Standard)
	require.NoError(t, err)
	w.other, err = keys.CreateKey(ctx, tenants[1], "test", tenancy.Scopes(), tenancy.Standard)
	require.NoError(t, err)
	w.operator, err = keys.CreateAdminKey(ctx, "kim", "test", tenancy.Operator)
	require.NoError(t, err)

	open := func(from uuid.UUID, kind, currency string, amount int64) uuid.UUID {
		n := ledger.NewAccount{Name: kind, Kind: kind, Currency: currency}
		a, err := accounts.Seed(ctx, tenants[0], from, n, amount)
		require.NoError(t, err)
		return a.ID
	}
	outside := open(uuid.Nil, ledger.KindExternal, "EUR", 0)
	w.rich = open(outside, ledger.KindUser, "EUR", 1_000)
	w.empty = open(outside, ledger.KindUser, "EUR", 0)
	w.dollars = open(outside, ledger.KindUser, "USD", 0)
	return w
}

func (w world) order(from, to uuid.UUID, amount int64) exchange {
	return exchange{method: post, path: "/v1/transfers", key: w.key, body: fmt.Sprintf(
		`{"from_account":%q,"to_account":%q,"amount":{"value":%d,"currency":"EUR"}}`, from, to, amount)}
}

func (w world) available(t *testing.T) int64 {
	t.Helper()
	a := w.do(t, exchange{method: get, path: "/v1/accounts/" + w.rich.String() + "/balance", key: w.key})
	var b publicapi.Balance
	require.NoError(t, json.Unmarshal([]byte(a.text), &b))
	return *b.Available
}

func decoded[T any](t *testing.T, a answer) T {
	t.Helper()
	var out T
	require.NoError(t, json.Unmarshal([]byte(a.text), &out), a.text)
	return out
}

func TestATransferIsAcceptedHeldReplayedAndCanceled(t *testing.T) {
	t.Parallel()
	w := setupWorld(t)
	e := w.order(w.rich, w.empty, 125)
	e.name = "one"
	first := w.do(t, e)
	require.Equal(t, http.StatusAccepted, first.Code, first.text)
	require.Equal(t, int64(875), w.available(t))
	again := w.do(t, e)
	require.Equal(t, first.text, again.text)
	require.Equal(t, first.Header().Get("Location"), again.Header().Get("Location"))
	require.Equal(t, "true", again.Header().Get("Idempotent-Replayed"))
	require.Equal(t, int64(875), w.available(t))
	changed := w.order(w.rich, w.empty, 126)
	changed.name = "one"
	w.requireProblem(t, changed, problem.KeyReused)

	read := exchange{method: get, path: first.Header().Get("Location"), key: w.key}
	require.Equal(t, decoded[publicapi.Transfer](t, first), decoded[publicapi.Transfer](t, w.do(t, read)))
	events := w.do(t, exchange{method: get, path: read.path + "/events", key: w.key})
	cause := decoded[publicapi.EventList](t, events).Events[0].Cause
	require.Equal(t, "request:"+first.Header().Get("X-Request-Id"), cause)
	list := w.do(t, exchange{method: get, path: "/v1/transfers?account=" + w.empty.String(), key: w.key})
	require.Len(t, decoded[publicapi.TransferPage](t, list).Transfers, 1)

	cancel := exchange{method: post, path: read.path + "/cancel", key: w.key, name: "two"}
	cancel.body = `{"reason":"ordered twice"}`
	canceled := w.do(t, cancel)
	require.Equal(t, http.StatusOK, canceled.Code, canceled.text)
	require.Equal(t, publicapi.TransferStatusCanceled, decoded[publicapi.Transfer](t, canceled).Status)
	require.Equal(t, canceled.text, w.do(t, cancel).text)
	require.Equal(t, int64(1_000), w.available(t))
	cancel.name = ""
	w.requireProblem(t, cancel, problem.IllegalTransition)
	reverse := exchange{method: post, path: read.path + "/reversals", key: w.key}
	w.requireProblem(t, reverse, problem.NotReversible)
}

func TestARefusalOnTheStateOfThingsIsStored(t *testing.T) {
	t.Parallel()
	w := setupWorld(t)
	status := func(status string) {
		e := exchange{method: put, path: "/v1/accounts/" + w.empty.String() + "/status", key: w.key}
		e.body = `{"status":"` + status + `"}`
		require.Equal(t, http.StatusOK, w.do(t, e).Code)
	}
	tests := []struct {
		code   problem.Code
		e      exchange
		before string
	}{
		{problem.InsufficientFunds, w.order(w.rich, w.empty, 1_001), "active"},
		{problem.AccountNotFound, w.order(w.rich, absent, 1), "active"},
		{problem.AccountNotFound, w.order(absent, w.empty, 1), "active"},
		{problem.CurrencyMismatch, w.order(w.rich, w.dollars, 1), "active"},
		{problem.AccountFrozen, w.order(w.rich, w.empty, 1), "frozen"},
		{problem.AccountClosed, w.order(w.rich, w.empty, 1), "closed"},
	}
	for _, tt := range tests {
		if tt.before != "active" {
			status(tt.before)
		}
		tt.e.name = string(tt.code) + tt.e.body[:60]
		tt.e.name = strings.NewReplacer(`"`, "", "{", "", "}", "").Replace(tt.e.name)
		first := w.do(t, tt.e)
		require.Equal(t, string(tt.code), first.problem(t).Code)
		again := w.do(t, tt.e)
		require.Equal(t, first.text, again.text)
		require.Equal(t, "true", again.Header().Get("Idempotent-Replayed"))
	}
	require.Equal(t, int64(1_000), w.available(t))
	e := exchange{method: put, path: "/v1/accounts/" + w.empty.String() + "/status", key: w.key}
	e.body = `{"status":"active"}`
	w.requireProblem(t, e, problem.AccountClosed)
	e.path, e.body = "/v1/accounts/"+w.rich.String()+"/status", `{"status":"closed"}`
	w.requireProblem(t, e, problem.AccountNotEmpty)
}

func TestEveryKindOfBadTransferIsRefusedByTheRealServices(t *testing.T) {
	t.Parallel()
	w := setupWorld(t)
	ours := strings.NewReplacer(cash.String(), w.rich.String(), bank.String(), w.empty.String())
	for _, tt := range badTransfers() {
		e := exchange{method: post, path: "/v1/transfers", key: w.key, name: "one"}
		e.body = ours.Replace(tt.body)
		e.header = http.Header{"Content-Type": {typeJSON}}
		require.Equal(t, string(tt.code), w.do(t, e).problem(t).Code, tt.name)
	}
	require.Equal(t, int64(1_000), w.available(t))
	fine := w.order(w.rich, w.empty, 1)
	fine.name = "one"
	require.Equal(t, http.StatusAccepted, w.do(t, fine).Code, "the key was not used up")
}

func TestAnotherTenantSeesNothing(t *testing.T) {
	t.Parallel()
	w := setupWorld(t)
	id := decoded[publicapi.Transfer](t, w.do(t, w.order(w.rich, w.empty, 5))).ID.String()
	ask := func(method, pattern, body, id string) string {
		e := exchange{method: method, path: fmt.Sprintf(pattern, id), key: w.other, body: body}
		p := w.requireProblem(t, e, problem.NotFound)
		return strings.ReplaceAll(p.Detail, id, "ID")
	}
	for _, e := range []exchange{
		{method: get, path: "/v1/transfers/%s"},
		{method: get, path: "/v1/transfers/%s/events"},
		{method: post, path: "/v1/transfers/%s/cancel"},
		{method: post, path: "/v1/transfers/%s/reversals"},
		{method: get, path: "/v1/accounts/%s"},
		{method: put, path: "/v1/accounts/%s/status", body: `{"status":"frozen"}`},
		{method: get, path: "/v1/accounts/%s/balance"},
		{method: get, path: "/v1/accounts/%s/postings"},
	} {
		theirs := id
		if strings.Contains(e.path, "accounts") {
			theirs = w.rich.String()
		}
		missing := ask(e.method, e.path, e.body, absent.String())
		require.Equal(t, missing, ask(e.method, e.path, e.body, theirs))
	}
	stranger := w.order(w.rich, w.empty, 1)
	stranger.key = w.other
	w.requireProblem(t, stranger, problem.AccountNotFound)
	for _, path := range []string{"/v1/transfers", "/v1/accounts"} {
		require.NotContains(t, w.do(t, exchange{method: get, path: path, key: w.other}).text, "from_account")
	}
}

func TestFiftyCallersWithOneKeyMakeOneTransfer(t *testing.T) {
	t.Parallel()
	w := setupWorld(t)
	var group sync.WaitGroup
	answers := make([]answer, 50)
	e := w.order(w.rich, w.empty, 10)
	e.name = "one"
	for i := range answers {
		group.Go(func() { answers[i] = w.do(t, e) })
	}
	group.Wait()
	fresh := 0
	for _, a := range answers {
		require.Equal(t, http.StatusAccepted, a.Code, a.text)
		require.Equal(t, answers[0].text, a.text)
		if a.Header().Get("Idempotent-Replayed") == "" {
			fresh++
		}
	}
	require.Equal(t, 1, fresh)
	require.Equal(t, int64(990), w.available(t))
}

func TestBulkAndPreviewGoTheRealPath(t *testing.T) {
	t.Parallel()
	w := setupWorld(t)
	items := []string{
		w.order(w.rich, w.empty, 600).body, w.order(w.rich, w.empty, 600).body,
		w.order(w.rich, w.empty, 400).body, w.order(w.rich, w.rich, 1).body,
	}
	e := exchange{method: post, path: "/v1/transfers/preview", key: w.key}
	e.body = `{"transfers":[` + strings.Join(items, ",") + `]}`
	for range 2 {
		results := decoded[publicapi.TransferResults](t, w.do(t, e)).Results
		require.Len(t, results, 4)
		for i, want := range []string{"", "insufficient_funds", "", "validation_failed"} {
			require.Equal(t, want, results[i].Problem.Code, i)
		}
		e.path = "/v1/transfers/bulk"
	}
	require.Equal(t, int64(0), w.available(t))
}

func TestAccountsAreOpenedReadAndPaged(t *testing.T) {
	t.Parallel()
	w := setupWorld(t)
	e := exchange{
		method: post, path: "/v1/accounts", key: w.key, name: "one",
		body: `{"name":"Käse 🧀","kind":"fee","currency":"JPY"}`,
	}
	made := w.do(t, e)
	require.Equal(t, http.StatusCreated, made.Code, made.text)
	require.Equal(t, made.text, w.do(t, e).text)
	read := w.do(t, exchange{method: get, path: made.Header().Get("Location"), key: w.key})
	require.Equal(t, decoded[publicapi.Account](t, made), decoded[publicapi.Account](t, read))
	for body, pointer := range map[string]string{
		`{"name":"a","kind":"royal","currency":"EUR"}`: "/kind",
		`{"name":"a","kind":"user","currency":"eur"}`:  "/currency",
		`{"name":"a","kind":"user","currency":"HRK"}`:  "/currency",
	} {
		e.body, e.name = body, ""
		require.Equal(t, pointer, w.requireProblem(t, e, problem.ValidationFailed).Errors[0].Pointer)
	}
	seen, path := 0, "/v1/accounts?limit=2"
	for path != "" {
		a := w.do(t, exchange{method: get, path: path, key: w.key})
		page := decoded[publicapi.AccountPage](t, a)
		seen, path = seen+len(page.Accounts), ""
		if link := nextLink.FindStringSubmatch(a.Header().Get("Link")); link != nil {
			path = link[1]
		}
	}
	require.Equal(t, 5, seen)

	account := "/v1/accounts/" + w.rich.String()
	postings := w.do(t, exchange{method: get, path: account + "/postings", key: w.key})
	p := decoded[publicapi.PostingPage](t, postings).Postings
	require.Len(t, p, 1)
	at := p[0].At.Format(time.RFC3339Nano)
	then := w.do(t, exchange{method: get, path: account + "/balance?at=" + at, key: w.key})
	require.Equal(t, int64(1_000), decoded[publicapi.Balance](t, then).Posted)
	before := w.do(t, exchange{method: get, path: account + "/balance?at=2020-01-01T00:00:00Z", key: w.key})
	require.Zero(t, decoded[publicapi.Balance](t, before).Version)
}

func TestOperatorsMeetTheRealDesk(t *testing.T) {
	t.Parallel()
	w := setupWorld(t)
	made := decoded[publicapi.Transfer](t, w.do(t, w.order(w.rich, w.empty, 5)))
	reviews := w.admin.do(t, exchange{method: get, path: "/admin/v1/reviews", key: w.operator})
	require.JSONEq(t, `{"reviews":[]}`, reviews.text)
	path := "/admin/v1/tenants/%s/transfers/" + made.ID.String() + "/review"
	e := exchange{method: post, key: w.operator, body: `{"decision":"approve","reason":"fine"}`}
	e.path = fmt.Sprintf(path, absent)
	w.admin.requireProblem(t, e, problem.NotFound)
	e.key = w.key
	w.admin.requireProblem(t, e, problem.Unauthenticated)
}
