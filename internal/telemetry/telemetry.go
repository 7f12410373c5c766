// Package telemetry is the one place where metrics are declared.
//
// It refuses identifiers as labels: no transfer, account or key is ever one, so that the number of
// series is bounded by the program and not by its use.
package telemetry

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// namespace begins the name of every metric.
const namespace = "holdfast"

// Metrics counts what the program does. Make one with New; its methods may be called at once from
// anywhere.
type Metrics struct {
	registry   *prometheus.Registry
	batches    *prometheus.HistogramVec
	moved      *prometheus.CounterVec
	completion *prometheus.HistogramVec
	ordered    *prometheus.CounterVec
	orderTime  *prometheus.HistogramVec
	orderFails prometheus.Counter
	stale      prometheus.Counter
	failed     prometheus.Counter
	illegal    *prometheus.CounterVec
	swept      prometheus.Counter
	reaped     prometheus.Counter
	calls      *prometheus.CounterVec
	callTime   *prometheus.HistogramVec
	attempts   *prometheus.CounterVec
	refusals   *prometheus.CounterVec
	requests   *prometheus.HistogramVec
	shed       *prometheus.CounterVec
	sent       *prometheus.CounterVec
	hooks      *prometheus.CounterVec
	hookTime   prometheus.Histogram
	hookDead   prometheus.Counter
	hookOff    prometheus.Counter
	watched    *watched
}

// New makes metrics with a registry of their own.
func New() *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.batches = histogramVec("group_commit_batch_items", "Items per committed batch, by combiner.",
		prometheus.ExponentialBuckets(1, 2, 9), "combiner")
	m.moved = counterVec("transfers_total", "Transfers that were accepted or ended, by state and reason.",
		"state", "reason")
	m.completion = histogramVec("transfer_completion_seconds", "Accepted to ended, by Postgres's clock.",
		prometheus.ExponentialBuckets(0.005, 2, 15), "state")
	m.ordered = counterVec("orders_total", "Orders that were placed or ended, by state and reason.",
		"state", "reason")
	m.orderTime = histogramVec("order_completion_seconds", "Placed to ended, by Postgres's clock.",
		prometheus.ExponentialBuckets(0.005, 2, 15), "state")
	m.orderFails = counter("order_steps_failed_total",
		"Steps of orders that broke in our own code, by an error or a panic.")
	m.stale = counter("stale_moves_total",
		"Moves that found their transfer or order already moved by another worker.")
	m.failed = counter("transfer_steps_failed_total",
		"Steps of transfers that broke in our own code, by an error or a panic.")
	m.illegal = counterVec("transition_rejections_total",
		"Moves that the table of transitions refused, by state and event.", "from", "event")
	m.swept = counter("sweeper_woken_total", "Rows without a live job that the sweeper woke; zero in health.")
	m.reaped = counter("reaper_jobs_total", "Jobs of dead workers that were woken again.")
	m.calls = counterVec("dependency_calls_total", "Calls to dependencies, by outcome.",
		"dependency", "operation", "outcome")
	m.callTime = histogramVec("dependency_call_seconds",
		"Calls to dependencies, with the wait at the bulkhead.",
		prometheus.ExponentialBuckets(0.001, 2, 14), "dependency", "operation")
	m.attempts = counterVec("dependency_attempts_total",
		"Attempts at dependencies; repeat says whether one for the same effect came before and gave no "+
			"answer. Amplification is all of them divided by those with repeat=false.",
		"dependency", "repeat")
	m.refusals = counterVec("dependency_refusals_total",
		"Calls that were refused before any attempt, by kind.", "dependency", "kind")
	m.requests = histogramVec("http_request_seconds", "Requests, by route and status.",
		prometheus.ExponentialBuckets(0.0005, 2, 15), "route", "status")
	m.shed = counterVec("requests_shed_total", "Requests that were refused at once, by reason.", "reason")
	m.sent = counterVec("sink_events_total",
		"Events that were handed to a sink of the log, by whether all of them were taken; those that were "+
			"not come again.", "sink", "taken")
	m.webhooks()
	m.watched = newWatched()
	m.registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		m.batches, m.moved, m.completion, m.ordered, m.orderTime, m.orderFails, m.stale, m.failed, m.illegal,
		m.swept, m.reaped, m.calls, m.callTime, m.attempts, m.refusals, m.requests, m.shed,
		m.sent, m.hooks, m.hookTime, m.hookDead, m.hookOff, m.watched)
	return m
}

