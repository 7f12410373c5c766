package mode

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// The bounds of a policy.
const (
	sampleEveryMin = 100 * time.Millisecond
	sampleEveryMax = time.Minute
	samplesMax     = 1_000
	dwellMax       = time.Hour
	catchUpFromMin = 0.01
	catchUpMax     = time.Hour
	retryAfterMin  = time.Second
	retryAfterMax  = 10 * time.Minute
)

// problems gathers what is wrong.
type problems []error

func (all *problems) check(ok bool, format string, args ...any) {
	if !ok {
		*all = append(*all, fmt.Errorf(format, args...))
	}
}

// validate returns everything that is wrong with a policy.
func (p *Policy) validate() error {
	var all problems
	all.check(p.Control == Auto || p.Control == Advise, "control: %q is neither auto nor advise", p.Control)
	all.check(p.SampleEvery >= sampleEveryMin && p.SampleEvery <= sampleEveryMax,
		"sample_every: has to be %v to %v", sampleEveryMin, sampleEveryMax)
	all.check(p.EnterAfter >= 1 && p.EnterAfter <= samplesMax, "enter_after: has to be 1 to %d", samplesMax)
	all.check(p.LeaveAfter >= p.EnterAfter && p.LeaveAfter <= samplesMax,
		"leave_after: has to be enter_after to %d: to be hasty is for getting out of trouble", samplesMax)
	all.check(p.Dwell >= p.SampleEvery && p.Dwell <= dwellMax,
		"dwell: has to be sample_every to %v", dwellMax)
	p.validateLevels(&all)
	p.validateRequests(&all)
	p.validateFlows(&all)
	all.check(p.CatchUp.From >= catchUpFromMin && p.CatchUp.From <= 1,
		"catch_up.from: has to be %v to 1", catchUpFromMin)
	all.check(p.CatchUp.Within >= 0 && p.CatchUp.Within <= catchUpMax,
		"catch_up.within: has to be 0 to %v", catchUpMax)
	cells(&all, "retry_after", p.RetryAfter, func(at string, wait time.Duration) {
		all.check(wait >= retryAfterMin && wait <= retryAfterMax, "%s: has to be %v to %v", at, retryAfterMin,
			retryAfterMax)
	})
	return errors.Join(all...)
}

// cells checks that a row of the policy has a cell for each mode but Normal, and no other.
func cells[Cell any](all *problems, row string, given map[Mode]Cell, check func(at string, c Cell)) {
	for _, m := range Degraded() {
		at := row + "." + string(m)
		if c, ok := given[m]; ok {
			check(at, c)
		} else {
			all.check(false, "%s: is missing", at)
		}
	}
	for m := range given {
		all.check(slices.Contains(Degraded(), m), "%s.%s: is none of the modes %v", row, m, Degraded())
	}
}

// rows checks that a table of the policy has a row for each name, and no other.
func rows[Name ~string, Cell any](
	all *problems, table string, given map[Name]map[Mode]Cell, names []Name, check func(at string, c Cell),
) {
	for _, name := range names {
		if given[name] == nil {
			all.check(false, "%s.%s: is missing", table, name)
			continue
		}
		cells(all, table+"."+string(name), given[name], check)
	}
	for name := range given {
		all.check(slices.Contains(names, name), "%s.%s: is none of %v; all else always goes on", table, name,
			names)
	}
}

func (p *Policy) validateRequests(all *problems) {
	rows(all, "requests", p.Requests, Works(), func(at string, pass Pass) {
		all.check(slices.Contains(passes(), pass), "%s: %q is none of %v", at, pass, passes())
	})
	for _, w := range Works() {
		given := p.Requests[w]
		all.check(!given[Constrained].narrower(given[Protection]),
			"requests.%s: protection lets more pass than constrained", w)
		all.check(given[Constrained] != Nobody && given[Protection] != Nobody,
			"requests.%s: critical traffic passes unless the service is frozen", w)
	}
}

func (p *Policy) validateFlows(all *problems) {
	rows(all, "flows", p.Flows, Flows(), func(at string, a Action) {
		all.check(a == Run || a == Defer, "%s: %q is neither run nor defer", at, a)
	})
}

func (p *Policy) validateLevels(all *problems) {
	for _, level := range Levels()[1:] {
		all.check(len(p.Levels[level]) > 0, "levels.%s: has no threshold", level)
		for signal, t := range p.Levels[level] {
			at := fmt.Sprintf("levels.%s.%s", level, signal)
			all.check(slices.Contains(Signals(), signal), "%s: is none of the signals %v", at, Signals())
			all.check(t.Leave > 0 && t.Leave < t.Enter, "%s: leave has to be above 0 and below enter", at)
		}
	}
	for level := range p.Levels {
		all.check(slices.Contains(Levels()[1:], level), "levels.%s: is none of %v", level, Levels()[1:])
	}
	for signal, worse := range p.Levels[Protection] {
		if better, ok := p.Levels[Constrained][signal]; ok {
			all.check(worse.Enter > better.Enter && worse.Leave >= better.Leave,
				"levels.protection.%s: has to be above that of constrained", signal)
		} else {
			all.check(false, "levels.protection.%s: constrained has no threshold of it", signal)
		}
	}
}
