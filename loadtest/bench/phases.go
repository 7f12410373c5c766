package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"example.com/holdfast/loadtest/rig"
)

// What counts as keeping up.
const (
	// refusedShareMax is how much of an open loop may be refused or fail.
	refusedShareMax = 0.01
	// lagShareMax is by how much accepted and settled may differ within the measured time, or by what is
	// accepted in lagMax if that is more: a short window sees what is under way come and go.
	lagShareMax = 0.01
	lagMax      = 200 * time.Millisecond
	// openCallersPerRate is how many callers an open loop has for each request of a second: enough for
	// answers that take this many seconds.
	openCallersPerRate = 0.25
	openCallersMin     = 16
)

// subject is a system under test with its database and its judge.
type subject struct {
	run          *run
	kind         string
	database     string
	flow         flow
	dependencies *dependencies
	child        *child
	beside       *child // what it sends events or traces to, if it does
	referee      referee
}

// start makes a fresh database and runs a system on it.
func (r *run) start(ctx context.Context, kind string) (*subject, error) {
	r.serial++
	s := &subject{run: r, kind: kind, database: fmt.Sprintf("bench_%d", r.serial), flow: transferFlow()}
	url, err := r.db.CopyOf(ctx, s.database)
	if err != nil {
		return nil, err
	}
	if err := prepare(ctx, kind, url); err != nil {
		return nil, err
	}
	if r.o.HTTPDependencies {
		if s.dependencies, err = startDependencies(ctx); err != nil {
			return nil, err
		}
	}
	environ := childEnviron(kind, url, r.seeds, s.dependencies)
	if beside := besideOf(kind); beside != "" {
		if s.beside, err = startChild(ctx, r.o, []string{kindVariable + "=" + beside}); err != nil {
			return nil, errors.Join(err, s.dependencies.close())
		}
		environ = append(environ, settingsFor(kind, s.beside.addr)...)
	}
	if kind == kindHoldfast && r.o.Profile != "" && !r.profiled {
		r.profiled = true // one file has one profile: that of the transfers
		environ = append(environ, profileVariable+"="+r.o.Profile)
	}
	s.child, err = startChild(ctx, r.o, environ)
	if err != nil {
		return nil, errors.Join(err, s.dependencies.close())
	}
	if s.referee.Referee, err = rig.NewReferee(ctx, url, r.o.Now); err != nil {
		return nil, errors.Join(err, s.child.Stop(), s.dependencies.close())
	}
	return s, nil
}

func (s *subject) stop(ctx context.Context) error {
	s.referee.Close(ctx)
	err := s.child.Stop()
	if s.beside != nil {
		err = errors.Join(err, s.beside.Stop())
	}
	return errors.Join(err, s.dependencies.close())
}

// with runs what measures on a system of its own.
func (r *run) with(ctx context.Context, kind string, measure func(*subject) error) error {
	s, err := r.start(ctx, kind)
	if err != nil {
		return err
	}
	err = errors.Join(measure(s), s.stop(ctx))
	if err != nil {
		return err
	}
	return r.db.Drop(ctx, s.database)
}

func (s *subject) cpu() (cpuTimes, error) {
	system, err := s.child.cpu()
	c := cpuTimes{generator: ownCPU(), system: system}
	var trees, machine bool
	c.postgres, trees = treeCPU(s.run.db.Server.PID())
	c.machine, machine = machineCPU()
	c.procKnown = trees && machine
	return c, err
}

// closedLoop and openLoop are the two shapes of a load.
func (s *subject) closedLoop(callers int) plan {
	o := s.run.o
	return plan{callers: callers, ramp: o.Ramp, duration: o.Phase, impatient: o.Impatient, now: o.Now}
}

func (s *subject) openLoop(rate float64) plan {
	o := s.run.o
	callers := max(openCallersMin, min(openCallersMax, int(rate*openCallersPerRate)))
	return plan{callers: callers, rate: rate, ramp: o.Ramp, duration: o.Phase, now: o.Now}
}

func (s *subject) traffic(phase int) *traffic {
	t := newTraffic(s.child.addr, s.run.seeds, phase)
	t.places = s.flow.what == orders
	return t
}

