package telemetry

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// eventMetrics count events on their way out.
type eventMetrics struct {
	sent     *prometheus.CounterVec
	hooks    *prometheus.CounterVec
	hookTime prometheus.Observer
	hookDead prometheus.Counter
	hookOff  prometheus.Counter
}

func newEventMetrics(c *catalogue) eventMetrics {
	return eventMetrics{
		sent: c.counters("sink_events_total",
			"Events that were handed to a sink of the log, by whether all of them were taken; those that "+
				"were not come again.", sinkLabel(), yesOrNo("taken")),
		hooks: c.counters("webhook_attempts_total", "Attempts at webhook endpoints, by outcome.",
			of("kind", "event", "ping", "resend"),
			of("outcome", "delivered", "refused", "failed", "unexpected", "timeout", "unreachable", "cut_off",
				"blocked", "unwritten")),
		hookTime: c.histograms("webhook_delivery_seconds",
			"From when an event happened until a webhook endpoint had taken it.",
			prometheus.ExponentialBuckets(0.005, 4, 12)).WithLabelValues(),
		hookDead: c.counter("webhook_died_total", "Events that were given up for a webhook endpoint."),
		hookOff: c.counter("webhook_disabled_total",
			"Webhook endpoints that were disabled since they take nothing."),
	}
}

// sinkLabel has the sinks that the program may have.
func sinkLabel() Label { return of("sink", "broker") }

// SinkRound counts events that were handed to a sink together.
func (m *eventMetrics) SinkRound(sink string, events int, taken bool) {
	m.sent.WithLabelValues(sink, strconv.FormatBool(taken)).Add(float64(events))
}

// WebhookAttempt counts an attempt at an endpoint.
func (m *eventMetrics) WebhookAttempt(kind, outcome string) {
	m.hooks.WithLabelValues(kind, outcome).Inc()
}

// WebhookDelivered counts how long after it happened an event was delivered.
func (m *eventMetrics) WebhookDelivered(after time.Duration) { m.hookTime.Observe(after.Seconds()) }

// WebhookDied counts events that were given up.
func (m *eventMetrics) WebhookDied(events int) { m.hookDead.Add(float64(events)) }

// WebhookDisabled counts an endpoint that was disabled.
func (m *eventMetrics) WebhookDisabled() { m.hookOff.Inc() }
