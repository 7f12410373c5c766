package load

import (
	"fmt"
	"math"
	"time"
)

// Part is a part of a profile: its share of the duration, and the rate at its begin and at its end, as shares
// of the rate that was asked for. Between them the rate changes evenly.
type Part struct {
	Name  string  `json:"name"`
	Share float64 `json:"share"`
	From  float64 `json:"from"`
	To    float64 `json:"to"`
}

// Profile is how the rate changes while a load runs.
type Profile struct {
	Name  string `json:"name"`
	About string `json:"about"`
	Parts []Part `json:"parts"`
	// Duration is how long it runs where nobody says.
	Duration time.Duration `json:"-"`
}

// profileDuration is how long a profile runs where it says nothing else: with start, drain and checks that is
// about a minute.
const profileDuration = 45 * time.Second

// Profiles lists all.
func Profiles() []Profile {
	return []Profile{
		{
			Name: "steady", About: "one rate, all the time", Duration: profileDuration,
			Parts: []Part{{"steady", 1, 1, 1}},
		},
		{
			Name: "step", About: "a fifth of the rate more with every step: where does it bend",
			Duration: profileDuration,
			Parts: []Part{
				{"20 %", 0.2, 0.2, 0.2},
				{"40 %", 0.2, 0.4, 0.4},
				{"60 %", 0.2, 0.6, 0.6},
				{"80 %", 0.2, 0.8, 0.8},
				{"100 %", 0.2, 1, 1},
			},
		},
		{
			Name:     "spike",
			About:    "a fifth of the rate, all of it for a while, a fifth again: does it recover",
			Duration: profileDuration,
			Parts:    []Part{{"before", 0.4, 0.2, 0.2}, {"spike", 0.2, 1, 1}, {"after", 0.4, 0.2, 0.2}},
		},
		{
			Name: "soak", About: "rises slowly and stays for half an hour: does anything grow",
			Duration: 30 * time.Minute,
			Parts:    []Part{{"rise", 0.1, 0, 1}, {"soak", 0.9, 1, 1}},
		},
	}
}

// profileOf finds a profile by its name.
func profileOf(name string) (Profile, error) {
	for _, p := range Profiles() {
		if p.Name == name {
			return p, nil
		}
	}
	return Profile{}, fmt.Errorf("load: there is no profile %q: see the list", name)
}

// stage is a part of a profile at a real rate, in requests per second.
type stage struct {
	name        string
	begin, long time.Duration
	from, to    float64
}

// stagesOf makes a profile real.
func stagesOf(p Profile, rate float64, d time.Duration) []stage {
	stages := make([]stage, len(p.Parts))
	var begin time.Duration
	for i, part := range p.Parts {
		long := time.Duration(part.Share * float64(d))
		stages[i] = stage{part.Name, begin, long, part.From * rate, part.To * rate}
		begin += long
	}
	return stages
}

// arrivals is how many requests are due in the stage.
func (s stage) arrivals() float64 { return (s.from + s.to) / 2 * s.long.Seconds() }

// reach is when, from the stage's begin, n of its requests are due: the inverse of the rate's integral.
func (s stage) reach(n float64) time.Duration {
	slope := (s.to - s.from) / s.long.Seconds()
	seconds := n / s.from
	if math.Abs(slope) > 1e-9 {
		seconds = (math.Sqrt(s.from*s.from+2*slope*n) - s.from) / slope
	}
	return time.Duration(seconds * float64(time.Second))
}

// due is when n requests are due, counted over all stages, and in which stage that is; false after the end.
func due(stages []stage, n float64) (time.Duration, int, bool) {
	for i, s := range stages {
		if n < s.arrivals() {
			return s.begin + s.reach(n), i, true
		}
		n -= s.arrivals()
	}
	return 0, 0, false
}