// warm lets connections open and plans settle; nothing of it is reported.
func (s *subject) warm(ctx context.Context, callers int) error {
	p := s.closedLoop(callers)
	p.ramp, p.duration = 0, s.run.o.Ramp
	if _, err := load(ctx, s.traffic(0), p); err != nil {
		return err
	}
	if works(s.kind) {
		if _, _, err := s.referee.Drain(ctx, drainMax); err != nil {
			return err
		}
	}
	return nil
}

// works says whether a system does more than accept.
func works(kind string) bool { return isHoldfast(kind) || kind == kindNaive }

// isHoldfast says whether a system is API and worker as `ctl up` runs them, whatever becomes of its events.
func isHoldfast(kind string) bool {
	return kind == kindHoldfast || slices.Contains(eventKinds(), kind)
}

// phase loads the system, waits until all that was accepted is done, and measures.
func (s *subject) phase(ctx context.Context, name string, p plan) (Phase, error) {
	s.run.serial++
	out := Phase{Name: name, System: s.kind, Of: s.flow.what, Callers: p.callers, OfferedPerSecond: p.rate}
	before, err := s.cpu()
	if err != nil {
		return out, err
	}
	begin := s.run.o.Now()
	t, err := load(ctx, s.traffic(s.run.serial), p)
	if err != nil {
		return out, fmt.Errorf("%s %s: %w", s.kind, name, err)
	}
	loaded, err := s.cpu()
	if err != nil {
		return out, err
	}
	took := s.run.o.Now().Sub(begin)
	out.Others = others(loaded.since(before), took)
	if out.BacklogAtEnd, err = s.referee.openOf(ctx, s.flow); err != nil {
		return out, err
	}
	if works(s.kind) {
		took, all, err := s.referee.Drain(ctx, drainMax)
		if err != nil {
			return out, err
		}
		out.DrainMS, out.Drained = millis(took), all
	}
	after, err := s.cpu()
	if err != nil {
		return out, err
	}
	after.generator = loaded.generator // what follows is the referee's
	out.count(t, after.since(before), p.duration)
	found, err := s.referee.window(ctx, s.flow, begin.Add(p.ramp), begin.Add(p.ramp+p.duration))
	if err != nil {
		return out, err
	}
	out.settle(found, p, works(s.kind))
	checks := invariantsOf(s.kind, s.flow)
	if out.Broken, err = s.referee.Breaks(ctx, checks); err != nil {
		return out, err
	}
	out.Invariants = len(checks)
	s.run.report.Phases = append(s.run.report.Phases, out)
	s.run.say("%s", out.line())
	return out, nil
}

// count fills in what the load generator saw.
func (p *Phase) count(t tally, cpu cpuTimes, measured time.Duration) {
	p.Seconds = measured.Seconds()
	p.Accepted, p.Refused = t.accepted.Count(), t.refused.Count()
	p.Failed, p.Unexpected = t.failed, t.statuses
	p.AcceptP50MS, p.AcceptP99MS = millis(t.accepted.Quantile(0.5)), millis(t.accepted.Quantile(0.99))
	p.RefuseP99MS = millis(t.refused.Quantile(0.99))
	p.CPU = CPU{PostgresKnown: cpu.procKnown}
	if t.sent > 0 {
		p.CPU.GeneratorPerRequest = micros(cpu.generator) / float64(t.sent)
	}
	if t.all > 0 {
		n := float64(t.all)
		p.CPU.Generator, p.CPU.System = micros(cpu.generator)/n, micros(cpu.system)/n
		p.CPU.Postgres = micros(cpu.postgres) / n
		p.CPU.Sum = p.CPU.Generator + p.CPU.System + p.CPU.Postgres
	}
}

// settle fills in what the events say, and judges whether the system kept up.
func (p *Phase) settle(s settlements, load plan, works bool) {
	p.AcceptedPerSecond = float64(s.accepted) / p.Seconds
	if !works {
		return
	}
	p.Settled, p.Canceled = s.settled, s.canceled
	p.SettledPerSecond = float64(s.settled) / p.Seconds
	p.SettleP50MS, p.SettleP99MS = millis(s.p50), millis(s.p99)
	if s.accepted > 0 {
		p.LagShare = float64(s.accepted-s.settled) / float64(s.accepted)
	}
	most := max(lagShareMax, lagMax.Seconds()/p.Seconds)
	p.KeptUp = p.Drained && p.LagShare <= most
	if load.rate > 0 {
		// What was accepted late counts as accepted, but it was not settled in time.
		offered := load.rate * p.Seconds
		p.KeptUp = p.KeptUp && float64(p.Accepted) >= (1-refusedShareMax)*offered &&
			float64(s.settled) >= (1-most)*offered
	}
}

