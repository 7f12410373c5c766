package load

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// arrivals takes all that a schedule has.
func arrivals(o Options, p Profile, m Mix, s sizes) []arrival {
	schedule := newSchedule(o, stagesOf(p, o.Rate, o.Duration), m, s)
	var all []arrival
	for a, ok := schedule.next(); ok; a, ok = schedule.next() {
		all = append(all, a)
	}
	return all
}

func options() (Options, sizes) {
	return Options{Rate: 500, Duration: 20 * time.Second, RequestsMax: RequestsMax, Seed: 7},
		sizes{callers: [][]int{{0, 2}, {1}}, accounts: 10, skus: 4}
}

func named[T any](t *testing.T, of func(string) (T, error), name string) T {
	t.Helper()
	v, err := of(name)
	require.NoError(t, err)
	return v
}

func TestEvenArrivalsAreAsFarApartAsTheRateSays(t *testing.T) {
	t.Parallel()
	o, s := options()
	all := arrivals(o, named(t, profileOf, "steady"), named(t, mixOf, "transfers"), s)
	require.Len(t, all, 10_000)
	for i, a := range all {
		require.Equal(t, i, a.n)
		require.InDelta(t, float64(i)/o.Rate, a.due.Seconds(), 1e-6)
	}
}

func TestEachStageHasWhatItsRateSays(t *testing.T) {
	t.Parallel()
	o, s := options()
	for name, want := range map[string][]int{
		"step": {400, 800, 1200, 1600, 2000}, "spike": {800, 2000, 800}, "soak": {500, 9000},
	} {
		p := named(t, profileOf, name)
		stages := stagesOf(p, o.Rate, o.Duration)
		counts := make([]int, len(want))
		last := time.Duration(0)
		for _, a := range arrivals(o, p, named(t, mixOf, "transfers"), s) {
			counts[a.stage]++
			require.GreaterOrEqual(t, a.due, last, "in order")
			last = a.due
			in := stages[a.stage]
			require.True(t, a.due >= in.begin && a.due <= in.begin+in.long, "%s: %v in %+v", name, a.due, in)
		}
		for i := range want {
			require.InDelta(t, want[i], counts[i], 1, "%s, %s", name, p.Parts[i].Name)
		}
	}
}

func TestARisingRateRises(t *testing.T) {
	t.Parallel()
	// From 0 to 100 a second in 10 s: 500 are due, the first quarter of them in the first half of the time.
	s := stage{long: 10 * time.Second, from: 0, to: 100}
	require.InDelta(t, 500, s.arrivals(), 0)
	require.InDelta(t, 5, s.reach(125).Seconds(), 1e-6)
	require.InDelta(t, 10, s.reach(500).Seconds(), 1e-6)
	require.Zero(t, s.reach(0))
}

func TestPoissonArrivalsKeepTheRateAndNotTheGap(t *testing.T) {
	t.Parallel()
	o, s := options()
	o.Poisson = true
	all := arrivals(o, named(t, profileOf, "steady"), named(t, mixOf, "transfers"), s)
	require.InDelta(t, 10_000, len(all), 400, "four standard deviations")
	var sum, squares float64
	for i := range all[1:] {
		gap := (all[i+1].due - all[i].due).Seconds() * o.Rate
		sum += gap
		squares += gap * gap
	}
	n := float64(len(all) - 1)
	mean := sum / n
	require.InDelta(t, 1, squares/n-mean*mean, 0.1, "the gaps of independent clients vary by their mean")
}

func TestTheSameSeedSendsTheSame(t *testing.T) {
	t.Parallel()
	o, s := options()
	p, m := named(t, profileOf, "spike"), named(t, mixOf, "mixed")
	all := arrivals(o, p, m, s)
	require.Equal(t, all, arrivals(o, p, m, s))
	o.Seed++
	require.NotEqual(t, all, arrivals(o, p, m, s))
	o.RequestsMax = 17
	require.Len(t, arrivals(o, p, m, s), 17, "a bound is a bound")
}

func TestAMixHasTheSharesThatItSays(t *testing.T) {
	t.Parallel()
	o, s := options()
	for _, m := range Mixes() {
		counts, sum := make(map[Kind]int), 0
		all := arrivals(o, named(t, profileOf, "steady"), m, s)
		for _, a := range all {
			counts[a.kind]++
			require.NotEqual(t, a.from, a.to)
			require.NotEqual(t, a.skus[0], a.skus[1])
			require.True(t, a.amount >= amountMin && a.amount <= amountMax)
		}
		for _, w := range m.Weights {
			sum += w.Percent
			got := 100 * float64(counts[w.Kind]) / float64(len(all))
			require.InDelta(t, w.Percent, got, 2.5, "%s: %s", m.Name, w.Kind)
		}
		require.Equal(t, 100, sum, m.Name)
	}
	_, err := mixOf("porridge")
	require.ErrorContains(t, err, "porridge")
	_, err = profileOf("square")
	require.ErrorContains(t, err, "square")
	for _, p := range Profiles() {
		sum := 0.0
		for _, part := range p.Parts {
			sum += part.Share
		}
		require.InDelta(t, 1, sum, 1e-9, p.Name)
		require.Positive(t, p.Duration)
	}
}

func TestZipfDrawsByItsLaw(t *testing.T) {
	t.Parallel()
	const draws = 200_000
	for _, s := range []float64{0, 0.5, 1, 2} {
		z := newZipf(rand.New(rand.NewPCG(1, 2)), 20, s)
		counts := make([]float64, 20)
		for range draws {
			counts[z.draw()]++
		}
		sum := 0.0
		for k := range counts {
			sum += math.Pow(float64(k+1), -s)
		}
		for k, n := range counts {
			want := draws * math.Pow(float64(k+1), -s) / sum
			require.InDelta(t, want, n, 5*math.Sqrt(want)+1, "exponent %g, place %d", s, k)
		}
	}
	require.Zero(t, newZipf(rand.New(rand.NewPCG(1, 2)), 1, 1).draw(), "who is alone is always met")
}
