// Package transfertest gives a test a started transfer service on a database of its own, with a tenant,
// funded accounts and scripted dependencies.
//
// The database is real; only the risk service, the payout rail and the notification service are scripts,
// with a journal of what they were asked and did. The package refuses to sleep: it waits for conditions with
// a deadline.
//
// Invariant: nothing is shared between two bundles.
package transfertest

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/invariant"
	"example.com/holdfast/internal/ledger"
	"example.com/holdfast/internal/money"
	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/telemetry"
	"example.com/holdfast/internal/transfer"
)

const (
	// Funds is what each of the two accounts of a bundle has, in minor units.
	Funds int64 = 100_000
	// Currency is that of the accounts of a bundle.
	Currency = "EUR"

	poolConnsMax = 8
	waitMax      = 20 * time.Second
	pollEvery    = 2 * time.Millisecond
)

// Bundle is one test's world.
type Bundle struct {
	DB   *pgtest.Database
	Pool *pgxpool.Pool
	// Tenant owns the accounts.
	Tenant uuid.UUID
	// External is where opening balances come from; From and To are funded accounts.
	External, From, To uuid.UUID

	Ledger    *ledger.Service
	Transfers *transfer.Service
	Risk      *Risk
	Rail      *Rail
	Notify    *Notify
}

// New makes a bundle whose service is started. No worker runs yet: see StartWorker.
func New(tb testing.TB) *Bundle {
	tb.Helper()
	db := pgtest.DB(tb)
	b := &Bundle{
		DB: db, Pool: OpenPool(tb, db.URL), Risk: newRisk(), Rail: newRail(), Notify: newNotify(),
	}
	b.Ledger = ledger.NewService(b.Pool)
	b.Tenant = b.NewTenant(tb, "test")
	b.openAccounts(tb)
	b.Transfers = b.Service(tb, "api")
	return b
}

// OpenPool opens a pool as the programs do: with our types, and a limit for every wait on the server.
func OpenPool(tb testing.TB, url string) *pgxpool.Pool {
	tb.Helper()
	cfg, err := pgxpool.ParseConfig(url)
	require.NoError(tb, err)
	cfg.MaxConns = poolConnsMax
	cfg.ConnConfig.RuntimeParams["statement_timeout"] = "15s"
	cfg.ConnConfig.RuntimeParams["lock_timeout"] = "10s"
	cfg.AfterConnect = func(_ context.Context, c *pgx.Conn) error {
		pgtx.RegisterTypes(c.TypeMap())
		return nil
	}
	pool, err := pgxpool.NewWithConfig(tb.Context(), cfg)
	require.NoError(tb, err)
	tb.Cleanup(pool.Close)
	return pool
}

// NewTenant makes another tenant.
func (b *Bundle) NewTenant(tb testing.TB, name string) uuid.UUID {
	tb.Helper()
	id := uuid.Must(uuid.NewV7())
	b.Exec(tb, "INSERT INTO tenants (id, name) VALUES ($1, $2)", id, name)
	return id
}

// Other is the same world seen by another tenant, with accounts of its own.
func (b *Bundle) Other(tb testing.TB) *Bundle {
	tb.Helper()
	other := *b
	other.Tenant = b.NewTenant(tb, "other")
	other.openAccounts(tb)
	return &other
}

// openAccounts opens the account outside and the two funded ones.
func (b *Bundle) openAccounts(tb testing.TB) {
	tb.Helper()
	external, err := b.Ledger.Seed(tb.Context(), b.Tenant, uuid.Nil, ledger.NewAccount{
		Name: "world", Kind: ledger.KindExternal, Currency: Currency,
	}, 0)
	require.NoError(tb, err)
	b.External = external.ID
	b.From, b.To = b.Account(tb, Funds), b.Account(tb, Funds)
}

// Account opens a funded account.
func (b *Bundle) Account(tb testing.TB, funds int64) uuid.UUID {
	tb.Helper()
	a, err := b.Ledger.Seed(tb.Context(), b.Tenant, b.External, ledger.NewAccount{
		Name: "account", Kind: ledger.KindUser, Currency: Currency,
	}, funds)
	require.NoError(tb, err)
	return a.ID
}