// others is the part of the machine that neither we nor what we measure used.
func others(used cpuTimes, took time.Duration) float64 {
	if !used.procKnown {
		return 0
	}
	rest := used.machine - used.generator - used.system - used.postgres
	return max(0, rest.Seconds()/(took.Seconds()*float64(runtime.NumCPU())))
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }
func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

// naive measures the naive path: what it accepts when nobody works, what it accepts and settles when it
// works, and the rate at which it keeps up.
func (r *run) naive(ctx context.Context) error {
	callers := r.o.Callers[0]
	err := r.with(ctx, kindNaiveAccepts, func(s *subject) error {
		if err := s.warm(ctx, callers); err != nil {
			return err
		}
		_, err := s.phase(ctx, closedName(phaseAccepts, callers), s.closedLoop(callers))
		return err
	})
	if err != nil {
		return err
	}
	return r.with(ctx, kindNaive, func(s *subject) error {
		if err := s.warm(ctx, callers); err != nil {
			return err
		}
		flood, err := s.phase(ctx, closedName(phaseTransfers, callers), s.closedLoop(callers))
		if err != nil {
			return err
		}
		// Between what it settles while it accepts too much and what it settles on the whole lies what it
		// can keep up with.
		whole := flood.wholeRate(s.run.o.Ramp)
		for _, rate := range []float64{whole, (whole + flood.SettledPerSecond) / 2} {
			p, err := s.phase(ctx, phaseOffered, s.openLoop(rate))
			if err != nil || p.KeptUp {
				return err
			}
		}
		return nil
	})
}

// wholeRate is what a phase settled over all of its time, with the drain.
func (p *Phase) wholeRate(ramp time.Duration) float64 {
	total := p.Seconds + ramp.Seconds() + p.DrainMS/1e3
	return p.AcceptedPerSecond * (p.Seconds + ramp.Seconds()) / total
}

// holdfast measures Holdfast the same way, and then at fixed rates.
func (r *run) holdfast(ctx context.Context) error {
	err := r.with(ctx, kindAccepts, func(s *subject) error {
		if err := s.warm(ctx, r.o.Callers[0]); err != nil {
			return err
		}
		return s.closedLoops(ctx, phaseAccepts)
	})
	if err != nil {
		return err
	}
	return r.with(ctx, kindHoldfast, func(s *subject) error {
		if err := s.warm(ctx, r.o.Callers[0]); err != nil {
			return err
		}
		if _, err := s.phase(ctx, phaseLow, s.openLoop(r.o.LowRate)); err != nil {
			return err
		}
		if err := s.closedLoops(ctx, phaseTransfers); err != nil {
			return err
		}
		return s.openLoops(ctx)
	})
}

// openLoops offers the rates, and then half of the best that was sustained.
func (s *subject) openLoops(ctx context.Context) error {
	for _, rate := range s.run.openRates() {
		if _, err := s.phase(ctx, phaseOffered, s.openLoop(rate)); err != nil {
			return err
		}
	}
	sustained := s.run.report.sustained(kindHoldfast)
	if sustained == 0 {
		s.run.say("no rate was sustained, so there is no half of it")
		return nil
	}
	_, err := s.phase(ctx, phaseHalf, s.openLoop(sustained/2))
	return err
}

func (s *subject) closedLoops(ctx context.Context, name string) error {
	for _, callers := range s.run.o.Callers {
		if _, err := s.phase(ctx, closedName(name, callers), s.closedLoop(callers)); err != nil {
			return err
		}
	}
	return nil
}

// openRates are the rates to offer: those given, or shares of the best that the closed loops settled.
func (r *run) openRates() []float64 {
	if len(r.o.Rates) > 0 {
		return r.o.Rates
	}
	best := 0.0
	for _, p := range r.report.Phases {
		if p.System == kindHoldfast && p.Of == transfers && p.OfferedPerSecond == 0 {
			best = max(best, p.SettledPerSecond)
		}
	}
	var rates []float64
	for _, share := range r.o.Shares {
		rates = append(rates, share*best)
	}
	return rates
}
