package telemetry

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// callMetrics count what we ask of dependencies.
type callMetrics struct {
	calls    *prometheus.CounterVec
	callTime *prometheus.HistogramVec
	attempts *prometheus.CounterVec
	refusals *prometheus.CounterVec
}

func newCallMetrics(c *catalogue) callMetrics {
	return callMetrics{
		calls: c.counters("dependency_calls_total", "Calls to dependencies, by outcome.",
			calledLabel(), operationLabel(), outcomeLabel("outcome")),
		callTime: c.histograms("dependency_call_seconds",
			"Calls to dependencies, with the wait at the bulkhead.",
			prometheus.ExponentialBuckets(0.001, 2, 14), calledLabel(), operationLabel()),
		attempts: c.counters("dependency_attempts_total",
			"Attempts at dependencies; repeat says whether one for the same effect came before and gave no "+
				"answer. Amplification is all of them divided by those with repeat=false.",
			dependencyLabel(), yesOrNo("repeat")),
		refusals: c.counters("dependency_refusals_total",
			"Calls that were refused before any attempt, by kind.", dependencyLabel(), outcomeLabel("kind")),
	}
}

// Call counts a call to a dependency.
func (m *callMetrics) Call(dependency, operation, outcome string, took time.Duration) {
	m.calls.WithLabelValues(dependency, operation, outcome).Inc()
	m.callTime.WithLabelValues(dependency, operation).Observe(took.Seconds())
}

// Attempt counts a request that was sent to a dependency.
func (m *callMetrics) Attempt(dependency string, repeat bool) {
	m.attempts.WithLabelValues(dependency, strconv.FormatBool(repeat)).Inc()
}

// Refusal counts a call that was refused before any attempt.
func (m *callMetrics) Refusal(dependency, kind string) {
	m.refusals.WithLabelValues(dependency, kind).Inc()
}

// requestMetrics count what is asked of us.
type requestMetrics struct {
	requests *prometheus.HistogramVec
	failed   prometheus.Counter
	shed     *prometheus.CounterVec
}

func newRequestMetrics(c *catalogue) requestMetrics {
	return requestMetrics{
		requests: c.histograms("http_request_seconds", "Requests, by route and status.",
			prometheus.ExponentialBuckets(0.0005, 2, 15),
			Label{Name: "route", Bound: "the routes of api/, or none"},
			Label{Name: "status", Bound: "the statuses of HTTP"}),
		failed: c.counter("requests_failed_total",
			"Requests whose answer says that we could not do it, or do not know. A refusal is none."),
		shed: c.counters("requests_shed_total", "Requests that were refused at once, by reason.",
			of("reason", "admission", "in_flight", "mode", "rate", "streams", "tenant_in_flight",
				"tenant_streams", "waiting")),
	}
}

// Request counts an answered request.
func (m *requestMetrics) Request(route, status string, took time.Duration) {
	m.requests.WithLabelValues(route, status).Observe(took.Seconds())
}

// Failed counts a request that ended with an answer of ours that says "broken" or "not known".
func (m *requestMetrics) Failed() { m.failed.Inc() }

// Shed counts a request that was refused at once.
func (m *requestMetrics) Shed(reason string) { m.shed.WithLabelValues(reason).Inc() }