// Balance is what an account has posted and what of it is held.
func (b *Bundle) Balance(tb testing.TB, id uuid.UUID) (int64, int64) {
	tb.Helper()
	a, err := b.Ledger.Account(tb.Context(), ledger.Ref{TenantID: b.Tenant, ID: id})
	require.NoError(tb, err)
	return a.Posted, a.Held
}

// Config is what a service of this world is made from.
func (b *Bundle) Config(tb testing.TB, instance string) transfer.Config {
	tb.Helper()
	return transfer.Config{
		Pool: b.Pool, Risk: b.Risk, Rail: b.Rail, Notify: b.Notify, Metrics: telemetry.New(),
		Log: slog.New(slog.DiscardHandler), Instance: instance,
		Now: time.Now, //nolint:forbidigo // a test waits by the real clock
	}
}

// Service starts one more service with a pool of its own, as another process would have.
func (b *Bundle) Service(tb testing.TB, instance string) *transfer.Service {
	tb.Helper()
	cfg := b.Config(tb, instance)
	cfg.Pool = OpenPool(tb, b.DB.URL)
	s := transfer.NewService(cfg)
	s.Start(tb.Context())
	tb.Cleanup(s.Stop)
	return s
}

// Exec runs a statement.
func (b *Bundle) Exec(tb testing.TB, sql string, args ...any) {
	tb.Helper()
	_, err := b.Pool.Exec(tb.Context(), sql, args...)
	require.NoError(tb, err)
}

// Count reads one number.
func (b *Bundle) Count(tb testing.TB, sql string, args ...any) int64 {
	tb.Helper()
	var n int64
	require.NoError(tb, b.Pool.QueryRow(tb.Context(), sql, args...).Scan(&n))
	return n
}

// Keyed is a key of the bundle's tenant for a request that body stands for.
func (b *Bundle) Keyed(key, body string) idempotency.Keyed {
	return idempotency.Keyed{
		Key: idempotency.Key{TenantID: b.Tenant, Key: key, Hash: sha256.Sum256([]byte(body))},
		Refuse: func(p *problem.Error) idempotency.Response {
			return Render([]transfer.Result{{Refused: p}})
		},
	}
}

// Item asks for amount from From to To.
func (b *Bundle) Item(amount int64) transfer.New {
	return transfer.New{
		FromAccount: b.From, ToAccount: b.To, Amount: money.Amount{Value: amount, Currency: Currency},
	}
}

// Request asks for items under a key. The same items under the same key are the same request.
func (b *Bundle) Request(key string, items ...transfer.New) transfer.Create {
	return transfer.Create{
		Key: b.Keyed(key, fmt.Sprintf("%+v", items)), Items: items, Actor: "api:test",
		Cause: "request:" + key, Render: Render,
	}
}

// Create accepts amount from From to To under a key and returns the transfer's id.
func (b *Bundle) Create(tb testing.TB, key string, amount int64) uuid.UUID {
	tb.Helper()
	response, err := b.Transfers.Create(tb.Context(), b.Request(key, b.Item(amount)))
	require.NoError(tb, err)
	answer := Read(tb, response)
	require.Equal(tb, http.StatusAccepted, response.Status, "code %q", answer.Code)
	return answer.ID
}

// Reversal asks for the way back of a transfer; amount zero is all that is left.
func (b *Bundle) Reversal(key string, id uuid.UUID, amount int64) transfer.Reversal {
	return transfer.Reversal{
		Key: b.Keyed(key, "reverse "+id.String()), ID: id, Amount: amount, Actor: "api:test",
		Cause: "request:" + key, Render: Render,
	}
}

