package bench

import (
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// good is a report in which every goal is met.
func good() Report {
	cpu := CPU{Sum: 200, GeneratorPerRequest: 20, PostgresKnown: true}
	offered := func(system string, rate, settled float64) Phase {
		return Phase{
			Name: phaseOffered, System: system, Of: transfers, OfferedPerSecond: rate,
			SettledPerSecond: settled, CPU: cpu, KeptUp: settled == rate,
		}
	}
	half, low := offered(kindHoldfast, 3000, 3000), offered(kindHoldfast, 150, 150)
	half.Name, half.SettleP99MS = phaseHalf, 90
	low.Name, low.SettleP50MS = phaseLow, 9
	closed := closedName(phaseTransfers, goalCallers)
	naive, ours := offered(kindNaive, 0, 100), offered(kindHoldfast, 0, 5500)
	naive.Name, naive.Drained = closed, true
	ours.Name, ours.SettleP99MS, ours.KeptUp = closed, 200, true
	// Orders are no transfers: whatever they reach, it is not a rate of settling.
	order := Phase{
		Name: closedName(phaseOrders, goalCallers), System: kindHoldfast, Of: orders, Callers: goalCallers,
		Accepted: 7900, AcceptedPerSecond: 7900, SettledPerSecond: 7700, KeptUp: true,
		CPU: CPU{Sum: 900, GeneratorPerRequest: 90, PostgresKnown: true},
	}
	return Report{Phases: []Phase{
		naive, offered(kindNaive, 300, 300), ours, offered(kindHoldfast, 6000, 6000),
		offered(kindHoldfast, 9000, 7000), half, low, order,
	}}
}

func missed(r Report) []string {
	var names []string
	for _, g := range r.Goals {
		if !g.Met {
			names = append(names, g.Name)
		}
	}
	return names
}

func TestARateCountsOnlyIfItWasSustained(t *testing.T) {
	t.Parallel()
	r := good()
	r.judge()
	require.InDelta(t, 6000, r.HoldfastPerSecond, 0, "7,000 settled while 9,000 were offered")
	require.InDelta(t, 300, r.NaivePerSecond, 0)
	require.InDelta(t, 20, r.Ratio, 0)
	require.InDelta(t, 55, r.RatioSameLoad, 0)
	require.Empty(t, missed(r))
	require.Len(t, r.Goals, 13)
}

func TestEveryGoalCanBeMissed(t *testing.T) {
	t.Parallel()
	closed := closedName(phaseTransfers, goalCallers)
	for goal, spoil := range map[string]func(*Phase){
		"settled against the naive path, 64 callers each": func(p *Phase) {
			if p.System == kindNaive && p.Name == closed {
				p.SettledPerSecond = 400
			}
		},
		"settled against the naive path, each at its best rate": func(p *Phase) {
			if p.System == kindNaive && p.Name == phaseOffered {
				p.SettledPerSecond, p.KeptUp = 500, false // the naive path's best counts in any case
			}
		},
		"sustained from accepted to settled": func(p *Phase) {
			if p.System == kindHoldfast && p.SettledPerSecond > 4900 {
				p.SettledPerSecond = 4900
			}
		},
		"accepted to settled at half of that, p99": func(p *Phase) {
			if p.Name == phaseHalf {
				p.SettleP99MS = 500
			}
		},
		"accepted to settled at 150/s, p50": func(p *Phase) {
			if p.Name == phaseLow {
				p.SettleP50MS = 16
			}
		},
		"CPU per transfer at 150/s, all processes": func(p *Phase) {
			if p.Name == phaseLow {
				p.CPU.Sum = 1501
			}
		},
		"with 64 callers: accepted equals settled": func(p *Phase) {
			if p.System == kindHoldfast && p.Name == closed {
				p.LagShare = -0.02
			}
		},
		"with 64 callers: accepted to settled, p99": func(p *Phase) {
			if p.System == kindHoldfast && p.Name == closed {
				p.SettleP99MS = 1000
			}
		},
		"with 64 callers: refused at once, p99": func(p *Phase) {
			if p.System == kindHoldfast && p.Name == closed {
				p.Refused, p.RefuseP99MS = 1, 11
			}
		},
		"orders canceled though there is stock": func(p *Phase) {
			if p.Of == orders {
				p.Canceled = 1
			}
		},
		"invariants after every phase": func(p *Phase) {
			p.Broken = []string{"money_conserved: x"}
		},
		"answers other than 202, 429 and 503": func(p *Phase) {
			p.Unexpected = map[int]uint64{500: 1}
		},
		"load generator's CPU per request, closed loops": func(p *Phase) {
			p.CPU.GeneratorPerRequest = 26
		},
	} {
		t.Run(goal, func(t *testing.T) {
			t.Parallel()
			r := good()
			for i := range r.Phases {
				spoil(&r.Phases[i])
			}
			r.judge()
			require.Contains(t, missed(r), goal)
		})
	}
}

func TestTheGeneratorIsNotBlamedForTheDependencies(t *testing.T) {
	t.Parallel()
	r := good()
	r.HTTPDependencies = true
	r.Phases[2].CPU.GeneratorPerRequest = 150
	r.judge()
	require.Empty(t, missed(r))
	var b strings.Builder
	require.NoError(t, r.Markdown(&b))
	require.Contains(t, b.String(), "| generator and dependencies |")
}

func TestAGoalWithoutItsPhaseIsNotThere(t *testing.T) {
	t.Parallel()
	r := Report{Commits: []Commits{{Clients: 1, By: "pgbench", PerSecond: 5000}}}
	r.judge()
	require.Empty(t, r.Goals)
}

func TestWhatIsNotKnownIsNotShownAsZero(t *testing.T) {
	t.Parallel()
	r := good()
	for i := range r.Phases {
		r.Phases[i].CPU.PostgresKnown = false
	}
	r.judge()
	for _, g := range r.Goals {
		require.NotContains(t, g.Name, "CPU per transfer")
	}
	var b strings.Builder
	require.NoError(t, r.Markdown(&b))
	require.Contains(t, b.String(), "not available")
}

func TestTheReportShowsWhatWentWrong(t *testing.T) {
	t.Parallel()
	r := good()
	r.Phases[0].Broken = []string{"money_conserved: postings sum to 1"}
	r.Phases[0].BacklogAtEnd, r.Phases[0].DrainMS = 42, 1500
	r.judge()
	var b strings.Builder
	require.NoError(t, r.Markdown(&b))
	for _, text := range []string{
		"BROKEN after naive, accept to settled, 64 callers: money_conserved: postings sum to 1",
		"no: 42 open at the end, done 1.5 s later", "**not met**", "20.0 times",
	} {
		require.Contains(t, b.String(), text)
	}
}

func TestKeepingUpMeansAcceptingAndSettling(t *testing.T) {
	t.Parallel()
	window := plan{rate: 100, duration: 10e9}
	for name, c := range map[string]struct {
		answered          uint64
		accepted, settled int64
		drained, keptUp   bool
	}{
		"all settled":        {1000, 1000, 1000, true, true},
		"a little under way": {1000, 1000, 985, true, true},
		"falls behind":       {1000, 1000, 900, true, false},
		"refuses":            {980, 980, 980, true, false},
		"accepts too late":   {1000, 550, 550, true, false},
		"is never done":      {1000, 1000, 1000, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := Phase{Seconds: 10, Accepted: c.answered, Drained: c.drained}
			p.settle(settlements{accepted: c.accepted, settled: c.settled}, window, true)
			require.Equal(t, c.keptUp, p.KeptUp)
		})
	}
}

