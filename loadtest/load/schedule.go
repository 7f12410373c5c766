package load

import (
	"math/rand/v2"
	"sync"
	"time"
)

// The amounts of transfers, in minor units: small, so that no account runs empty.
const (
	amountMin = 1
	amountMax = 9
)

// arrival is a request that is to be sent at its time, whatever became of the others.
type arrival struct {
	n     int
	due   time.Duration // from the load's begin
	stage int
	kind  Kind
	// caller, from, to and skus are places in the lists of the load; which caller's tenant has them.
	caller   int
	from, to int
	amount   int64
	skus     [2]int
	// pick chooses among what was accepted lately.
	pick int
}

// sizes is how many of what there is to choose from.
type sizes struct {
	// callers are the places of each tenant's callers.
	callers        [][]int
	accounts, skus int
}

// schedule hands out arrivals in their order. They follow from the seed alone, not from who takes them when.
type schedule struct {
	mu       sync.Mutex
	stages   []stage
	mix      Mix
	sizes    sizes
	poisson  bool
	most     int
	random   *rand.Rand
	tenants  *zipf
	accounts *zipf
	reached  float64
	n        int
}

func newSchedule(o Options, stages []stage, mix Mix, s sizes) *schedule {
	random := rand.New(rand.NewPCG(o.Seed, uint64(len(stages))))
	return &schedule{
		stages: stages, mix: mix, sizes: s, poisson: o.Poisson, most: o.RequestsMax, random: random,
		tenants:  newZipf(random, len(s.callers), mix.Tenants),
		accounts: newZipf(random, s.accounts, mix.Accounts),
	}
}

// next is the next arrival; false when there are no more.
func (s *schedule) next() (arrival, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, stage, ok := due(s.stages, s.reached)
	if !ok || s.n >= s.most {
		return arrival{}, false
	}
	gap := 1.0
	if s.poisson {
		gap = s.random.ExpFloat64()
	}
	s.reached += gap
	a := arrival{n: s.n, due: at, stage: stage, kind: s.mix.draw(s.random), pick: int(s.random.Uint32() >> 1)}
	s.n++
	callers := s.sizes.callers[s.tenants.draw()]
	a.caller = callers[s.random.IntN(len(callers))]
	a.from = s.accounts.draw()
	if a.to = s.accounts.draw(); a.to == a.from {
		a.to = (a.from + 1) % s.sizes.accounts
	}
	a.amount = amountMin + s.random.Int64N(amountMax-amountMin+1)
	if s.sizes.skus > 0 {
		first := s.random.IntN(s.sizes.skus)
		a.skus = [2]int{first, (first + 1) % s.sizes.skus}
	}
	return a, true
}
