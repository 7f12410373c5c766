package app_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/app"
	"example.com/holdfast/internal/config"
	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/slots"
	"example.com/holdfast/loadtest/simdep"
)

// waitMax bounds what these tests wait for.
const waitMax = 20 * time.Second

// drainingService is a service that drains.
type drainingService struct{ fakeService }

func (d drainingService) Drain() { *d.log = append(*d.log, "drain "+d.name) }

func TestEverybodySaysThatTheEndIsNearBeforeAnybodyStops(t *testing.T) {
	t.Parallel()
	var log []string
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, app.Run(ctx, config.Drain{Grace: time.Millisecond, Max: time.Second},
		drainingService{fakeService{"a", nil, &log}}, fakeService{"b", nil, &log},
		drainingService{fakeService{"c", nil, &log}}))
	require.Equal(t, []string{
		"start a", "start b", "start c", "drain a", "drain c", "stop c", "stop b", "stop a",
	}, log)
}

// stubborn is a service whose stop ends only with the test.
type stubborn struct{ until <-chan struct{} }

func (stubborn) Start(context.Context) error { return nil }

func (s stubborn) Stop(context.Context) error {
	<-s.until
	return nil
}

func TestAServiceThatDoesNotStopDoesNotKeepTheProcess(t *testing.T) {
	t.Parallel()
	until := make(chan struct{})
	defer close(until)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := app.Run(ctx, config.Drain{Max: 50 * time.Millisecond}, stubborn{until})
	require.ErrorContains(t, err, "drain took longer than 50ms")
}

// halves are an API and a worker that a test starts and stops by itself, in one database, with one risk
// service.
type halves struct {
	system

	cfg  config.Config
	pool *pgxpool.Pool
	risk *simdep.Server
}

func newHalves(t *testing.T, set func(*config.Config)) halves {
	t.Helper()
	db := pgtest.DB(t)
	risk, err := simdep.Start(t.Context(), simdep.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, risk.Close()) })
	h := halves{pool: db.Pool, risk: risk}
	h.cfg, err = config.Load([]string{
		"DATABASE_URL=" + db.URL, "HOLDFAST_LOG_LEVEL=error",
		"HOLDFAST_RISK_URL=" + risk.URL(), "HOLDFAST_NOTIFY_URL=" + risk.URL(),
		"HOLDFAST_PAYOUT_URL=" + risk.URL(),
	})
	require.NoError(t, err)
	h.cfg.Addr, h.cfg.AdminAddr = "127.0.0.1:0", "127.0.0.1:0"
	set(&h.cfg)
	pool, err := app.OpenAPIPool(t.Context(), h.cfg)
	require.NoError(t, err)
	defer pool.Close()
	h.demo, err = app.Seed(t.Context(), pool, time.Now)
	require.NoError(t, err)
	h.api, err = app.NewAPI(t.Context(), h.cfg, h.env(t))
	require.NoError(t, err)
	return h
}

// env is that of a process of its own.
func (h halves) env(t *testing.T) app.Env {
	t.Helper()
	env, err := app.NewEnv(h.cfg, "test")
	require.NoError(t, err)
	return env
}

func (h halves) worker(t *testing.T) *app.Worker {
	t.Helper()
	w, err := app.NewWorker(t.Context(), h.cfg, h.env(t), app.Transports{})
	require.NoError(t, err)
	w.ListenAdmin()
	return w
}

// running is a service between Start and the end of its Run.
type running struct {
	end   context.CancelFunc
	ended <-chan error
}

// run runs services until end is called, or the test ends.
func run(t *testing.T, drain config.Drain, services ...app.Service) running {
	t.Helper()
	ctx, end := context.WithCancel(context.WithoutCancel(t.Context()))
	started, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(ended)
		ended <- app.Run(ctx, drain, append(services, announce{started})...)
	}()
	t.Cleanup(func() {
		end()
		for range ended { // until it is closed
		}
	})
	select {
	case <-started:
	case err := <-ended:
		t.Fatalf("ended before it was started: %v", err)
	}
	return running{end, ended}
}

// announce is a service that says when those before it have started.
type announce struct{ started chan<- struct{} }

func (a announce) Start(context.Context) error { close(a.started); return nil }

func (announce) Stop(context.Context) error { return nil }

func (r running) requireEnds(t *testing.T) {
	t.Helper()
	select {
	case err := <-r.ended:
		require.NoError(t, err)
	case <-time.After(waitMax):
		t.Fatal("it did not end")
	}
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	require.Eventually(t, holds, waitMax, 5*time.Millisecond, what)
}

func (h halves) count(t *testing.T, sql string) int {
	t.Helper()
	var n int
	require.NoError(t, h.pool.QueryRow(t.Context(), sql).Scan(&n))
	return n
}

// readyz is the status and the report of a listener's readiness; status 0 when it does not listen.
func readyz(t *testing.T, addr string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/readyz", nil)
	require.NoError(t, err)
	reply, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = reply.Body.Close() }()
	text, err := io.ReadAll(reply.Body)
	require.NoError(t, err)
	return reply.StatusCode, string(text)
}

func (h halves) transfer(t *testing.T, key string) {
	t.Helper()
	body := fmt.Sprintf(`{"from_account":%q,"to_account":%q,"amount":{"value":1,"currency":"EUR"}}`,
		h.demo.Accounts[0], h.demo.Accounts[1])
	status, text := h.call(t, http.MethodPost, "/v1/transfers", body, "Idempotency-Key", key)
	require.Equal(t, http.StatusAccepted, status, text)
}