// webhooks declares what is counted of them.
func (m *Metrics) webhooks() {
	m.hooks = counterVec("webhook_attempts_total", "Attempts at webhook endpoints, by outcome.",
		"kind", "outcome")
	m.hookTime = prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: namespace, Name: "webhook_delivery_seconds",
		Help:    "From when an event happened until a webhook endpoint had taken it.",
		Buckets: prometheus.ExponentialBuckets(0.005, 4, 12),
	})
	m.hookDead = counter("webhook_died_total", "Events that were given up for a webhook endpoint.")
	m.hookOff = counter("webhook_disabled_total",
		"Webhook endpoints that were disabled since they take nothing.")
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
}

// gauge is read when it is scraped.
func gauge(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
}

func counterVec(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(
		prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
}

func histogramVec(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(
		prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets}, labels)
}

// SinkRound counts events that were handed to a sink together.
func (m *Metrics) SinkRound(sink string, events int, taken bool) {
	m.sent.WithLabelValues(sink, strconv.FormatBool(taken)).Add(float64(events))
}

// WebhookAttempt counts an attempt at an endpoint.
func (m *Metrics) WebhookAttempt(kind, outcome string) { m.hooks.WithLabelValues(kind, outcome).Inc() }

// WebhookDelivered counts how long after it happened an event was delivered.
func (m *Metrics) WebhookDelivered(after time.Duration) { m.hookTime.Observe(after.Seconds()) }

// WebhookDied counts events that were given up.
func (m *Metrics) WebhookDied(events int) { m.hookDead.Add(float64(events)) }

// WebhookDisabled counts an endpoint that was disabled.
func (m *Metrics) WebhookDisabled() { m.hookOff.Inc() }

// Registry is where the metrics are gathered from.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }

// BatchSize counts a committed batch.
func (m *Metrics) BatchSize(combiner string, size int) {
	m.batches.WithLabelValues(combiner).Observe(float64(size))
}

// TransferMoved counts a transfer that was accepted or ended, and how long after its acceptance.
func (m *Metrics) TransferMoved(state, reason string, after time.Duration) {
	m.moved.WithLabelValues(state, reason).Inc()
	if state != "accepted" {
		m.completion.WithLabelValues(state).Observe(after.Seconds())
	}
}

// OrderMoved counts an order that was placed or ended, and how long after it was placed.
func (m *Metrics) OrderMoved(state, reason string, after time.Duration) {
	m.ordered.WithLabelValues(state, reason).Inc()
	if state != "pending" {
		m.orderTime.WithLabelValues(state).Observe(after.Seconds())
	}
}

// OrderStepFailed counts a step of an order that ended in an error.
func (m *Metrics) OrderStepFailed() { m.orderFails.Inc() }

// StaleMove counts a move that came too late.
func (m *Metrics) StaleMove() { m.stale.Inc() }

// StepFailed counts a step that ended in an error.
func (m *Metrics) StepFailed() { m.failed.Inc() }

// IllegalMove counts a move that the table of transitions refused; nothing was changed by it.
func (m *Metrics) IllegalMove(from, event string) { m.illegal.WithLabelValues(from, event).Inc() }

// Swept counts rows that the sweeper woke.
func (m *Metrics) Swept(rows int) { m.swept.Add(float64(rows)) }

// Reaped counts jobs of dead workers.
func (m *Metrics) Reaped(jobs int64) { m.reaped.Add(float64(jobs)) }

// Call counts a call to a dependency.
func (m *Metrics) Call(dependency, operation, outcome string, took time.Duration) {
	m.calls.WithLabelValues(dependency, operation, outcome).Inc()
	m.callTime.WithLabelValues(dependency, operation).Observe(took.Seconds())
}

// Attempt counts a request that was sent to a dependency.
func (m *Metrics) Attempt(dependency string, repeat bool) {
	m.attempts.WithLabelValues(dependency, strconv.FormatBool(repeat)).Inc()
}

// Refusal counts a call that was refused before any attempt.
func (m *Metrics) Refusal(dependency, kind string) {
	m.refusals.WithLabelValues(dependency, kind).Inc()
}

// Request counts an answered request.
func (m *Metrics) Request(route, status string, took time.Duration) {
	m.requests.WithLabelValues(route, status).Observe(took.Seconds())
}

// Shed counts a request that was refused at once.
func (m *Metrics) Shed(reason string) { m.shed.WithLabelValues(reason).Inc() }
