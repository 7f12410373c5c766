package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime/pprof"
	"strconv"
	"strings"

	"example.com/holdfast/internal/app"
	"example.com/holdfast/internal/config"
	"example.com/holdfast/internal/tracing"
	"example.com/holdfast/loadtest/rig"
	"example.com/holdfast/loadtest/simdep"
)

// The kinds of a system under test.
const (
	// kindHoldfast is API and worker as `ctl up` runs them.
	kindHoldfast = "holdfast"
	// kindAccepts is the API alone, with admission off since nobody works.
	kindAccepts = "holdfast-accepts"
	// kindSilent is kindHoldfast on a database whose events go nowhere, kindLogged one whose events get into
	// the log, as they do in kindHoldfast too: the two are measured side by side.
	// kindPublished is one whose events go on from the log to a broker, which is a kindBroker of its own.
	kindSilent    = "holdfast, silent"
	kindLogged    = "holdfast, logged"
	kindPublished = "holdfast, published"
	kindBroker    = "broker"
	// kindTraced is kindLogged with a tenth of its traces sampled, and sent to a kindCollector of its own.
	kindTraced    = "holdfast, traced"
	kindCollector = "collector"
	// kindNaive is the naive path, kindNaiveAccepts its API alone.
	kindNaive        = "naive"
	kindNaiveAccepts = "naive-accepts"
)

// The variables that tell a child what it is; the rest are the settings of internal/config.
const (
	kindVariable = "HOLDFAST_BENCH_SYSTEM"
	keyVariable  = "HOLDFAST_BENCH_KEY"
	// tenantVariable names the one tenant of the naive path, which has no sign-in of its own.
	tenantVariable = "HOLDFAST_BENCH_TENANT"
	// profileVariable names the file for a CPU profile of the child.
	profileVariable = "HOLDFAST_BENCH_PROFILE"
)

// childEnviron is what a child is told through its environment.
func childEnviron(kind, databaseURL string, s rig.Tenant, d *dependencies) []string {
	if isHoldfast(kind) {
		kind = kindHoldfast
	}
	environ := []string{
		kindVariable + "=" + kind, keyVariable + "=" + s.Key, tenantVariable + "=" + s.ID.String(),
		"DATABASE_URL=" + databaseURL, "HOLDFAST_ADDR=127.0.0.1:0", "HOLDFAST_ADMIN_ADDR=127.0.0.1:0",
		"HOLDFAST_LOG_LEVEL=warn", "HOLDFAST_LOG_FORMAT=text",
		"HOLDFAST_RISK_LIMIT=" + strconv.Itoa(dependencyLimit),
		"HOLDFAST_NOTIFY_LIMIT=" + strconv.Itoa(dependencyLimit),
		// One tenant is the whole load, and only admission may hold it back.
		"HOLDFAST_TENANT_RATE=1000000",
	}
	if d != nil {
		environ = append(environ, "HOLDFAST_RISK_URL="+d.risk.URL(),
			"HOLDFAST_PAYOUT_URL="+d.risk.URL(), "HOLDFAST_NOTIFY_URL="+d.notify.URL())
	}
	if kind == kindAccepts {
		environ = append(environ, "HOLDFAST_QUEUE_AGE_MAX=1h")
	}
	return environ
}

// journalMax is how many effect keys a dependency remembers: more than are ever tried again, and too few
// to keep the child's garbage collector busy.
const journalMax = 16_384

// dependencies are the two simulated services.
type dependencies struct {
	risk, notify *simdep.Server
}

func startDependencies(ctx context.Context) (*dependencies, error) {
	o := simdep.Options{JournalLimit: journalMax, Knobs: simdep.Knobs{
		Latency: simdep.Latency{Distribution: simdep.Fixed, P50: dependencyMS},
	}}
	risk, err := simdep.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	notify, err := simdep.Start(ctx, o)
	if err != nil {
		return nil, errors.Join(err, risk.Close())
	}
	return &dependencies{risk: risk, notify: notify}, nil
}

func (d *dependencies) close() error {
	if d == nil {
		return nil
	}
	return errors.Join(d.risk.Close(), d.notify.Close())
}

