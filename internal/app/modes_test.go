package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/app"
	"example.com/holdfast/internal/config"
	"example.com/holdfast/internal/mode"
	"example.com/holdfast/internal/order/ordertest"
	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/tenancy"
	"example.com/holdfast/internal/transfer/transfertest"
)

// governed is a system whose mode a test decides, with a key of each class.
type governed struct {
	system

	pool   *pgxpool.Pool
	policy *mode.Policy
	keys   map[tenancy.Class]string
	sent   int
}

// govern starts one in a mode. What was deferred comes back at once.
func govern(t *testing.T, m mode.Mode) *governed {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	text := strings.Replace(string(mode.DefaultText), "within: 60s", "within: 0s", 1)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	g := &governed{keys: make(map[tenancy.Class]string)}
	var err error
	g.policy, err = mode.Load(path)
	require.NoError(t, err)
	g.system = start(t, func(cfg *config.Config) {
		cfg.PolicyFile = path
		g.pool, err = app.OpenAPIPool(t.Context(), *cfg)
		require.NoError(t, err)
		t.Cleanup(g.pool.Close)
		g.pin(t, m)
	})
	g.mint(t)
	return g
}

// startAPI starts an API without a worker.
func (g *governed) startAPI(t *testing.T) {
	t.Helper()
	cfg, err := config.Load([]string{"DATABASE_URL=" + pgtest.DB(t).URL, "HOLDFAST_LOG_LEVEL=error"})
	require.NoError(t, err)
	cfg.Addr, cfg.AdminAddr = "127.0.0.1:0", "127.0.0.1:0"
	env, err := app.NewEnv(cfg, "test")
	require.NoError(t, err)
	g.pool, err = app.OpenAPIPool(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(g.pool.Close)
	g.policy, err = mode.Load("")
	require.NoError(t, err)
	g.demo, err = app.Seed(t.Context(), g.pool, time.Now)
	require.NoError(t, err)
	g.api, err = app.NewAPI(t.Context(), cfg, env)
	require.NoError(t, err)
	require.NoError(t, g.api.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, g.api.Stop(context.WithoutCancel(t.Context()))) })
	g.mint(t)
}

// mint makes a key of each class.
func (g *governed) mint(t *testing.T) {
	t.Helper()
	service := tenancy.NewService(g.pool, time.Now)
	for _, class := range []tenancy.Class{tenancy.Critical, tenancy.Standard, tenancy.Sheddable} {
		var err error
		g.keys[class], err = service.CreateKey(t.Context(), g.demo.TenantID, "test", tenancy.Scopes(), class)
		require.NoError(t, err)
	}
}

// pin puts a mode in force.
func (g *governed) pin(t *testing.T, m mode.Mode) {
	t.Helper()
	require.NoError(t, pgtx.Run(t.Context(), g.pool, "pin", func(ctx context.Context, tx pgx.Tx) error {
		_, err := mode.Set(ctx, tx, g.policy, mode.Override{
			Control: mode.Pinned, Mode: m, Actor: "test", Reason: "a test", For: time.Hour,
		})
		return err
	}))
}

// as asks for a route, such as "GET /v1/accounts", with the key of a class; under an idempotency key of its
// own unless one is given.
func (g *governed) as(t *testing.T, class tenancy.Class, route, body string, key ...string) reply {
	t.Helper()
	method, path, _ := strings.Cut(route, " ")
	g.sent++
	name := fmt.Sprintf("key-%d", g.sent)
	if len(key) > 0 {
		name = key[0]
	}
	r := g.request(t, method, path, body, "Idempotency-Key", name, "Prefer", "wait=10")
	r.Header.Set("Authorization", "Bearer "+g.keys[class])
	got, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	defer func() { _ = got.Body.Close() }()
	a := reply{status: got.StatusCode, header: got.Header}
	require.NoError(t, json.NewDecoder(got.Body).Decode(&a.body))
	return a
}

