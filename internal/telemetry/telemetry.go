// Package telemetry is the one place where metrics are declared.
//
// Each is declared once, with its help, its labels, and what bounds the values of each label: Catalogue has
// them all. The package refuses identifiers as labels: no tenant, transfer, account or key is ever one, so
// that the number of series is bounded by the program and not by its use. A scrape reads memory only: what
// stands in the database is looked at by somebody else, and shown by WatchLook.
//
// Invariant: a metric that is not in the catalogue is not registered.
package telemetry

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// namespace begins the name of every metric.
const namespace = "holdfast"

// Metrics counts what the program does. Make one with New; its methods may be called at once from
// anywhere.
type Metrics struct {
	promiseMetrics
	moveMetrics
	jobMetrics
	callMetrics
	requestMetrics
	eventMetrics
	modeMetrics

	catalogue catalogue
	build     *prometheus.GaugeVec
	watched   *watched
}

// New makes metrics with a registry of their own.
func New() *Metrics {
	m := &Metrics{catalogue: catalogue{registry: prometheus.NewRegistry()}}
	c := &m.catalogue
	c.registry.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.build = c.gauges("build_info", "1, with what runs here.", one("version"), one("goversion"))
	m.promiseMetrics = newPromiseMetrics(c)
	m.moveMetrics = newMoveMetrics(c)
	m.jobMetrics = newJobMetrics(c)
	m.callMetrics = newCallMetrics(c)
	m.requestMetrics = newRequestMetrics(c)
	m.eventMetrics = newEventMetrics(c)
	m.modeMetrics = newModeMetrics(c)
	m.watched = newWatched(c)
	return m
}

// Registry is where the metrics are gathered from.
func (m *Metrics) Registry() *prometheus.Registry { return m.catalogue.registry }

// Catalogue lists the declarations of all metrics, by name. Those of the Go runtime and of the process are
// not ours.
func (m *Metrics) Catalogue() []Metric {
	all := slices.Clone(m.catalogue.declared)
	slices.SortFunc(all, compareMetrics)
	return all
}

// Build says which program runs here.
func (m *Metrics) Build(version, goVersion string) {
	m.build.WithLabelValues(version, goVersion).Set(1)
}
