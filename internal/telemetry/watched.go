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
	Limit       int // effective
	Cap         int // what the process was given
	BreakerOpen bool
	Saturated   bool
}

// Outbox is how far events are behind on their ways out and in, in seconds.
type Outbox struct {
	// Age is that of the oldest event without a place in the log.
	Age float64
	// Sinks and Consumers are how far each of them is behind, by its name.
	Sinks, Consumers map[string]float64
	// Mismatch counts what a consumer was told of and has not handled, by consumer and type.
	Mismatch map[[2]string]int
	// Webhooks counts endpoints by what is wrong with them, WebhooksDead the events that are given up.
	Webhooks     map[string]int
	WebhooksDead int
}

// watched collects gauges from their owners when they are scraped; nobody samples in between.
type watched struct {
	inFlight, limit, most, breaker, saturated, condition *prometheus.Desc
	outboxAge, sinkLag, inboxLag, mismatch               *prometheus.Desc
	webhooks, webhooksDead                               *prometheus.Desc

	mu           sync.Mutex
	dependencies []func() Dependency
	conditions   []func() []condition.Active
	outbox       func() Outbox
}

// newWatched declares the gauges.
func newWatched() *watched {
	return &watched{
		inFlight: gauge("dependency_in_flight", "Calls that hold a place at the bulkhead.", "dependency"),
		limit: gauge("dependency_limit",
			"Calls that may be in flight now: the least of the cap and the adapted limit.", "dependency"),
		most: gauge("dependency_cap", "Places that the process was given.", "dependency"),
		breaker: gauge("dependency_breaker_open",
			"1 while the circuit breaker is not closed, half open included.", "dependency"),
		saturated: gauge("dependency_saturated",
			"1 when calls in flight and waiting have been at 90 % of the limit for 30 seconds.",
			"dependency"),
		condition: gauge("condition_active",
			"1 for each declared condition that holds; those that do not are absent.",
			"condition", "subject"),
		outboxAge: gauge("outbox_age_seconds",
			"How long the oldest event has waited that is not in the log of events; zero when drained."),
		sinkLag: gauge("sink_lag_seconds",
			"How long the oldest event has been in the log that a sink has not sent; zero when drained.",
			"sink"),
		inboxLag: gauge("inbox_lag_seconds",
			"How long the oldest event has been due that a consumer in the program has not handled; zero "+
				"when drained.", "consumer"),
		mismatch: gauge("outbox_inbox_mismatch",
			"Events that a consumer in the program was told of more than ten seconds ago and that are not "+
				"in its inbox, by type; absent in health.", "consumer", "type"),
		webhooks: gauge("webhook_endpoints",
			"Webhook endpoints of all tenants that get nothing, by whether they fail or are disabled.",
			"state"),
		webhooksDead: gauge("webhook_dead_events",
			"Events that an endpoint did not take and that are given up until somebody sends them again."),
	}
}

// Describe names what Collect sends.
func (w *watched) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		w.inFlight, w.limit, w.most, w.breaker, w.saturated, w.condition,
		w.outboxAge, w.sinkLag, w.inboxLag, w.mismatch, w.webhooks, w.webhooksDead,
	} {
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
		gauge(w.limit, float64(d.Limit), name)
		gauge(w.most, float64(d.Cap), name)
		gauge(w.breaker, oneIf(d.BreakerOpen), name)
		gauge(w.saturated, oneIf(d.Saturated), name)
	}
	for _, labels := range w.active() {
		gauge(w.condition, 1, labels[:]...)
	}
	if w.outbox == nil {
		return
	}
	out := w.outbox()
	gauge(w.outboxAge, out.Age)
	for name, behind := range out.Sinks {
		gauge(w.sinkLag, behind, name)
	}
	for name, behind := range out.Consumers {
		gauge(w.inboxLag, behind, name)
	}
	for labels, events := range out.Mismatch {
		gauge(w.mismatch, float64(events), labels[:]...)
	}
	for state, endpoints := range out.Webhooks {
		gauge(w.webhooks, float64(endpoints), state)
	}
	gauge(w.webhooksDead, float64(out.WebhooksDead))
}

// byName sums up the dependencies; mu is held.
func (w *watched) byName() map[string]Dependency {
	sums := map[string]Dependency{}
	for _, state := range w.dependencies {
		d := state()
		sum := sums[d.Name]
		sum.InFlight += d.InFlight
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

// WatchOutbox asks how far events are behind at every scrape, for as long as the metrics live.
func (m *Metrics) WatchOutbox(behind func() Outbox) {
	m.watched.mu.Lock()
	defer m.watched.mu.Unlock()
	m.watched.outbox = behind
}
