package load

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
)

// Kind is what a request asks for.
type Kind string

// The kinds of requests.
const (
	// Transfer moves money between two accounts of the load.
	Transfer Kind = "transfer"
	// Order buys two SKUs of the load.
	Order Kind = "order"
	// Read reads a transfer that was accepted lately, or a balance.
	Read Kind = "read"
	// Repeat sends a transfer once more with its key: the answer has to be the first one.
	Repeat Kind = "repeat"
	// Conflict sends another transfer with the key of one that was accepted: it has to be refused.
	Conflict Kind = "conflict"
)

// kinds lists all, in the order of reports.
func kinds() []Kind { return []Kind{Transfer, Order, Read, Repeat, Conflict} }

// Weight is how many of a hundred requests are of a kind.
type Weight struct {
	Kind    Kind `json:"kind"`
	Percent int  `json:"percent"`
}

// Mix is what a load consists of.
type Mix struct {
	Name  string `json:"name"`
	About string `json:"about"`
	// Weights add up to a hundred.
	Weights []Weight `json:"weights"`
	// Accounts and Tenants say how uneven the load is: the exponent of Zipf's law. 0 is even; with 1 the
	// second one is met half as often as the first, the third a third as often.
	Accounts float64 `json:"accounts"`
	Tenants  float64 `json:"tenants"`
}

// Mixes lists all; the first one is the default.
func Mixes() []Mix {
	return []Mix{
		{
			Name: "mixed", About: "some of everything",
			Weights:  []Weight{{Transfer, 50}, {Order, 10}, {Read, 30}, {Repeat, 8}, {Conflict, 2}},
			Accounts: 0.5,
		},
		{Name: "transfers", About: "transfers alone", Weights: []Weight{{Transfer, 100}}},
		{Name: "orders", About: "orders alone", Weights: []Weight{{Order, 100}}},
		{Name: "reads", About: "nine reads for a transfer", Weights: []Weight{{Transfer, 10}, {Read, 90}}},
		{
			Name: "duplicates", About: "a third repeats of a key, some of them with another transfer",
			Weights: []Weight{{Transfer, 60}, {Repeat, 30}, {Conflict, 10}},
		},
		{
			Name: "hot", About: "transfers between few accounts, by Zipf's law",
			Weights: []Weight{{Transfer, 100}}, Accounts: 1.2,
		},
		{
			Name: "tenants", About: "one tenant sends most, by Zipf's law",
			Weights: []Weight{{Transfer, 80}, {Read, 20}}, Tenants: 2,
		},
	}
}

// mixOf finds a mix by its name.
func mixOf(name string) (Mix, error) {
	for _, m := range Mixes() {
		if m.Name == name {
			return m, nil
		}
	}
	return Mix{}, fmt.Errorf("load: there is no mix %q: see the list", name)
}

// draw picks a kind.
func (m Mix) draw(random *rand.Rand) Kind {
	n := random.IntN(100)
	for _, w := range m.Weights {
		if n < w.Percent {
			return w.Kind
		}
		n -= w.Percent
	}
	return Transfer
}

// orders says whether there are any among the requests.
func (m Mix) orders() bool {
	return slices.ContainsFunc(m.Weights, func(w Weight) bool { return w.Kind == Order })
}

// zipf draws 0 to n-1, the kth with a weight of 1/(k+1)^s. rand.Zipf would refuse an s of 1 and below.
type zipf struct {
	sums   []float64
	random *rand.Rand
}

func newZipf(random *rand.Rand, n int, s float64) *zipf {
	z := &zipf{sums: make([]float64, n), random: random}
	sum := 0.0
	for k := range z.sums {
		sum += math.Pow(float64(k+1), -s)
		z.sums[k] = sum
	}
	return z
}

func (z *zipf) draw() int {
	last := len(z.sums) - 1
	return min(sort.SearchFloat64s(z.sums, z.random.Float64()*z.sums[last]), last)
}

// Shapes are all mixes and profiles, for the scripts of another load generator.
func Shapes() any {
	return struct {
		Mixes    []Mix     `json:"mixes"`
		Profiles []Profile `json:"profiles"`
	}{Mixes(), Profiles()}
}
