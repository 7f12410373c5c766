package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"example.com/holdfast/loadtest/rig"
	"example.com/holdfast/loadtest/simdep"
)

const (
	// promise is how long an accepted transfer may take: what is open after a load has ended within it.
	promise = time.Minute
	// drainMax is how long a scenario waits for that before it says that it failed.
	drainMax = promise + 10*time.Second
	// startMax bounds the start of a database with its template, and what a variant needs to end.
	startMax = 2 * time.Minute
	// calmMillis is what a call to a dependency takes when nothing is wrong.
	calmMillis = 5
)

// stage is where a variant is played: processes, dependencies, a load, and what was claimed so far.
//
// Its operations report by err, as a bufio.Writer does: after one that failed the others do nothing, so that
// a scenario reads like its description. It is for one goroutine.
type stage struct {
	run   *run
	world *world
	url   string

	risk, notify, rail *simdep.Server
	receivers          []*receiver
	broker             *rig.Broker // of a scenario that has one
	command            []string    // that runs a process
	settings           []string
	api                *process
	mu                 sync.Mutex // of workers: who looks at metrics is told of them meanwhile
	workers            []*process
	all                []*process // every one that was started
	load               *load
	callers            []*traffic // one per tenant that was asked for
	referee            *rig.Referee
	outcome            *Outcome
	err                error
}

// play plays one variant and returns what it came to.
func (r *run) play(ctx context.Context, s piece, v variant) Outcome {
	began := r.o.Now()
	o := Outcome{Scenario: s.name, Variant: v.name, Claims: []Claim{}}
	r.say("%s: begins", o.title())
	why := cannotFake(v.clock)
	if why == "" && s.cannot != nil {
		why = s.cannot()
	}
	if why != "" {
		o.Skipped = why
		r.say("%s: skipped, %s", o.title(), why)
		return o
	}
	most := time.Duration(float64(s.most)*max(r.o.Scale, 0)) + 2*startMax + drainMax
	ctx, cancel := context.WithTimeoutCause(ctx, most, fmt.Errorf("%s took longer than %s", o.title(), most))
	defer cancel()
	err := r.stage(ctx, v, &o)
	if v.broken != nil {
		o.bites(v.broken.Fails)
	}
	if err != nil && ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	if err != nil {
		o.Error = strings.TrimSpace(err.Error())
	}
	o.Seconds = r.o.Now().Sub(began).Seconds()
	r.say("%s: ended after %.0f s, holds: %v %s", o.title(), o.Seconds, o.holds(), o.Error)
	return o
}

func (r *run) stage(ctx context.Context, v variant, o *Outcome) error {
	command, remove, err := r.program(ctx, v.broken)
	if err != nil {
		return err
	}
	defer remove()
	w, err := r.startWorld(ctx, v)
	if err != nil {
		return err
	}
	defer func() { _ = w.Server.Stop() }() // its data is temporary
	r.report.Postgres = w.Server.Version()
	s := &stage{run: r, world: w, command: command, settings: v.settings, outcome: o}
	unwrite := s.writePolicy(v)
	defer unwrite()
	s.raise(ctx)
	if s.err == nil {
		v.play(ctx, s)
	}
	return errors.Join(s.err, s.strike(ctx))
}

// raise starts what every variant needs: a database, the dependencies, the api.
func (s *stage) raise(ctx context.Context) {
	s.url, s.err = s.world.CopyOf(ctx, "drill")
	for _, server := range []**simdep.Server{&s.risk, &s.notify, &s.rail} {
		s.do(func() error {
			var err error
			*server, err = simdep.Start(context.WithoutCancel(ctx), simdep.Options{Knobs: calm()})
			return err
		})
	}
	s.do(func() error { return s.newReferee(ctx) })
	s.api = s.start(ctx, rig.RoleAPI)
}

func (s *stage) newReferee(ctx context.Context) error {
	var err error
	s.referee, err = rig.NewReferee(ctx, s.url, s.run.o.Now)
	return err
}

// writePolicy gives the processes the policy of a variant, and returns what removes it again.
func (s *stage) writePolicy(v variant) func() {
	if v.policy == nil {
		return func() {}
	}
	var folder string
	s.do(func() error {
		text, err := v.policy()
		if err != nil {
			return err
		}
		if folder, err = os.MkdirTemp("", "holdfast-drill-"); err != nil {
			return err
		}
		path := filepath.Join(folder, "policy.yaml")
		s.settings = append(slices.Clone(s.settings), "HOLDFAST_POLICY_FILE="+path)
		return os.WriteFile(path, text, policyPerm)
	})
	return func() { _ = os.RemoveAll(folder) } // a file of ours
}

// policyPerm is for a file that nobody else has to read.
const policyPerm = 0o600

// calm are the knobs of a dependency with which nothing is wrong.
func calm() simdep.Knobs {
	return simdep.Knobs{Latency: simdep.Latency{P50: calmMillis}, ReviewOver: reviewOver}
}

