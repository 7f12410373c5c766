package telemetry

import (
	"cmp"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Type says how a metric moves. The set is closed.
type Type string

// The types.
const (
	Counter   Type = "counter"
	Gauge     Type = "gauge"
	Histogram Type = "histogram"
)

// Metric is the declaration of a metric.
type Metric struct {
	Name   string
	Type   Type
	Help   string
	Labels []Label
}

// Label is a label of a metric, and what bounds its values.
type Label struct {
	Name string
	// Values are all that it may have. Nil leaves it to Bound to say where they come from.
	Values []string
	Bound  string
}

// The native histograms beside the classic buckets, for whoever scrapes them: a bucket is a tenth wider than
// the one before it. What spreads wider than nativeBucketsMax is made coarser, or begins anew after
// nativeResetMin.
const (
	nativeFactor     = 1.1
	nativeBucketsMax = 160
	nativeResetMin   = time.Hour
)

// catalogue declares metrics and registers them.
type catalogue struct {
	registry *prometheus.Registry
	declared []Metric
}

func compareMetrics(a, b Metric) int { return cmp.Compare(a.Name, b.Name) }

// declare notes a metric and returns its whole name, and the names of its labels.
func (c *catalogue) declare(of Type, name, help string, labels []Label) (string, []string) {
	name = prometheus.BuildFQName(namespace, "", name)
	c.declared = append(c.declared, Metric{Name: name, Type: of, Help: help, Labels: labels})
	names := make([]string, len(labels))
	for i, l := range labels {
		names[i] = l.Name
	}
	return name, names
}

// counter is one without labels: it is there from the start.
func (c *catalogue) counter(name, help string) prometheus.Counter {
	return c.counters(name, help).WithLabelValues()
}

func (c *catalogue) counters(name, help string, labels ...Label) *prometheus.CounterVec {
	name, names := c.declare(Counter, name, help, labels)
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, names)
	c.registry.MustRegister(vec)
	return vec
}

func (c *catalogue) gauges(name, help string, labels ...Label) *prometheus.GaugeVec {
	name, names := c.declare(Gauge, name, help, labels)
	vec := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, names)
	c.registry.MustRegister(vec)
	return vec
}

// watch is a gauge that is read when it is scraped; who collects it registers it.
func (c *catalogue) watch(name, help string, labels ...Label) *prometheus.Desc {
	name, names := c.declare(Gauge, name, help, labels)
	return prometheus.NewDesc(name, help, names, nil)
}

func (c *catalogue) histograms(
	name, help string, buckets []float64, labels ...Label,
) *prometheus.HistogramVec {
	return c.histogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
}

// natives are histograms that are native as well as classic.
func (c *catalogue) natives(
	name, help string, buckets []float64, labels ...Label,
) *prometheus.HistogramVec {
	return c.histogram(prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: buckets, NativeHistogramBucketFactor: nativeFactor,
		NativeHistogramMaxBucketNumber: nativeBucketsMax, NativeHistogramMinResetDuration: nativeResetMin,
	}, labels)
}

func (c *catalogue) histogram(opts prometheus.HistogramOpts, labels []Label) *prometheus.HistogramVec {
	var names []string
	opts.Name, names = c.declare(Histogram, opts.Name, opts.Help, labels)
	vec := prometheus.NewHistogramVec(opts, names)
	c.registry.MustRegister(vec)
	return vec
}
