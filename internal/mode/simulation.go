package mode

import "time"

// Simulation is what a policy would have made of samples, beside what was in force.
type Simulation struct {
	Policy *Policy
	// Samples is how many there are, From and To are when the first and the last were taken.
	Samples  int
	From, To time.Time
	// Would is by the policy alone: it knows no override, and Advise would have told of it only.
	Would, Was Course
}

// Course is which switches there were, and how long each mode lasted.
type Course struct {
	Switches []Switch
	Lasted   map[Mode]time.Duration
}

// Compare says what this policy would have made of samples. It begins at the level that the first of them led
// to.
func (p *Policy) Compare(samples []Sample) Simulation {
	if len(samples) == 0 {
		return Simulation{Policy: p}
	}
	first, last := samples[0], samples[len(samples)-1]
	made, lasted := p.Simulate(first.Level, samples)
	return Simulation{
		Policy: p, Samples: len(samples), From: first.At, To: last.At,
		Would: Course{made, lasted}, Was: courseOf(samples),
	}
}

// courseOf is what was in force by the samples: a switch is as late as the next of them.
func courseOf(samples []Sample) Course {
	was := Course{Lasted: make(map[Mode]time.Duration)}
	before := samples[0]
	for _, s := range samples[1:] {
		was.Lasted[before.Mode] += s.At.Sub(before.At)
		if s.Mode != before.Mode {
			was.Switches = append(was.Switches, Switch{At: s.At, From: before.Mode, To: s.Mode})
		}
		before = s
	}
	return was
}
