package telemetry

import (
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"example.com/holdfast/internal/condition"
)

// Dependency is the state of one dependency as one client sees it.
type Dependency struct {
	Name        string
	InFlight    int
	Waiting     int
	Limit       int // effective
	Cap         int // what the process was given
	BreakerOpen bool
	Saturated   bool
}

// watched collects gauges from their owners when they are scraped; nobody samples in between.
type watched struct {
	inFlight, waiting, limit, most, breaker, saturated, condition *prometheus.Desc
	lookGauges                                                    lookGauges
	modeGauges                                                    modeGauges

	mu           sync.Mutex
	dependencies []func() Dependency
	conditions   []func() []condition.Active
	look         func() Look
	mode         func() Mode
}

// newWatched declares the gauges and has them collected.
func newWatched(c *catalogue) *watched {
	w := &watched{
		inFlight: c.watch("dependency_in_flight", "Calls that hold a place at the bulkhead.",
			dependencyLabel()),
		waiting: c.watch("dependency_waiting", "Calls that wait for a place at the bulkhead.",
			dependencyLabel()),
		limit: c.watch("dependency_limit",
			"Calls that may be in flight now: the least of the cap and the adapted limit.",
			dependencyLabel()),
		most: c.watch("dependency_cap", "Places that the process was given.", dependencyLabel()),
		breaker: c.watch("dependency_breaker_open",
			"1 while the circuit breaker is not closed, half open included.", dependencyLabel()),
		saturated: c.watch("dependency_saturated",
			"1 when calls in flight and waiting have been at 90 % of the limit for 30 seconds.",
			dependencyLabel()),
		condition: c.watch("condition_active",
			"1 for each declared condition that holds; those that do not are absent.", conditionLabel(),
			Label{Name: "subject", Bound: "what a condition may hold for: a dependency, a queue, a kind"}),
		lookGauges: newLookGauges(c), modeGauges: newModeGauges(c),
	}
	c.registry.MustRegister(w)
	return w
}

// Describe names what Collect sends.
func (w *watched) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range append(append(w.lookGauges.all(), w.modeGauges.all()...),
		w.inFlight, w.waiting, w.limit, w.most, w.breaker, w.saturated, w.condition) {
		to <- desc
	}
}

// Collect asks every source. Clients of one dependency in one process add up.
func (w *watched) Collect(to chan<- prometheus.Metric) {
	w.mu.Lock()
	defer w.mu.Unlock()
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	for name, d := range w.byName() {
		gauge(w.inFlight, float64(d.InFlight), name)
		gauge(w.waiting, float64(d.Waiting), name)
		gauge(w.limit, float64(d.Limit), name)
		gauge(w.most, float64(d.Cap), name)
		gauge(w.breaker, oneIf(d.BreakerOpen), name)
		gauge(w.saturated, oneIf(d.Saturated), name)
	}
	for _, labels := range w.active() {
		gauge(w.condition, 1, labels[:]...)
	}
	if w.look != nil {
		w.lookGauges.collect(w.look(), gauge)
	}
	if w.mode != nil {
		w.modeGauges.collect(w.mode(), gauge)
	}
}

// byName sums up the dependencies; mu is held.
func (w *watched) byName() map[string]Dependency {
	sums := map[string]Dependency{}
	for _, state := range w.dependencies {
		d := state()
		sum := sums[d.Name]
		sum.InFlight += d.InFlight
		sum.Waiting += d.Waiting
		sum.Limit += d.Limit
		sum.Cap += d.Cap
		sum.BreakerOpen = sum.BreakerOpen || d.BreakerOpen
		sum.Saturated = sum.Saturated || d.Saturated
		sums[d.Name] = sum
	}
	return sums
}

// active lists condition and subject of what holds, each pair once; mu is held.
func (w *watched) active() [][2]string {
	var pairs [][2]string
	for _, conditions := range w.conditions {
		for _, c := range conditions() {
			if pair := [2]string{c.Condition.Name, c.Subject}; !slices.Contains(pairs, pair) {
				pairs = append(pairs, pair)
			}
		}
	}
	return pairs
}

func oneIf(holds bool) float64 {
	if holds {
		return 1
	}
	return 0
}

// WatchDependency asks for the state of a dependency at every scrape, for as long as the metrics live.
func (m *Metrics) WatchDependency(state func() Dependency) {
	m.watched.mu.Lock()
	defer m.watched.mu.Unlock()
	m.watched.dependencies = append(m.watched.dependencies, state)
}

// WatchConditions asks which conditions hold at every scrape, for as long as the metrics live. Their
// subjects have to be of a bounded set.
func (m *Metrics) WatchConditions(active func() []condition.Active) {
	m.watched.mu.Lock()
	defer m.watched.mu.Unlock()
	m.watched.conditions = append(m.watched.conditions, active)
}

// WatchLook asks at every scrape for what was last seen in the database, for as long as the metrics live. It
// has to answer from memory.
func (m *Metrics) WatchLook(last func() Look) {
	m.watched.mu.Lock()
	defer m.watched.mu.Unlock()
	m.watched.look = last
}
