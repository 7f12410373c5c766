package telemetry

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// promiseMetrics say what users feel of what was accepted.
type promiseMetrics struct {
	promises *prometheus.CounterVec
	failures *prometheus.CounterVec
}

// newPromiseMetrics has every series from the start: a rate sees no first one that comes from nowhere.
func newPromiseMetrics(c *catalogue) promiseMetrics {
	kept, blamed := yesOrNo("kept"), blamedLabel()
	reasons := of("reason", ReasonAttempts, ReasonDeadline, ReasonPayoutRefused, ReasonPoison)
	m := promiseMetrics{
		promises: c.counters("promises_total",
			"Transfers and orders that ended, by whether in time and not since they were given up. A "+
				"refusal by a rule, of stock or of a payment is an end in time.", kindLabel(), kept),
		failures: c.counters("terminal_failures_total",
			"Ends that the client is not to blame for, and notifications that were given up, by whose "+
				"step it was and why.", blamed, reasons),
	}
	for _, kind := range kindLabel().Values {
		for _, k := range kept.Values {
			m.promises.WithLabelValues(kind, k)
		}
	}
	for _, whose := range blamed.Values {
		for _, reason := range reasons.Values {
			m.failures.WithLabelValues(whose, reason)
		}
	}
	return m
}

// PromiseEnded counts a transfer or an order that ended, by whether its promise was kept.
func (m *promiseMetrics) PromiseEnded(kind string, kept bool) {
	m.promises.WithLabelValues(kind, strconv.FormatBool(kept)).Inc()
}

// TerminalFailure counts an end, or a notification that was given up, by whose step it was and why.
func (m *promiseMetrics) TerminalFailure(whose, reason string) {
	m.failures.WithLabelValues(whose, reason).Inc()
}

// moveMetrics count transfers and orders by what became of them.
type moveMetrics struct {
	moved      *prometheus.CounterVec
	completion *prometheus.HistogramVec
	ordered    *prometheus.CounterVec
	orderTime  *prometheus.HistogramVec
	illegal    *prometheus.CounterVec
	stale      prometheus.Counter
	failed     prometheus.Counter
	orderFails prometheus.Counter
}

// transferSeconds and orderSeconds have edges at the promises: a minute for a transfer, and a day for its
// review; five minutes and another quarter of an hour for an order.
func transferSeconds() []float64 {
	return []float64{
		0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.25, 2.5, 5, 10, 20, 30, 45, 60, 90, 300,
		3_600, 86_400,
	}
}

func orderSeconds() []float64 {
	return []float64{
		0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.25, 2.5, 5, 10, 20, 40, 60, 120, 300, 600, 900,
		1_200, 3_600,
	}
}

func newMoveMetrics(c *catalogue) moveMetrics {
	ends := []string{"settled", "blocked", "canceled", "expired", "failed"}
	orderEnds := []string{"confirmed", "canceled"}
	return moveMetrics{
		moved: c.counters("transfers_total", "Transfers that were accepted or ended, by state and reason.",
			of("state", append([]string{"accepted"}, ends...)...),
			Label{Name: "reason", Bound: "none, a reason of the program, or a code of a problem"}),
		completion: c.natives("transfer_completion_seconds", "Accepted to ended, by Postgres's clock.",
			transferSeconds(), of("state", ends...)),
		ordered: c.counters("orders_total", "Orders that were placed or ended, by state and reason.",
			of("state", append([]string{"pending"}, orderEnds...)...),
			of("reason", "", "client", "operator", "stock", "slot", "payment", "expired", "poison")),
		orderTime: c.natives("order_completion_seconds", "Placed to ended, by Postgres's clock.",
			orderSeconds(), of("state", orderEnds...)),
		illegal: c.counters("transition_rejections_total",
			"Moves that the table of transitions refused, by state and event.",
			Label{Name: "from", Bound: "the states of transfers and orders"},
			Label{Name: "event", Bound: "the events of transfers and orders"}),
		stale: c.counter("stale_moves_total",
			"Moves that found their transfer or order already moved by another worker."),
		failed: c.counter("transfer_steps_failed_total",
			"Steps of transfers that broke in our own code, by an error or a panic."),
		orderFails: c.counter("order_steps_failed_total",
			"Steps of orders that broke in our own code, by an error or a panic."),
	}
}

// TransferMoved counts a transfer that was accepted or ended, and how long after its acceptance.
func (m *moveMetrics) TransferMoved(state, reason string, after time.Duration) {
	m.moved.WithLabelValues(state, reason).Inc()
	if state != "accepted" {
		m.completion.WithLabelValues(state).Observe(after.Seconds())
	}
}

// OrderMoved counts an order that was placed or ended, and how long after it was placed.
func (m *moveMetrics) OrderMoved(state, reason string, after time.Duration) {
	m.ordered.WithLabelValues(state, reason).Inc()
	if state != "pending" {
		m.orderTime.WithLabelValues(state).Observe(after.Seconds())
	}
}

// IllegalMove counts a move that the table of transitions refused; nothing was changed by it.
func (m *moveMetrics) IllegalMove(from, event string) { m.illegal.WithLabelValues(from, event).Inc() }

// StaleMove counts a move that came too late.
func (m *moveMetrics) StaleMove() { m.stale.Inc() }

// StepFailed counts a step of a transfer that ended in an error.
func (m *moveMetrics) StepFailed() { m.failed.Inc() }

// OrderStepFailed counts a step of an order that ended in an error.
func (m *moveMetrics) OrderStepFailed() { m.orderFails.Inc() }