func TestEachWayOutIsHeldToNone(t *testing.T) {
	t.Parallel()
	r := good()
	round := func(system string, n int, rate float64) {
		name := closedName(phaseEvents+" "+strconv.Itoa(n), goalCallers)
		r.Phases = append(r.Phases, Phase{
			Name: name, System: system, Of: transfers, SettledPerSecond: rate,
			CPU: CPU{Sum: rate / 10},
		})
	}
	for n, rates := range [][2]float64{{4000, 3600}, {9000, 8900}, {1000, 100}} {
		round(kindSilent, n+1, rates[0])
		round(kindLogged, n+1, rates[1])
		round(kindPublished, n+1, rates[1]/2)
		round(kindTraced, n+1, rates[1])
	}
	r.judge()
	require.Equal(t, []EventCost{
		{System: kindSilent, SettledPerSecond: 4000, CPU: 400, Share: 1},
		{System: kindLogged, SettledPerSecond: 3600, CPU: 360, Share: 0.9},
		{System: kindPublished, SettledPerSecond: 1800, CPU: 180, Share: 0.45},
		{System: kindTraced, SettledPerSecond: 3600, CPU: 360, Share: 0.9},
	}, r.Events, "the medians")
	require.Empty(t, missed(r))
	require.InDelta(t, 6000, r.HoldfastPerSecond, 0, "these rounds are no part of the rates")

	r = Report{Phases: r.Phases}
	r.Phases[len(r.Phases)-11].SettledPerSecond = 2000
	r.judge()
	require.Equal(t, []string{"settled by holdfast, logged, against events that go nowhere"}, missed(r))

	r = Report{Phases: r.Phases}
	for i := range r.Phases {
		if r.Phases[i].System == kindTraced {
			r.Phases[i].SettledPerSecond = 1000
		}
	}
	r.judge()
	require.Contains(t, missed(r), "settled by holdfast, traced, against holdfast, logged")
}
