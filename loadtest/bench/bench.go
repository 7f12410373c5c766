// Package bench measures Holdfast beside a naive path and beside PostgreSQL itself, in one run on one
// machine: accepts, transfers from accepted to settled, orders from
// placed to confirmed, latencies, and what each costs in CPU.
//
// The parent process makes the load and judges; what is measured runs in a child process of the same
// program, so that their CPU can be told apart. The database is a private, durable PostgreSQL of the run.
//
// It refuses to guess: latency to settled or confirmed comes from the events' timestamps, a rate counts
// as sustained only if what was accepted also ended, and a phase after which an invariant of the stored
// rows does not hold is marked broken. It sends nothing beyond this machine.
//
// Invariant: an open loop counts a request's latency from the moment at which it was meant to be sent, so
// a system that stalls cannot make the load generator overlook the wait.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/mode"
	"example.com/holdfast/internal/privatepg"
	"example.com/holdfast/loadtest/rig"
)

// The accounts and amounts of the load.
const (
	accountsDefault = 1_000
	// amountMin and amountMax bound the amount of a transfer, so that each has three digits.
	amountMin, amountMax = 100, 999
)

// What the system under test works with.
const (
	// dependencyMS is what a call to a simulated dependency takes.
	dependencyMS = 5
	// dependencyLimit is how many calls to each dependency may be in flight.
	dependencyLimit = 128
)

// The bounds of a run.
const (
	// runMax ends a run that hangs.
	runMax = 15 * time.Minute
	// drainMax is how long a phase may take to finish what was accepted.
	drainMax = 40 * time.Second
)

// Options says what to measure. Make them with Full or Quick.
type Options struct {
	// Command runs the child: a program that calls Serve. Environ is what it gets besides.
	Command []string
	Environ []string
	// Now is the clock of the load generator.
	Now func() time.Time
	// Env reads PATH and PG_BIN_DIR for the search of PostgreSQL's programs.
	Env func(string) string
	// Progress gets a line per step.
	Progress io.Writer

	// Phase is how long a phase measures, after Ramp.
	Phase, Ramp time.Duration
	// PgbenchSeconds is how long each run of pgbench takes; zero measures by a loop of our own, for Phase.
	PgbenchSeconds int
	// Callers are the sizes of the closed loops.
	Callers []int
	// Rates are those of the open loops, in transfers per second; empty means around what the closed
	// loops sustained.
	Rates []float64
	// Shares are the open loops' rates when Rates is empty, as parts of what the closed loops sustained.
	Shares []float64
	// LowRate is that of the phase that shows the least latency.
	LowRate float64
	// Accounts is how many accounts there are.
	Accounts int
	// HTTPDependencies runs the dependencies as HTTP servers of the parent instead of inside the child.
	HTTPDependencies bool
	// Impatient makes refused callers of closed loops ask again at once instead of when they were told.
	Impatient bool
	// Profile is the file that gets the CPU profile of Holdfast's process, or empty.
	Profile string
	// Volatile runs PostgreSQL without fsync. The figures then mean nothing: it is for tests.
	Volatile bool
	// SkipPgbench, SkipNaive, SkipHoldfast and SkipOrders leave parts out. SkipHoldfast is about
	// its transfers, SkipOrders about its orders, SkipEvents about what its events cost.
	SkipPgbench, SkipNaive, SkipHoldfast, SkipOrders, SkipEvents bool
	// EventRounds is how often Holdfast is measured with and without events that leave, in turns.
	EventRounds int
}

// Full is the default run: all phases, under five minutes.
func Full() Options {
	return Options{
		Phase: 8 * time.Second, Ramp: 2 * time.Second, PgbenchSeconds: 5, Callers: []int{64, 256},
		Shares: []float64{0.9, 1, 1.1}, LowRate: 150, Accounts: accountsDefault, EventRounds: 3,
	}
}

// Quick is a short run of all phases, to see that they work; its figures are rough.
func Quick() Options {
	o := Full()
	o.Phase, o.Ramp, o.PgbenchSeconds, o.Accounts = time.Second, 500*time.Millisecond, 1, 200
	o.Callers, o.Shares, o.EventRounds = []int{64}, []float64{0.9}, 1
	return o
}

var errNothing = errors.New("bench: nothing is left to measure")

// Run measures and returns what it found. A phase that could not be carried out is an error; a goal that
// was missed or an invariant that does not hold is not: the report says so.
func Run(ctx context.Context, o Options) (Report, error) {
	if o.SkipPgbench && o.SkipNaive && o.SkipHoldfast && o.SkipOrders && o.SkipEvents {
		return Report{}, errNothing
	}
	ctx, cancel := context.WithTimeoutCause(ctx, runMax, fmt.Errorf("bench took longer than %s", runMax))
	defer cancel()
	r := &run{o: o, began: o.Now()}
	r.report.Machine = fmt.Sprintf("%d cores, %s/%s, %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH,
		runtime.Version())
	r.report.HTTPDependencies = o.HTTPDependencies
	r.report.At = o.Now().UTC().Format("2006-01-02 15:04")
	err := r.all(ctx)
	if err != nil && ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	r.report.Seconds = o.Now().Sub(r.began).Seconds()
	r.report.judge()
	return r.report, err
}

// run is a run in progress.
type run struct {
	o      Options
	began  time.Time
	db     *rig.Database
	seeds  rig.Tenant
	report Report
	serial int
	// profiled says that a system has got the file for the profile.
	profiled bool
}

func (r *run) say(format string, args ...any) {
	took := r.o.Now().Sub(r.began).Seconds()
	_, _ = fmt.Fprintf(r.o.Progress, "bench: %5.1f s  "+format+"\n", append([]any{took}, args...)...)
}

func (r *run) all(ctx context.Context) error {
	r.say("starting a private PostgreSQL, %d accounts", r.o.Accounts)
	var err error
	if r.db, r.seeds, err = startDatabase(ctx, r.o); err != nil {
		return err
	}
	defer func() { _ = r.db.Server.Stop() }() // its data is temporary
	r.report.Postgres = r.db.Server.Version()
	for _, part := range []struct {
		skip bool
		do   func(context.Context) error
	}{
		{r.o.SkipPgbench, r.commits},
		{r.o.SkipNaive, r.naive},
		{r.o.SkipHoldfast, r.holdfast},
		{r.o.SkipOrders, r.orders},
		{r.o.SkipEvents, r.events},
	} {
		if part.skip {
			continue
		}
		if err := part.do(ctx); err != nil {
			return err
		}
	}
	return nil
}

// startDatabase starts the run's PostgreSQL with one tenant in its template.
func startDatabase(ctx context.Context, o Options) (*rig.Database, rig.Tenant, error) {
	var seeds rig.Tenant
	db, err := rig.StartDatabase(ctx, privatepg.Options{
		Env: o.Env, Volatile: o.Volatile, Params: rig.ServerSettings(),
	}, func(ctx context.Context, pool *pgxpool.Pool) error {
		var err error
		seeds, err = rig.SeedTenant(ctx, pool, o.Now, "bench", o.Accounts)
		if err == nil {
			err = rig.PinMode(ctx, pool, mode.Normal) // all that is to be done is done
		}
		return err
	})
	return db, seeds, err
}
