package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/db/migrations"
	"example.com/holdfast/internal/app"
	"example.com/holdfast/internal/config"
	"example.com/holdfast/internal/privatepg"
	"example.com/holdfast/internal/privatepg/download"
	"example.com/holdfast/loadtest/simdep"
)

// What the key of webhooks is, and who may read it.
const (
	webhookKeyBytes = 32
	webhookKeyMode  = 0o600
	webhookDirMode  = 0o755
)

// simulatedLatency is what a call to a simulated dependency takes, in milliseconds.
const simulatedLatency = 5

//nolint:lll // help texts are struct tags
type upCmd struct {
	Port       int    `default:"8080" help:"Port of the public API on 127.0.0.1; 0 takes a free one."`
	AdminPort  int    `default:"8081" help:"Port of the admin listener on 127.0.0.1; 0 takes a free one."`
	RiskPort   int    `default:"8091" help:"Port of the simulated risk service; 0 takes a free one."`
	NotifyPort int    `default:"8092" help:"Port of the simulated notification service; 0 takes a free one."`
	PayoutPort int    `default:"8093" help:"Port of the simulated payout rail; 0 takes a free one."`
	PGPort     int    `default:"0" help:"Also let Postgres listen on 127.0.0.1 at this port; 0 keeps it on its unix socket."`
	Data       string `default:"${data}" type:"path" help:"Folder that keeps the database between runs."`
	Fresh      bool   `help:"Throw the kept database away and start over."`
	LogFormat  string `default:"text" enum:"text,json" help:"How the log on stderr looks."`
	LogLevel   string `default:"warn" enum:"debug,info,warn,error" help:"What the log on stderr tells; info has a line per request."`
}

// Run brings everything up, says how to use it, and waits for Ctrl-C.
func (c *upCmd) Run(ctx context.Context) (err error) {
	began := time.Now()
	app.TuneGC(os.Getenv("GOGC"))
	cfg, env, err := c.settings()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stopDatabase, err := c.database(ctx, &cfg, env.Log, cancel)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopDatabase()) }()
	if err := migrations.Up(ctx, cfg.DatabaseURL); err != nil {
		return err
	}
	demo, err := seed(ctx, cfg)
	if err != nil {
		return err
	}
	closeDependencies, err := c.dependencies(ctx, &cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeDependencies()) }()
	worker, err := app.NewWorker(ctx, cfg, env, app.Transports{})
	if err != nil {
		return err
	}
	api, err := app.NewAPI(ctx, cfg, env, worker.Checks()...)
	if err != nil {
		return err
	}
	traces, err := env.OpenTraces(ctx, "holdfast", os.Environ())
	if err != nil {
		return err
	}
	ready := announcement{api: api, cfg: cfg, demo: demo, began: began}
	err = app.Run(traces.Into(ctx), cfg.Drain, traces, worker, api, ready)
	if cause := context.Cause(ctx); errors.Is(cause, errDatabaseEnded) {
		return fmt.Errorf("%w (see its last words above, or %s); start again to recover", cause, c.Data)
	}
	return err
}

var errDatabaseEnded = errors.New("the private Postgres ended by itself")

// settings are those of the environment with those of the flags on top.
func (c *upCmd) settings() (config.Config, app.Env, error) {
	cfg, err := config.Load(os.Environ())
	if err != nil {
		return config.Config{}, app.Env{}, err
	}
	cfg.Addr, cfg.AdminAddr = local(c.Port), local(c.AdminPort)
	cfg.LogFormat, cfg.LogLevel = c.LogFormat, c.LogLevel
	cfg.WebhookDevelopment = true
	if cfg.WebhookKey == "" {
		if cfg.WebhookKey, err = c.webhookKey(); err != nil {
			return config.Config{}, app.Env{}, err
		}
		if len(cfg.WebhookMasterKey()) < webhookKeyBytes {
			const text = "%s is not %d bytes in base64; remove it for a new one"
			return config.Config{}, app.Env{}, fmt.Errorf(text, c.webhookKeyFile(), webhookKeyBytes)
		}
	}
	env, err := app.NewEnv(cfg, app.Version())
	return cfg, env, err
}

// webhookKey is kept beside the database, so that endpoints keep their secrets between runs.
func (c *upCmd) webhookKey() (string, error) {
	file := c.webhookKeyFile()
	kept, err := os.ReadFile(file) //nolint:gosec // the user names the folder
	if err == nil {
		return strings.TrimSpace(string(kept)), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read key of webhooks: %w", err)
	}
	random := make([]byte, webhookKeyBytes)
	_, _ = rand.Read(random) // it never fails
	key := base64.StdEncoding.EncodeToString(random)
	err = os.MkdirAll(filepath.Dir(file), webhookDirMode)
	if err == nil {
		err = os.WriteFile(file, []byte(key+"\n"), webhookKeyMode)
	}
	if err != nil {
		return "", fmt.Errorf("keep key of webhooks: %w", err)
	}
	return key, nil
}

func (c *upCmd) webhookKeyFile() string { return c.Data + ".webhook-key" }

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// database finds a database: that of DATABASE_URL, or a private one, whose end by itself ends the rest.
func (c *upCmd) database(
	ctx context.Context, cfg *config.Config, log *slog.Logger, ended context.CancelCauseFunc,
) (func() error, error) {
	if cfg.DatabaseURL != "" {
		say("using the database of DATABASE_URL")
		return func() error { return nil }, nil
	}
	say("starting a private Postgres in %s", c.Data)
	server, err := privatepg.Start(ctx, privatepg.Options{
		Env: os.Getenv, Dir: c.Data, Fresh: c.Fresh, TCP: c.PGPort != 0, Port: c.PGPort, Log: log,
		Download: func(ctx context.Context) (string, error) {
			say("no Postgres on this machine: downloading one")
			return download.Fetch(ctx, filepath.Join(c.Data, "..", "postgres-binaries"))
		},
	})
	if err != nil {
		return nil, err
	}
	cfg.DatabaseURL = server.URL("postgres")
	go func() {
		<-server.Done()
		ended(errDatabaseEnded)
	}()
	return server.Stop, nil
}