// Action asks for a move of a transfer.
func (b *Bundle) Action(key string, id uuid.UUID, e transfer.Event, reason string) transfer.Action {
	return transfer.Action{
		Key: b.Keyed(key, string(e)+id.String()), ID: id, Event: e, Reason: reason, Actor: "operator:test",
		Cause: "request:" + key,
		Render: func(t transfer.Transfer) idempotency.Response {
			response := Render([]transfer.Result{{Transfer: t}})
			response.Status = http.StatusOK
			return response
		},
	}
}

// Get reads a transfer.
func (b *Bundle) Get(tb testing.TB, id uuid.UUID) transfer.Transfer {
	tb.Helper()
	t, err := b.Transfers.Get(tb.Context(), transfer.Ref{TenantID: b.Tenant, ID: id})
	require.NoError(tb, err)
	return t
}

// WaitTerminal waits until a transfer has ended.
func (b *Bundle) WaitTerminal(tb testing.TB, id uuid.UUID) transfer.Transfer {
	tb.Helper()
	t, err := b.Transfers.Wait(tb.Context(), transfer.Ref{TenantID: b.Tenant, ID: id}, waitMax)
	require.NoError(tb, err)
	require.True(tb, t.State.Terminal(), "transfer %s is still %s", id, t.State)
	return t
}

// WaitQuiet waits until nobody has anything to do any more, but for reviews.
func (b *Bundle) WaitQuiet(tb testing.TB) {
	tb.Helper()
	Eventually(tb, "all transfers ended and told", func() bool {
		return b.Count(tb, `SELECT count(*) FROM transfers
		                     WHERE wake_at IS NOT NULL AND state <> 'in_review'`) == 0
	})
}

// CheckInvariants fails the test for every break of an invariant of transfers and of the ledger.
func (b *Bundle) CheckInvariants(tb testing.TB) {
	tb.Helper()
	for _, i := range append(ledger.Invariants(), transfer.Invariants()...) {
		for _, what := range b.Breaks(tb, i) {
			tb.Errorf("invariant %s: %s", i.Name, what)
		}
	}
}

// Breaks lists the breaks of one invariant.
func (b *Bundle) Breaks(tb testing.TB, i invariant.Invariant) []string {
	tb.Helper()
	rows, err := b.Pool.Query(tb.Context(), i.SQL)
	require.NoError(tb, err, i.Name)
	breaks, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(tb, err, i.Name)
	return breaks
}

// Eventually waits until a condition holds, and fails the test if it never does.
func Eventually(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	deadline := time.After(waitMax)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			tb.Fatalf("waited %s in vain: %s", waitMax, what)
		}
	}
}

// Answer is what Render writes for one result.
type Answer struct {
	ID    uuid.UUID      `json:"id"`
	State transfer.State `json:"state"`
	Code  problem.Code   `json:"code"`
}

// Render writes results as a client of these tests sees them: one as an object, several as an array.
func Render(results []transfer.Result) idempotency.Response {
	answers := make([]Answer, len(results))
	for i, r := range results {
		answers[i] = Answer{ID: r.Transfer.ID, State: r.Transfer.State}
		if r.Refused != nil {
			answers[i] = Answer{Code: r.Refused.Code}
		}
	}
	response := idempotency.Response{Status: http.StatusOK, Body: encode(answers)}
	if len(answers) == 1 {
		response = idempotency.Response{Status: http.StatusAccepted, Body: encode(answers[0])}
		if answers[0].Code != "" {
			response.Status = problem.MeaningOf(answers[0].Code).Status
		}
	}
	return response
}

func encode(v any) []byte {
	body, err := json.Marshal(v)
	if err != nil {
		return []byte(err.Error())
	}
	return body
}

// Read reads the one answer of a response.
func Read(tb testing.TB, r idempotency.Response) Answer {
	tb.Helper()
	var a Answer
	require.NoError(tb, json.Unmarshal(r.Body, &a), "%s", r.Body)
	return a
}

// ReadAll reads the answers of a response to several items.
func ReadAll(tb testing.TB, r idempotency.Response) []Answer {
	tb.Helper()
	var a []Answer
	require.NoError(tb, json.Unmarshal(r.Body, &a), "%s", r.Body)
	return a
}