func TestADrainingAPISaysSoAndServesForItsGrace(t *testing.T) {
	t.Parallel()
	h := newHalves(t, func(*config.Config) {})
	api := run(t, config.Drain{Grace: 2 * time.Second, Max: 10 * time.Second}, h.api)
	admin := h.api.AdminAddr()
	status, text := readyz(t, admin)
	require.Equal(t, http.StatusOK, status, text)
	api.end()
	eventually(t, "not ready", func() bool {
		status, text = readyz(t, admin)
		return status == http.StatusServiceUnavailable
	})
	require.Contains(t, text, `"draining"`)
	h.transfer(t, "in-its-grace")
	api.requireEnds(t)
	status, _ = readyz(t, admin)
	require.Zero(t, status)
}

func TestWhoWaitsForATransferIsAnsweredWhenTheAPIEnds(t *testing.T) {
	t.Parallel()
	h := newHalves(t, func(*config.Config) {}) // and no worker, so that it stays accepted
	api := run(t, config.Drain{Max: 10 * time.Second}, h.api)
	h.transfer(t, "one")
	path := "/v1/transfers/" + h.transferID(t)
	answered := make(chan string, 1)
	r := h.request(t, http.MethodGet, path, "", "Prefer", "wait=30")
	go func() {
		reply, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			answered <- err.Error()
			return
		}
		text, err := io.ReadAll(reply.Body)
		answered <- fmt.Sprint(string(text), errors.Join(err, reply.Body.Close()))
	}()
	eventually(t, "the client waits", func() bool {
		return h.count(t, `SELECT count(*) FROM pg_stat_activity
		                    WHERE datname = current_database() AND application_name = 'holdfast-api'
		                      AND query LIKE '%name: GetTransfer %'`) > 0
	})
	api.end()
	api.requireEnds(t)
	require.Contains(t, <-answered, `"status":"accepted"`)
}

func (h halves) transferID(t *testing.T) string {
	t.Helper()
	var id string
	require.NoError(t, h.pool.QueryRow(t.Context(), "SELECT id FROM transfers").Scan(&id))
	return id
}

func TestWorkThatHangsIsGivenBackWithinTheBound(t *testing.T) {
	t.Parallel()
	h := newHalves(t, func(cfg *config.Config) { cfg.Risk.Timeout = slots.CallTimeoutMax })
	run(t, config.Drain{Max: 10 * time.Second}, h.api)
	require.NoError(t, h.risk.SetKnobs(simdep.Knobs{HangRate: 1}))
	first := h.worker(t)
	working := run(t, config.Drain{Max: 2 * time.Second}, first)
	admin := first.AdminAddr()
	const transfers = 3
	for i := range transfers {
		h.transfer(t, fmt.Sprint("hangs", i))
	}
	eventually(t, "the calls hang", func() bool { return h.risk.Journal().Hangs == transfers })

	working.end()
	eventually(t, "the admin listener tells of it meanwhile", func() bool {
		status, text := readyz(t, admin)
		if status == 0 {
			t.Fatal("it left before the work ended")
		}
		return status == http.StatusServiceUnavailable && strings.Contains(text, `"draining"`)
	})
	working.requireEnds(t)
	require.Zero(t, h.count(t, "SELECT count(*) FROM instances"), "it left the list")
	require.Zero(t, h.count(t, "SELECT count(*) FROM river_job WHERE state = 'running'"))
	require.Positive(t, h.count(t, `
SELECT count(*) FROM river_job WHERE state = 'available' AND kind = 'transfer_screen'`))
	require.Equal(t, transfers, h.count(t, `
SELECT count(*) FROM transfers WHERE state = 'accepted' AND attempts = 1`),
		"the next worker asks before it sends")

	require.NoError(t, h.risk.SetKnobs(simdep.Knobs{}))
	second := run(t, config.Drain{Max: 10 * time.Second}, h.worker(t))
	eventually(t, "another worker settles it", func() bool {
		return h.count(t, "SELECT count(*) FROM transfers WHERE state = 'settled'") == transfers
	})
	require.Zero(t, h.risk.Journal().Doubled)
	second.end()
	second.requireEnds(t)
}

// secondSignal names the process that TestASecondSignalEndsAtOnce starts.
const secondSignal = "HOLDFAST_TEST_SECOND_SIGNAL"

func TestASecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	if os.Getenv(secondSignal) != "" { //nolint:forbidigo // how the test tells its second process what it is
		ctx, stop := app.UntilSignal(context.WithoutCancel(t.Context()))
		defer stop()
		fmt.Println("started") //nolint:forbidigo // the other process reads it
		<-ctx.Done()
		fmt.Println("ending") //nolint:forbidigo // the other process reads it
		<-time.After(waitMax)
		return
	}
	child := exec.Command(os.Args[0], "-test.run=^TestASecondSignalEndsAtOnce$", "-test.timeout=1m")
	child.Env = append(os.Environ(), secondSignal+"=1")
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	t.Cleanup(func() { _ = child.Process.Kill() })
	lines := bufio.NewScanner(out)
	said := func(line string) {
		for lines.Scan() && lines.Text() != line {
		}
		require.Equal(t, line, lines.Text())
	}
	said("started")
	require.NoError(t, child.Process.Signal(syscall.SIGTERM))
	said("ending")
	exited := make(chan error, 1)
	go func() { exited <- child.Wait() }()
	var end error
	eventually(t, "the process ended", func() bool { // it may not have let go of signals yet
		select {
		case end = <-exited:
			return true
		default:
			_ = child.Process.Signal(syscall.SIGTERM)
			return false
		}
	})
	var ended *exec.ExitError
	require.ErrorAs(t, end, &ended)
	require.Equal(t, syscall.SIGTERM, ended.Sys().(syscall.WaitStatus).Signal())
}