// strike ends everything, however far the variant came.
func (s *stage) strike(ctx context.Context) error {
	if s.load != nil {
		s.load.end()
	}
	var errs []error
	for _, p := range s.all {
		if !p.ended {
			_ = p.Signal(syscall.SIGCONT) // one that is paused hears nothing
			errs = append(errs, p.Stop())
		}
	}
	if s.referee != nil {
		s.referee.Close(ctx)
	}
	for _, r := range s.receivers {
		errs = append(errs, r.close())
	}
	if s.broker != nil {
		errs = append(errs, s.broker.Close())
	}
	for _, server := range []*simdep.Server{s.risk, s.notify, s.rail} {
		if server != nil {
			errs = append(errs, server.Close())
		}
	}
	return errors.Join(errs...)
}

// do does the next thing, unless something has failed.
func (s *stage) do(what func() error) {
	if s.err == nil {
		s.err = what()
	}
}

// going says whether nothing has failed so far; loops ask it.
func (s *stage) going(ctx context.Context) bool {
	s.do(ctx.Err)
	return s.err == nil
}

// long is a duration of the description at the scale of this run.
func (s *stage) long(d time.Duration) time.Duration {
	return time.Duration(float64(d) * s.run.o.Scale)
}

// times is a number of the description at the scale of this run, at least one.
func (s *stage) times(n int) int { return max(1, int(float64(n)*s.run.o.Scale)) }

// wait lets time pass.
func (s *stage) wait(ctx context.Context, d time.Duration) {
	s.do(func() error { return rest(ctx, d) })
}

// rest lets time pass, unless the context ends before.
func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// until waits for a condition, and fails when it does not come.
func (s *stage) until(ctx context.Context, what string, most time.Duration, is func() (bool, error)) {
	s.do(func() error { return await(ctx, s.run.o.Now, what, most, is) })
}

// awaitPoll is how often a condition is looked at.
const awaitPoll = 10 * time.Millisecond

func await(
	ctx context.Context, now func() time.Time, what string, most time.Duration, is func() (bool, error),
) error {
	begin := now()
	tick := time.NewTicker(awaitPoll)
	defer tick.Stop()
	for {
		ok, err := is()
		if err != nil || ok {
			return err
		}
		if now().Sub(begin) > most {
			return fmt.Errorf("waited %s in vain for %s", most, what)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// claim notes claims and says them.
func (s *stage) claim(claims ...Claim) {
	if s.err != nil {
		return
	}
	for _, c := range claims {
		verdict := "holds"
		if !c.Holds {
			verdict = "FAILS"
		}
		s.run.say("  %s: %s: expected %s, measured %s", verdict, c.Name, c.Expected, c.Measured)
	}
	s.outcome.Claims = append(s.outcome.Claims, claims...)
}

// figure notes what was measured and is held to nothing.
func (s *stage) figure(name, format string, args ...any) {
	if s.err != nil {
		return
	}
	f := Figure{Name: name, Measured: fmt.Sprintf(format, args...)}
	s.run.say("  figure: %s: %s", f.Name, f.Measured)
	s.outcome.Figures = append(s.outcome.Figures, f)
}

// caller makes requests of the nth tenant.
func (s *stage) caller(n int) *traffic {
	t := &traffic{
		client: newHTTPClient(), tenant: s.world.tenants[n], adminKey: s.world.adminKey, prefix: "drill-",
	}
	if s.api != nil {
		t.base, t.admin = "http://"+s.api.ready.Addr, "http://"+s.api.ready.Admin
	}
	s.callers = append(s.callers, t)
	return t
}

// begin starts a load that goes on until the next one begins, or the stage is told to settle.
func (s *stage) begin(ctx context.Context, streams ...stream) {
	s.do(func() error {
		var before []*phase
		if s.load != nil {
			s.load.end()
			before = s.load.phases
		}
		s.load = startLoad(ctx, s.run.o.Now, streams)
		s.load.phases = slices.Concat(before, s.load.phases)
		return nil
	})
}

// during lets the load run for a while, and returns what it is to count in.
func (s *stage) during(ctx context.Context, name string, d time.Duration) *phase {
	p := s.phase(name)
	s.wait(ctx, d)
	return p
}

// phase begins a phase of the load, which lasts until the next one.
func (s *stage) phase(name string) *phase {
	if s.err != nil {
		return &phase{name: name, tallies: map[string]*tally{}}
	}
	s.run.say("  %s", name)
	return s.load.next(name)
}

// set turns the knobs of a dependency.
func (s *stage) set(d *simdep.Server, turn func(*simdep.Knobs)) {
	s.do(func() error {
		knobs := calm()
		turn(&knobs)
		return d.SetKnobs(knobs)
	})
}

// heal puts a dependency's knobs back.
func (s *stage) heal(d *simdep.Server) { s.set(d, func(*simdep.Knobs) {}) }