type reply struct {
	status int
	header http.Header
	body   struct {
		ID           string `json:"id"`
		Status       any    `json:"status"`
		Notification string `json:"notification"`
		Code         string `json:"code"`
		Retryable    bool   `json:"retryable"`
	}
}

func (g *governed) transferBody() string {
	return fmt.Sprintf(`{"from_account":%q,"to_account":%q,"amount":{"value":125,"currency":"EUR"}}`,
		g.demo.Accounts[0], g.demo.Accounts[1])
}

func (g *governed) orderBody() string {
	return fmt.Sprintf(`{"customer_account":%q,"merchant_account":%q,"location":%q,"slot":%q,`+
		`"lines":[{"sku":%q,"quantity":2}]}`,
		g.demo.Accounts[0], g.demo.Accounts[1], g.demo.Location, g.demo.Slots[0], g.demo.SKUs[0])
}

// settled creates a transfer and waits for its end.
func (g *governed) settled(t *testing.T, class tenancy.Class) string {
	t.Helper()
	a := g.as(t, class, "POST /v1/transfers", g.transferBody())
	require.Equal(t, http.StatusAccepted, a.status, "%+v", a.body)
	ended := g.as(t, class, "GET /v1/transfers/"+a.body.ID, "")
	require.Equal(t, "settled", ended.body.Status)
	return a.body.ID
}

func (g *governed) notification(t *testing.T, id string) string {
	t.Helper()
	return g.as(t, tenancy.Critical, "GET /v1/transfers/"+id, "").body.Notification
}

// TestWhatIsCriticalEndsInEveryMode lets transfers and orders live their lives in each mode: none of them is
// one that nobody has been in.
func TestWhatIsCriticalEndsInEveryMode(t *testing.T) {
	t.Parallel()
	for _, m := range mode.Modes() {
		t.Run(string(m), func(t *testing.T) {
			t.Parallel()
			g := govern(t, m)
			for range 3 {
				g.settled(t, tenancy.Critical)
			}
			placed := g.as(t, tenancy.Critical, "POST /v1/orders", g.orderBody())
			require.Equal(t, http.StatusAccepted, placed.status)
			ended := g.as(t, tenancy.Critical, "GET /v1/orders/"+placed.body.ID, "")
			require.Equal(t, "confirmed", ended.body.Status)
			cancel := "/v1/orders/" + placed.body.ID + "/cancel"
			canceled := g.as(t, tenancy.Sheddable, "POST "+cancel, "")
			require.Equal(t, "illegal_transition", canceled.body.Code, "it is looked at")
			reverse := "POST /v1/transfers/" + g.settled(t, tenancy.Critical) + "/reversals"
			reversed := g.as(t, tenancy.Critical, reverse, "")
			require.Equal(t, http.StatusAccepted, reversed.status)
			requireInvariants(t, g.pool)
		})
	}
}

func TestInProtectionSheddableTrafficIsRefusedAndTheRestPasses(t *testing.T) {
	t.Parallel()
	g := govern(t, mode.Normal)
	first := g.as(t, tenancy.Sheddable, "POST /v1/transfers", g.transferBody(), "stored")
	require.Equal(t, http.StatusAccepted, first.status)
	g.pin(t, mode.Protection)
	require.Eventually(t, func() bool {
		return g.as(t, tenancy.Sheddable, "GET /v1/accounts", "").body.Code == "refused_by_mode"
	}, waitMax, 10*time.Millisecond)
	refused := g.as(t, tenancy.Sheddable, "POST /v1/transfers", g.transferBody())
	require.Equal(t, http.StatusServiceUnavailable, refused.status)
	require.Equal(t, "refused_by_mode", refused.body.Code)
	require.True(t, refused.body.Retryable)
	require.NotEmpty(t, refused.header.Get("Retry-After"))

	g.settled(t, tenancy.Standard)
	g.settled(t, tenancy.Critical)
	read := g.as(t, tenancy.Sheddable, "GET /v1/transfers/"+first.body.ID, "")
	require.Equal(t, http.StatusOK, read.status)
	require.Equal(t, "settled", read.body.Status, "what was accepted is not dropped")
	replayed := g.as(t, tenancy.Sheddable, "POST /v1/transfers", g.transferBody(), "stored")
	require.Equal(t, http.StatusAccepted, replayed.status)
	require.Equal(t, first.body.ID, replayed.body.ID)
	other := strings.Replace(g.transferBody(), "125", "126", 1)
	reused := g.as(t, tenancy.Sheddable, "POST /v1/transfers", other, "stored")
	require.Equal(t, "idempotency_key_reused", reused.body.Code)
	requireInvariants(t, g.pool)
}

