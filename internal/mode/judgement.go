package mode

import (
	"slices"
	"time"
)

// Judgement is what the controller knows between two samples.
type Judgement struct {
	Level Mode
	Since time.Time
	// Above counts the latest samples in a row that voted for the next level, Below those that voted for
	// leaving this one.
	Above, Below int
	// At is when the last sample was taken.
	At time.Time
}

// gapsMax is how many samples may be missing before those that came before do not count any more.
const gapsMax = 3

// Judge takes a sample at a time. It returns what is known then, and why the level has changed: nothing, if
// it has not.
func (p *Policy) Judge(j Judgement, v Values, at time.Time) (Judgement, []Cause) {
	if at.Sub(j.At) > gapsMax*p.SampleEvery {
		j.Above, j.Below = 0, 0
	}
	j.At = at
	up, down := neighbours(j.Level)
	var why, calm []Cause
	if up != "" {
		why = p.causes(up, v)
	}
	if down != "" {
		calm, _ = p.calm(j.Level, v)
	}
	j.Above, j.Below = inARow(j.Above, why), inARow(j.Below, calm)
	stays := at.Sub(j.Since) < p.Dwell
	switch {
	case stays:
	case j.Above >= p.EnterAfter:
		return Judgement{Level: up, Since: at, At: at}, why
	case j.Below >= p.LeaveAfter:
		return Judgement{Level: down, Since: at, At: at}, calm
	}
	return j, nil
}

// inARow counts a sample that votes, and begins anew at one that does not. It stops where no policy counts
// further.
func inARow(before int, votes []Cause) int {
	if len(votes) == 0 {
		return 0
	}
	return min(before+1, samplesMax)
}

// neighbours are the levels next to one, or "" where there is none.
func neighbours(level Mode) (Mode, Mode) {
	all := Levels()
	i := slices.Index(all, level)
	var up, down Mode
	if i+1 < len(all) {
		up = all[i+1]
	}
	if i > 0 {
		down = all[i-1]
	}
	return up, down
}

// Sample is what was seen once, and what was in force after it.
type Sample struct {
	At     time.Time
	Level  Mode
	Mode   Mode
	Values Values
}

// Switch is a change of level, and why.
type Switch struct {
	At       time.Time
	From, To Mode
	Causes   []Cause
}

// Reason is why, in words.
func (s Switch) Reason() string { return reasonOf(s.Causes) }

// Simulate says which switches the controller would have made over samples under this policy, beginning at
// a level, and how long each level would have lasted between the first sample and the last.
func (p *Policy) Simulate(from Mode, samples []Sample) ([]Switch, map[Mode]time.Duration) {
	var made []Switch
	lasted := make(map[Mode]time.Duration)
	j := Judgement{Level: from}
	for i, s := range samples {
		if i > 0 {
			lasted[j.Level] += s.At.Sub(samples[i-1].At)
		}
		next, why := p.Judge(j, s.Values, s.At)
		if why != nil {
			made = append(made, Switch{At: s.At, From: j.Level, To: next.Level, Causes: why})
		}
		j = next
	}
	return made, lasted
}