func seed(ctx context.Context, cfg config.Config) (app.Demo, error) {
	pool, err := app.OpenAPIPool(ctx, cfg)
	if err != nil {
		return app.Demo{}, err
	}
	defer pool.Close()
	return app.Seed(ctx, pool, time.Now)
}

// dependencies starts those that no setting names.
func (c *upCmd) dependencies(ctx context.Context, cfg *config.Config) (func() error, error) {
	var servers []*simdep.Server
	stop := func() error {
		var errs []error
		for _, s := range servers {
			errs = append(errs, s.Close())
		}
		return errors.Join(errs...)
	}
	for _, d := range []struct {
		settings *config.Dependency
		port     int
	}{{&cfg.Risk, c.RiskPort}, {&cfg.Notify, c.NotifyPort}, {&cfg.Payout, c.PayoutPort}} {
		if d.settings.URL != "" {
			continue
		}
		s, err := simdep.Start(ctx, simdep.Options{
			Addr: local(d.port), Knobs: simdep.Knobs{Latency: simdep.Latency{P50: simulatedLatency}},
		})
		if err != nil {
			return nil, errors.Join(err, stop())
		}
		servers = append(servers, s)
		d.settings.URL = s.URL()
	}
	return stop, nil
}

// announcement says how to use what is up. It is the last service to start.
type announcement struct {
	api   *app.API
	cfg   config.Config
	demo  app.Demo
	began time.Time
}

// Start prints one JSON line for scripts on stdout, and everything for people on stderr.
func (a announcement) Start(context.Context) error {
	base, admin := "http://"+a.api.Addr(), "http://"+a.api.AdminAddr()
	a.explain(os.Stderr, base, admin)
	return json.NewEncoder(os.Stdout).Encode(struct {
		API      string      `json:"api"`
		Admin    string      `json:"admin"`
		Key      string      `json:"key"`
		AdminKey string      `json:"admin_key"`
		Accounts []uuid.UUID `json:"accounts"`
	}{base, admin, a.demo.Key, a.demo.AdminKey, a.demo.Accounts})
}

// Stop has nothing to stop.
func (announcement) Stop(context.Context) error { return nil }

func (a announcement) explain(w io.Writer, base, admin string) {
	text := strings.NewReplacer(
		"{took}", time.Since(a.began).Round(10*time.Millisecond).String(), "{base}", base, "{admin}", admin,
		"{key}", a.demo.Key, "{admin_key}", a.demo.AdminKey, "{from}", a.demo.Accounts[0].String(),
		"{to}", a.demo.Accounts[1].String(), "{world}", a.demo.World.String(),
		"{risk}", a.cfg.Risk.URL, "{notify}", a.cfg.Notify.URL,
		"{payout}", a.cfg.Payout.URL, "{database}", a.cfg.DatabaseURL, "{location}", a.demo.Location,
		"{sku}", a.demo.SKUs[0].String(), "{slot}", a.demo.Slots[0].String(),
	).Replace(welcome)
	_, _ = io.WriteString(w, text)
}

const welcome = `
Holdfast is up ({took}).

  API           {base}        docs at {base}/docs/
  admin         {admin}        /readyz, /metrics, docs at {admin}/docs/
  risk          {risk}        GET and PUT /knobs, GET /journal
  notification  {notify}        GET and PUT /knobs, GET /journal
  payout rail   {payout}        GET and PUT /knobs, GET /journal
  database      psql '{database}'

Create a transfer:

  curl -sS {base}/v1/transfers \
    -H 'Authorization: Bearer {key}' \
    -H "Idempotency-Key: first-$(date +%s)" -H 'Content-Type: application/json' \
    -d '{"from_account":"{from}","to_account":"{to}","amount":{"value":125,"currency":"EUR"}}'

Pay out to the world outside, by the payout rail:

  curl -sS {base}/v1/transfers \
    -H 'Authorization: Bearer {key}' \
    -H "Idempotency-Key: payout-$(date +%s)" -H 'Content-Type: application/json' \
    -d '{"from_account":"{from}","to_account":"{world}","amount":{"value":250,"currency":"EUR"}}'

See your transfers, newest first:

  curl -sS '{base}/v1/transfers?limit=1' -H 'Authorization: Bearer {key}'

Place an order for two kilos of apples tomorrow morning:

  curl -sS {base}/v1/orders \
    -H 'Authorization: Bearer {key}' \
    -H "Idempotency-Key: order-$(date +%s)" -H 'Content-Type: application/json' \
    -d '{"customer_account":"{from}","merchant_account":"{to}","location":"{location}",
         "slot":"{slot}","lines":[{"sku":"{sku}","quantity":2}]}'

Follow what happens, as server-sent events (webhooks: docs/events.md):

  curl -sSN '{base}/v1/events' -H 'Authorization: Bearer {key}' -H 'Accept: text/event-stream'

See your orders, newest first:

  curl -sS '{base}/v1/orders?limit=1' -H 'Authorization: Bearer {key}'

Ctrl-C stops everything; the data stays for the next run.

`

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "ctl: "+format+"\n", args...) }
