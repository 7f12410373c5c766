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
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/mode"
	"example.com/holdfast/internal/privatepg"
	"example.com/holdfast/internal/tenancy"
	"example.com/holdfast/loadtest/rig"
	"example.com/holdfast/loadtest/scenario"
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
	// Broken plays scenarios with their promise switched off: what they claim has to fail. Root is the folder
	// of the source that is changed for it.
	Broken bool
	Root   string
}

// Choice says which scenarios to play: those of names and files, or else a set.
type Choice struct {
	Names []string
	// Files are scenarios of your own.
	Files []string
	// Fast is those of the repository's files that take a few minutes, Long what is no file as well.
	Fast, Long bool
}

// scenario is a named drill. Each of its variants is a run on fresh processes and a fresh database.
type piece struct {
	name, about string
	// most bounds one variant at full scale.
	most time.Duration
	// fast puts it into the fast subset.
	fast bool
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
	// settings are the processes', as NAME=value; postgres are those of the server.
	settings []string
	postgres map[string]string
	// policy makes the policy of the processes; nil is the default.
	policy func() ([]byte, error)
	// tenants is how many send; zero is one.
	tenants int
	// file is the scenario's, if it has one, and broken what switches its promise off.
	file   *scenario.Scenario
	broken *scenario.Broken
	play   func(context.Context, *stage)
}

// long lists what is no file: it does what files have no words for, and takes its time.
func long() []piece {
	return []piece{
		kills(), globalLimit(), lostReplies(), clockSkew(), rolling(), eventsLeave(), incident(), overload(),
		modes(),
	}
}

// pieces lists the scenarios of the repository's files, and what is long.
func pieces(broken bool) ([]piece, error) {
	files, err := scenario.All()
	if err != nil {
		return nil, err
	}
	var all []piece
	for _, f := range files {
		all = append(all, ofFile(f, broken))
	}
	if broken { // what is long has no such variant
		return all, nil
	}
	return append(all, long()...), nil
}

// List writes the names of all scenarios with what they do.
func List(w io.Writer) error {
	all, err := pieces(false)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, s := range all {
		mark := ""
		switch {
		case s.fast:
			mark = "fast"
		case s.variants[0].file == nil:
			mark = "long"
		}
		fmt.Fprintf(&b, "%-23s %-5s %s\n", s.name, mark, s.about)
	}
	_, err = io.WriteString(w, b.String())
	return err
}

// choose finds the scenarios of a choice.
func (c Choice) choose(broken bool) ([]piece, error) {
	all, err := pieces(broken)
	if err != nil {
		return nil, err
	}
	var chosen []piece
	for _, name := range c.Names {
		i := slices.IndexFunc(all, func(p piece) bool { return p.name == name })
		if i < 0 {
			return nil, fmt.Errorf("drill: there is no scenario %q: see the list", name)
		}
		chosen = append(chosen, all[i])
	}
	for _, file := range c.Files {
		f, err := scenario.Load(file)
		if err != nil {
			return nil, err
		}
		if broken && f.Broken.IsZero() {
			return nil, fmt.Errorf("drill: scenario %s does not say what breaks it", file)
		}
		chosen = append(chosen, ofFile(f, broken))
	}
	if len(c.Names)+len(c.Files) > 0 {
		return chosen, nil
	}
	return slices.DeleteFunc(all, func(p piece) bool {
		isLong := p.variants[0].file == nil
		return c.Fast && !p.fast || !c.Long && isLong
	}), nil
}

// Run plays scenarios one after the other. One that could not be carried out is in the report as broken off;
// an error means that there is no report worth reading.
func Run(ctx context.Context, o Options, c Choice) (Report, error) {
	chosen, err := c.choose(o.Broken)
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
	params := rig.ServerSettings()
	maps.Copy(params, v.postgres)
	options := privatepg.Options{
		Env: r.o.Env, Volatile: r.o.Volatile, Params: params, Environ: faketime(v.clock),
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
		if err == nil && v.broken != nil && v.broken.SQL != "" {
			_, err = pool.Exec(ctx, v.broken.SQL)
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
