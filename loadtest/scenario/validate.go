package scenario

import (
	"errors"
	"fmt"
	"slices"

	"example.com/holdfast/internal/mode"
	"example.com/holdfast/internal/tenancy"
)

// What a scenario may ask for.
const (
	processesMax = 10
	tenantsMax   = 20
	rateMax      = 5_000
	timesMax     = 1_000
)

// problems collects what is wrong.
type problems []error

func (p *problems) add(format string, args ...any) { *p = append(*p, fmt.Errorf(format, args...)) }

// validate returns everything that is wrong with a scenario.
func (s *Scenario) validate() error {
	var p problems
	if s.About == "" || s.Promise == "" {
		p.add("it has to say what it is about, and which promise is at stake")
	}
	if s.Workers < 1 || s.Workers > processesMax || s.APIs < 1 || s.APIs > processesMax {
		p.add("workers and apis are 1 to %d", processesMax)
	}
	if s.Tenants < 1 || s.Tenants > tenantsMax {
		p.add("tenants are 1 to %d", tenantsMax)
	}
	if len(s.Load) == 0 || len(s.Steps) == 0 || len(s.Expect) == 0 {
		p.add("it has a load, steps, and something that is expected")
	}
	s.validateLoads(&p)
	s.validateAlone(&p)
	s.validateSteps(&p)
	s.validateExpectations(&p)
	s.validateEnd(&p)
	return errors.Join(p...)
}

func (s *Scenario) validateLoads(p *problems) {
	sends := []Send{Transfers, Payouts, Orders, Reads, Cancels, Approvals, Buyers}
	classes := []string{
		"", string(tenancy.Critical), string(tenancy.Standard), string(tenancy.Sheddable),
	}
	for _, load := range s.loads() {
		names := map[string]bool{}
		for _, one := range load {
			switch {
			case !slices.Contains(sends, one.Send):
				p.add("stream %q sends %q, which is none of %q", one.Name, one.Send, sends)
			case one.Rate <= 0 || one.Rate > rateMax:
				p.add("stream %q has a rate above 0 and at most %d", one.Name, rateMax)
			case one.Tenant > s.Tenants:
				p.add("stream %q is of tenant %d, and there are %d", one.Name, one.Tenant, s.Tenants)
			case !slices.Contains(classes, one.Class):
				p.add("stream %q has a class that there is not: %q", one.Name, one.Class)
			case !slices.Contains([]Clients{Plain, Insistent, Copying}, one.Clients):
				p.add("stream %q has clients that there are not: %q", one.Name, one.Clients)
			case one.Clients != Plain && one.Send != Transfers:
				p.add("stream %q: clients that are %s send transfers", one.Name, one.Clients)
			case one.Send == Buyers && s.Units < 1:
				p.add("stream %q: there are no units that they could buy", one.Name)
			case names[one.Name]:
				p.add("stream %q is there twice in one load", one.Name)
			}
			names[one.Name] = true
		}
	}
}

// validateAlone holds streams whose whole outcome is counted to a tenant of their own, in one load.
func (s *Scenario) validateAlone(p *problems) {
	counted := func(one Stream) bool { return one.Clients != Plain || one.Send == Buyers }
	var all []Stream
	for _, load := range s.loads() {
		all = append(all, load...)
	}
	for i, one := range all {
		for j, other := range all {
			if i != j && counted(one) && one.Tenant == other.Tenant && other.Send != Reads {
				p.add("stream %q is counted as a whole: nobody else sends for its tenant", one.Name)
				return
			}
		}
	}
}

func (s *Scenario) validateSteps(p *problems) {
	phases := map[string]bool{}
	for _, step := range s.Steps {
		if step.Phase == "" || phases[step.Phase] {
			p.add("each step has a phase of its own, and %q is none", step.Phase)
		}
		phases[step.Phase] = true
		if err := step.check(); err != nil {
			p.add("phase %q: %w", step.Phase, err)
		}
	}
	for d := range s.Calm {
		if !d.is() {
			p.add("calm: a dependency that there is not: %q", d)
		}
	}
}

