package app_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/app"
	"example.com/holdfast/internal/config"
	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/loadtest/simdep"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

type fakeService struct {
	name  string
	fails error
	log   *[]string
}

func (f fakeService) Start(context.Context) error {
	*f.log = append(*f.log, "start "+f.name)
	return f.fails
}

func (f fakeService) Stop(context.Context) error {
	*f.log = append(*f.log, "stop "+f.name)
	return nil
}

func TestServicesStopInTheOppositeOrder(t *testing.T) {
	t.Parallel()
	var log []string
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := app.Run(ctx, config.Drain{Max: time.Second},
		fakeService{"a", nil, &log}, fakeService{"b", nil, &log})
	require.NoError(t, err)
	require.Equal(t, []string{"start a", "start b", "stop b", "stop a"}, log)
}

func TestAServiceThatDoesNotStartStopsThoseBeforeIt(t *testing.T) {
	t.Parallel()
	var log []string
	broken := errors.New("broken")
	err := app.Run(t.Context(), config.Drain{Max: time.Second},
		fakeService{"a", nil, &log}, fakeService{"b", broken, &log})
	require.ErrorIs(t, err, broken)
	require.Equal(t, []string{"start a", "start b", "stop a"}, log)
}

// system is API and worker on a database of their own, with simulated dependencies.
type system struct {
	api  *app.API
	demo app.Demo
}

func start(t *testing.T, set func(*config.Config)) system {
	t.Helper()
	return startWith(t, set, func(*app.Env) {})
}

// startWith starts a system whose process is something else than it would be.
func startWith(t *testing.T, set func(*config.Config), be func(*app.Env)) system {
	t.Helper()
	ctx := t.Context()
	dependency, err := simdep.Start(ctx, simdep.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, dependency.Close()) })
	cfg, err := config.Load([]string{
		"DATABASE_URL=" + pgtest.DB(t).URL, "HOLDFAST_LOG_LEVEL=error",
		"HOLDFAST_RISK_URL=" + dependency.URL(), "HOLDFAST_NOTIFY_URL=" + dependency.URL(),
		"HOLDFAST_PAYOUT_URL=" + dependency.URL(),
	})
	require.NoError(t, err)
	cfg.Addr, cfg.AdminAddr = "127.0.0.1:0", "127.0.0.1:0"
	if set != nil {
		set(&cfg)
	}
	env, err := app.NewEnv(cfg, "test")
	require.NoError(t, err)
	be(&env)
	pool, err := app.OpenAPIPool(ctx, cfg)
	require.NoError(t, err)
	defer pool.Close()
	demo, err := app.Seed(ctx, pool, time.Now)
	require.NoError(t, err)
	worker, err := app.NewWorker(ctx, cfg, env, app.Transports{})
	require.NoError(t, err)
	require.NoError(t, worker.Start(ctx))
	t.Cleanup(func() { require.NoError(t, worker.Stop(context.WithoutCancel(ctx))) })
	api, err := app.NewAPI(ctx, cfg, env, worker.Checks()...)
	require.NoError(t, err)
	require.NoError(t, api.Start(ctx))
	t.Cleanup(func() { require.NoError(t, api.Stop(context.WithoutCancel(ctx))) })
	return system{api, demo}
}

func (s system) request(t *testing.T, method, path, body string, header ...string) *http.Request {
	t.Helper()
	url := "http://" + s.api.Addr() + path
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+s.demo.Key)
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

func (s system) call(t *testing.T, method, path, body string, header ...string) (int, string) {
	t.Helper()
	r := s.request(t, method, path, body, header...)
	reply, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	defer func() { _ = reply.Body.Close() }()
	text, err := io.ReadAll(reply.Body)
	require.NoError(t, err)
	return reply.StatusCode, string(text)
}

func TestATransferSettlesThroughTheWholeSystem(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	body := fmt.Sprintf(`{"from_account":%q,"to_account":%q,"amount":{"value":125,"currency":"EUR"}}`,
		s.demo.Accounts[0], s.demo.Accounts[1])
	status, text := s.call(t, http.MethodPost, "/v1/transfers", body, "Idempotency-Key", "one")
	require.Equal(t, http.StatusAccepted, status, text)
	var accepted struct {
		ID     string `json:"id"`
		Status string `json:"status"`
	}
	require.NoError(t, json.Unmarshal([]byte(text), &accepted))
	require.Equal(t, "accepted", accepted.Status)

	status, text = s.call(t, http.MethodGet, "/v1/transfers/"+accepted.ID, "", "Prefer", "wait=10")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, text, `"status":"settled"`)

	status, text = s.call(t, http.MethodGet, "/v1/accounts/"+s.demo.Accounts[1].String(), "")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, text, `100000125`)

	for _, path := range []string{"/readyz", "/metrics"} {
		url := "http://" + s.api.AdminAddr() + path
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		require.NoError(t, err)
		reply, err := http.DefaultTransport.RoundTrip(r)
		require.NoError(t, err)
		page, err := io.ReadAll(reply.Body)
		require.NoError(t, err)
		require.NoError(t, reply.Body.Close())
		require.Equal(t, http.StatusOK, reply.StatusCode, string(page))
		if path == "/metrics" {
			for _, line := range []string{
				`holdfast_transfers_total{reason="",state="settled"} 1`,
				`holdfast_dependency_attempts_total{dependency="risk_api",repeat="false"} 1`,
				`holdfast_dependency_limit{dependency="risk_api"} 8`,
				`holdfast_dependency_breaker_open{dependency="notification_api"} 0`,
			} {
				require.Contains(t, string(page), line)
			}
		}
	}
}

func TestSeedingTwiceKeepsTheAccountsAndMakesNewKeys(t *testing.T) {
	t.Parallel()
	cfg, err := config.Load([]string{"DATABASE_URL=" + pgtest.DB(t).URL})
	require.NoError(t, err)
	pool, err := app.OpenAPIPool(t.Context(), cfg)
	require.NoError(t, err)
	defer pool.Close()
	first, err := app.Seed(t.Context(), pool, time.Now)
	require.NoError(t, err)
	second, err := app.Seed(t.Context(), pool, time.Now)
	require.NoError(t, err)
	require.Equal(t, first.Accounts, second.Accounts)
	require.NotEqual(t, first.Key, second.Key)
}

func TestATakenPortIsAClearError(t *testing.T) {
	t.Parallel()
	socket, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = socket.Close() }()
	cfg, err := config.Load([]string{"DATABASE_URL=" + pgtest.DB(t).URL})
	require.NoError(t, err)
	cfg.Addr, cfg.AdminAddr = socket.Addr().String(), "127.0.0.1:0"
	env, err := app.NewEnv(cfg, "test")
	require.NoError(t, err)
	api, err := app.NewAPI(t.Context(), cfg, env)
	require.NoError(t, err)
	err = app.Run(t.Context(), config.Drain{Max: time.Second}, api)
	require.ErrorContains(t, err, "is taken by another program")
}