// via is how the child reaches its dependencies: inside itself, unless the settings name URLs.
func (d *dependencies) via(cfg *config.Config) (http.RoundTripper, http.RoundTripper) {
	if d == nil {
		return nil, nil
	}
	cfg.Risk.URL, cfg.Payout.URL, cfg.Notify.URL = d.risk.URL(), d.risk.URL(), d.notify.URL()
	return d.risk.RoundTripper(), d.notify.RoundTripper()
}

// running is a system that answers at an address.
type running interface {
	Addr() string
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
}

// Serve is the child: it runs the system that its environment names until in ends. The environment has
// the form of os.Environ.
func Serve(ctx context.Context, environ []string, in io.Reader, out io.Writer) error {
	switch variables(environ)[kindVariable] {
	case kindBroker:
		return serveBroker(in, out)
	case kindCollector:
		return serveCollector(ctx, in, out)
	}
	cfg, err := config.Load(environ)
	if err != nil {
		return err
	}
	var inside *dependencies
	if cfg.Risk.URL == "" {
		if inside, err = startDependencies(ctx); err != nil {
			return err
		}
	}
	s, err := build(ctx, cfg, environ, inside)
	if err != nil {
		return errors.Join(err, inside.close())
	}
	stopProfile, err := profile(variables(environ)[profileVariable])
	if err == nil {
		err = s.Start(ctx)
	}
	if err == nil {
		err = answerParent(in, out, s.Addr())
	}
	err = errors.Join(err, stopProfile())
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.Drain.Max)
	defer cancel()
	return errors.Join(err, s.Stop(ctx), inside.close())
}

// profile begins a CPU profile and returns what ends it; without a file both do nothing.
func profile(file string) (func() error, error) {
	nothing := func() error { return nil }
	if file == "" {
		return nothing, nil
	}
	f, err := os.Create(file) //nolint:gosec // the one who measures names the file
	if err != nil {
		return nothing, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return f.Close, err
	}
	return func() error { pprof.StopCPUProfile(); return f.Close() }, nil
}

func variables(environ []string) map[string]string {
	values := make(map[string]string, len(environ))
	for _, v := range environ {
		name, value, _ := strings.Cut(v, "=")
		values[name] = value
	}
	return values
}

func build(
	ctx context.Context, cfg config.Config, environ []string, inside *dependencies,
) (running, error) {
	risk, notify := inside.via(&cfg)
	vars := variables(environ)
	switch kind := vars[kindVariable]; kind {
	case kindHoldfast, kindAccepts:
		via := app.Transports{Risk: risk, Payout: risk, Notify: notify}
		return newHoldfast(ctx, cfg, kind == kindHoldfast, via, environ)
	case kindNaive, kindNaiveAccepts:
		return newNaive(ctx, cfg, naiveOptions{
			tenant: vars[tenantVariable], key: vars[keyVariable], works: kind == kindNaive,
			risk: risk, notify: notify,
		})
	default:
		return nil, fmt.Errorf("%s is %q: it names no system", kindVariable, kind)
	}
}

// holdfast is API and worker in one process, wired by app as for `ctl up`.
type holdfast struct {
	api    *app.API
	worker *app.Worker
	traces *tracing.Traces
}

func newHoldfast(
	ctx context.Context, cfg config.Config, works bool, via app.Transports, environ []string,
) (*holdfast, error) {
	env, err := app.NewEnv(cfg, app.Version())
	if err != nil {
		return nil, err
	}
	h := &holdfast{}
	if h.traces, err = env.OpenTraces(ctx, "holdfast", environ); err != nil {
		return nil, err
	}
	if works {
		if h.worker, err = app.NewWorker(ctx, cfg, env, via); err != nil {
			return nil, err
		}
	}
	h.api, err = app.NewAPI(ctx, cfg, env)
	return h, err
}

// Addr is where it answers.
func (h *holdfast) Addr() string { return h.api.Addr() }

// Start starts the worker before the API.
func (h *holdfast) Start(ctx context.Context) error {
	ctx = h.traces.Into(ctx)
	if h.worker != nil {
		if err := h.worker.Start(ctx); err != nil {
			return err
		}
	}
	return h.api.Start(ctx)
}

// Stop stops the API before the worker.
func (h *holdfast) Stop(ctx context.Context) error {
	err := h.api.Stop(ctx)
	if h.worker != nil {
		err = errors.Join(err, h.worker.Stop(ctx))
	}
	return errors.Join(err, h.traces.Stop(ctx))
}
