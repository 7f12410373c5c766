// Package drill shows by running what the promises say: named scenarios of load, fault and recovery, each
// with claims that are held to what was measured.
//
// A scenario runs on a private, durable PostgreSQL. One api process and as many workers as it wants are this
// program again, wired by internal/app as in cmd/api and cmd/worker; the dependencies are simulated in the
// parent, over real sockets, so that their journals outlive workers that are killed. Faults are real:
// signals to own children, and the knobs of the dependencies.
//
// It refuses to claim figures of a machine: a claim is a ratio within one run, a count, or a bound that the
// promises name. A claim about nothing, since too little was measured, fails. It sends nothing beyond this
// machine and signals nobody but its children and theirs.
//
// Invariant: every wait is bounded, and whatever a scenario starts has ended when it has.
package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/mode"
	"example.com/holdfast/internal/privatepg"
	"example.com/holdfast/internal/tenancy"
	"example.com/holdfast/loadtest/rig"
)

const (
	// accountsPerTenant are enough that no account is everybody's.
	accountsPerTenant = 50
)

// Options says how to run scenarios.
type Options struct {
	// Command runs a child: a program that calls rig.Serve. Environ is what it gets besides.
	Command []string
	Environ []string
	// Now is the clock of load and waits.
	Now func() time.Time
	// Env reads PATH and PG_BIN_DIR for the search of PostgreSQL's programs.
	Env func(string) string
	// Progress gets a line per step, Logs what the children write.
	Progress, Logs io.Writer
	// Scale shortens and thins the scenarios; 1 is the whole.
	Scale float64
	// Mode is pinned for the load of every scenario, if it is one; what it defers catches up at the end.
	Mode mode.Mode
	// Volatile runs PostgreSQL without fsync: for tests.
	Volatile bool
}

// scenario is a named drill. Each of its variants is a run on fresh processes and a fresh database.
type scenario struct {
	name, about string
	// most bounds one variant at full scale.
	most time.Duration
	// cannot says why it cannot be played here, or ""; nil is nothing.
	cannot   func() string
	variants []variant
}

// variant is one way to run a scenario.
type variant struct {
	// name tells variants apart; empty if there is one.
	name string
	// clock is what libfaketime does to the database's clock, such as -2h; empty leaves it alone.
	clock string
	// settings are the processes', as NAME=value.
	settings []string
	// policy makes the policy of the processes; nil is the default.
	policy func() ([]byte, error)
	// tenants is how many send; zero is one.
	tenants int
	play    func(context.Context, *stage)
}

// scenarios lists all drills.
func scenarios() []scenario {
	return []scenario{
		slowRisk(), kills(), zombie(), globalLimit(), lostReplies(), noisyTenant(), clockSkew(), rolling(),
		brownout(), eventsLeave(), incident(), overload(), stall(),
		modes(), postgresAway(), duplicateKeys(), lastUnitsSold(), postgresCrash(),
	}
}

// List writes the names of all scenarios with what they do.
func List(w io.Writer) error {
	var b strings.Builder
	for _, s := range scenarios() {
		fmt.Fprintf(&b, "%-14s %s\n", s.name, s.about)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// choose finds scenarios by their names; none means all.
func choose(names []string) ([]scenario, error) {
	if len(names) == 0 {
		return scenarios(), nil
	}
	var chosen []scenario
	for _, name := range names {
		found := false
		for _, s := range scenarios() {
			if s.name == name {
				chosen, found = append(chosen, s), true
			}
		}
		if !found {
			return nil, fmt.Errorf("drill: there is no scenario %q: see the list", name)
		}
	}
	return chosen, nil
}

// Run plays scenarios one after the other, all if none is named. One that could not be carried out is in the
// report as broken off; an error means that there is no report worth reading.
func Run(ctx context.Context, o Options, names ...string) (Report, error) {
	chosen, err := choose(names)
	if err != nil {
		return Report{}, err
	}
	if o.Scale <= 0 {
		return Report{}, errors.New("drill: the scale has to be positive")
	}
	r := &run{o: o, began: o.Now()}
	r.report.At = r.began.UTC().Format("2006-01-02 15:04")
	r.report.Scale = o.Scale
	r.report.Machine = fmt.Sprintf("%d cores, %s/%s, %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH,
		runtime.Version())
	for _, s := range chosen {
		for _, v := range s.variants {
			if ctx.Err() != nil {
				return r.report, ctx.Err()
			}
			r.report.Outcomes = append(r.report.Outcomes, r.play(ctx, s, v))
		}
	}
	r.report.Seconds = o.Now().Sub(r.began).Seconds()
	return r.report, nil
}

// run is a run in progress.
type run struct {
	o      Options
	began  time.Time
	report Report
}

func (r *run) say(format string, args ...any) {
	took := r.o.Now().Sub(r.began).Seconds()
	_, _ = fmt.Fprintf(r.o.Progress, "drill: %6.1f s  "+format+"\n", append([]any{took}, args...)...)
}

// world is the database of a variant with what its template holds.
type world struct {
	*rig.Database

	tenants  []rig.Tenant
	adminKey string
}

// startWorld starts a PostgreSQL of a variant's own: its clock may be another one.
func (r *run) startWorld(ctx context.Context, v variant) (*world, error) {
	w := &world{}
	options := privatepg.Options{
		Env: r.o.Env, Volatile: r.o.Volatile, Params: rig.ServerSettings(), Environ: faketime(v.clock),
	}
	var err error
	w.Database, err = rig.StartDatabase(ctx, options, func(ctx context.Context, pool *pgxpool.Pool) error {
		for i := range max(v.tenants, 1) {
			t, err := rig.SeedTenant(ctx, pool, r.o.Now, fmt.Sprintf("drill-%d", i+1), accountsPerTenant)
			if err != nil {
				return err
			}
			w.tenants = append(w.tenants, t)
		}
		var err error
		w.adminKey, err = tenancy.NewService(pool, r.o.Now).
			CreateAdminKey(ctx, "drill operator", "rig", tenancy.Operator)
		if err == nil && r.o.Mode != "" {
			err = w.underMode(ctx, pool, r.o.Mode)
		}
		return err
	})
	return w, err
}

// underMode pins a mode. The tenants' keys are of the class that passes in each.
func (w *world) underMode(ctx context.Context, pool *pgxpool.Pool, m mode.Mode) error {
	for i := range w.tenants {
		w.tenants[i].Key = w.tenants[i].Keys[string(tenancy.Critical)]
	}
	return rig.PinMode(ctx, pool, m)
}