// check says what is wrong with a step by itself.
func (s *Step) check() error {
	faults := []Fault{
		None, KillWorker, PauseWorker, CrashPostgres, KeepPostgresAway, FreezePostgres,
	}
	for d := range s.Turn {
		if !d.is() {
			return fmt.Errorf("a dependency that there is not: %q", d)
		}
	}
	for _, m := range []mode.Mode{s.Pin, s.Until.Mode} {
		if m != "" && !isMode(m) {
			return fmt.Errorf("a mode that there is not: %q", m)
		}
	}
	switch {
	case s.For < 0 || s.Until.Within < 0 || s.Until.Any() && s.Until.Within == 0:
		return errors.New("what it waits for has a bound")
	case !slices.Contains(faults, s.Fault):
		return fmt.Errorf("a fault that there is not: %q", s.Fault)
	case s.Times < 0 || s.Times > timesMax:
		return fmt.Errorf("times are at most %d", timesMax)
	}
	return nil
}

func isMode(m mode.Mode) bool {
	return slices.Contains([]mode.Mode{mode.Normal, mode.Constrained, mode.Protection, mode.Frozen}, m)
}

func (s *Scenario) validateExpectations(p *problems) {
	for n := range s.Expect {
		e := &s.Expect[n]
		kinds := e.kinds()
		if len(kinds) != 1 {
			p.add("expectation %d has %d kinds, not one", n+1, len(kinds))
			continue
		}
		if k, has := kinds[0].(kind); has {
			s.validateKind(p, n+1, k)
		}
		s.validateNeeds(p, n+1, e)
	}
}

func (s *Scenario) validateKind(p *problems, n int, k kind) {
	if err := k.check(); err != nil {
		p.add("expectation %d: %w", n, err)
	}
	streams := s.Streams()
	for _, phase := range k.speaksOf().phases {
		if !s.plays(phase) {
			p.add("expectation %d speaks of a phase that is not played: %q", n, phase)
		}
	}
	for _, name := range k.speaksOf().streams {
		if _, known := streams[name]; !known {
			p.add("expectation %d speaks of a stream that is not sent: %q", n, name)
		}
	}
}

// validateNeeds holds an expectation to what it can be told of.
func (s *Scenario) validateNeeds(p *problems, n int, e *Expectation) {
	needs := func(is bool, what string) {
		if !is {
			p.add("expectation %d needs %s", n, what)
		}
	}
	fault := func(f Fault) bool {
		return slices.ContainsFunc(s.Steps, func(step Step) bool { return step.Fault == f })
	}
	clients := func(c Clients) bool {
		for _, one := range s.Streams() {
			if one.Clients == c {
				return true
			}
		}
		return false
	}
	switch {
	case e.SameAnswers != nil:
		needs(clients(Insistent), "insistent clients")
	case e.DoneOnce != nil:
		needs(clients(Copying), "copying clients")
	case e.SoldOnce != nil:
		needs(s.Units > 0, "units")
	case e.TakenUp != nil:
		needs(fault(KillWorker), "a worker that is killed")
	case e.Unavailable != nil:
		needs(fault(KeepPostgresAway), "a PostgreSQL that is kept away")
	}
}

// plays says whether a phase is played.
func (s *Scenario) plays(phase string) bool {
	return slices.ContainsFunc(s.Steps, func(step Step) bool { return step.Phase == phase })
}

func (s *Scenario) validateEnd(p *problems) {
	for _, i := range s.Invariants {
		if i.Name == "" || i.SQL == "" {
			p.add("an invariant has a name and its SQL")
		}
	}
	if !s.plays(s.Recovery.From) || s.Recovery.Within <= 0 {
		p.add("recovery has a phase that is played, not %q, and within what time", s.Recovery.From)
	}
	s.validateScore(p)
	if !s.Broken.IsZero() {
		s.Broken.validate(p)
	}
}

func (s *Scenario) validateScore(p *problems) {
	sum := 0
	for m, points := range s.Score {
		if !slices.Contains([]Measure{Kept, Answered, GoodputKept, Recovered}, m) || points <= 0 {
			p.add("score: %q is no measure, or worth nothing", m)
		}
		sum += points
	}
	if sum != scoreTotal {
		p.add("all measures of the score are worth %d together, not %d", scoreTotal, sum)
	}
	if s.Score[GoodputKept] > 0 && (!s.plays(CalmPhase) || !s.plays(FaultPhase)) {
		p.add("score: %s compares the phases %s and %s", GoodputKept, CalmPhase, FaultPhase)
	}
}

func (b Broken) validate(p *problems) {
	if b.About == "" || len(b.Fails) == 0 || len(b.Settings)+len(b.Postgres)+len(b.Changes)+len(b.SQL) == 0 {
		p.add("broken says what is switched off, by which change, and what fails then")
	}
	for _, c := range b.Changes {
		if c.File == "" || c.From == "" || c.From == c.To {
			p.add("broken: a change has a file, from, and another to")
		}
	}
}