func TestWhatAModeDefersWaitsAndCatchesUp(t *testing.T) {
	t.Parallel()
	g := govern(t, mode.Constrained)
	var ids []string
	for range 5 {
		ids = append(ids, g.settled(t, tenancy.Standard))
	}
	for _, id := range ids {
		require.Equal(t, "pending", g.notification(t, id))
	}
	var waiting int
	require.NoError(t, g.pool.QueryRow(t.Context(), `
SELECT count(*) FROM river_job WHERE queue = 'notification_api' AND state = 'available'`).Scan(&waiting))
	require.Positive(t, waiting, "nobody has taken them up")
	g.pin(t, mode.Normal)
	for _, id := range ids {
		require.Eventually(t, func() bool { return g.notification(t, id) == "sent" }, waitMax,
			10*time.Millisecond)
	}
	g.pin(t, mode.Constrained)
	require.Eventually(t, func() bool {
		return g.notification(t, g.settled(t, tenancy.Standard)) == "pending"
	}, waitMax, time.Millisecond)
}

func TestAProcessKeepsItsModeWhilePostgresIsAway(t *testing.T) {
	t.Parallel()
	g := &governed{keys: make(map[tenancy.Class]string)}
	g.startAPI(t)
	g.pin(t, mode.Protection)
	refused := func() bool {
		return g.as(t, tenancy.Sheddable, "POST /v1/transfers", g.transferBody()).body.Code ==
			"refused_by_mode"
	}
	require.Eventually(t, refused, waitMax, 10*time.Millisecond)
	back := away(t, g.pool)
	for range 5 {
		unknown := g.as(t, tenancy.Critical, "POST /v1/transfers", g.transferBody())
		require.Equal(t, http.StatusServiceUnavailable, unknown.status)
		require.NotEmpty(t, unknown.header.Get("Retry-After"))
	}
	back()
	require.Eventually(t, func() bool {
		return g.as(t, tenancy.Critical, "POST /v1/transfers", g.transferBody()).status ==
			http.StatusAccepted
	}, waitMax, 10*time.Millisecond)
	require.Eventually(t, refused, waitMax, 10*time.Millisecond)
}

// away takes the database away from everybody until the function that it returns is called.
func away(t *testing.T, pool *pgxpool.Pool) func() {
	t.Helper()
	var name string
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT current_database()").Scan(&name))
	cfg := pool.Config().ConnConfig.Copy()
	cfg.Database = "postgres"
	outside, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = outside.Close(context.WithoutCancel(t.Context())) })
	named := pgx.Identifier{name}.Sanitize()
	_, err = outside.Exec(t.Context(), "ALTER DATABASE "+named+" ALLOW_CONNECTIONS false")
	require.NoError(t, err)
	_, err = outside.Exec(t.Context(),
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
	require.NoError(t, err)
	return func() {
		_, err := outside.Exec(t.Context(), "ALTER DATABASE "+named+" ALLOW_CONNECTIONS true")
		require.NoError(t, err)
	}
}

func requireInvariants(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	world := &ordertest.Bundle{Bundle: &transfertest.Bundle{Pool: pool}}
	world.CheckInvariants(t)
}
