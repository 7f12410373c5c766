package telemetry

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// Look is what was last seen in the database, in seconds and numbers. What could not be seen since is as much
// older.
type Look struct {
	// Age is that of the look itself.
	Age float64
	// Ready is how long the oldest due job of each queue has waited for a worker, by lane from the first one
	// on.
	Ready map[string][]float64
	// Promises are those that are open, by kind.
	Promises map[string]OpenPromises
	// TenantOpen is how many open transfers and orders the busiest tenants have, the busiest first.
	TenantOpen []int
	Outbox     Outbox
}

// OpenPromises is how the open promises of a kind stand.
type OpenPromises struct {
	// Age is how long ago the most urgent one was given.
	Age     float64
	Overdue int
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

// lookGauges show a look.
type lookGauges struct {
	age, ready, promiseAge, overdue, tenants *prometheus.Desc
	outboxAge, sinkLag, inboxLag, mismatch   *prometheus.Desc
	webhooks, webhooksDead                   *prometheus.Desc
}

func newLookGauges(c *catalogue) lookGauges {
	return lookGauges{
		age: c.watch("look_age_seconds",
			"How long ago this process saw in the database what the gauges of ages and backlogs show. Ages "+
				"grow while it cannot be asked: what is not seen must not look drained."),
		ready: c.watch("ready_age_seconds",
			"How long the oldest due job has waited for a worker, by Postgres's clock; zero when drained. "+
				"Jobs for later do not count.", queueLabel(), laneLabel()),
		promiseAge: c.watch("promise_age_seconds",
			"How long ago the most urgent open promise was given that we can keep by working, by Postgres's "+
				"clock; zero when none is open. Reviews wait for a person and do not count.", kindLabel()),
		overdue: c.watch("promise_overdue",
			"Open transfers and orders that are past their promise, reviews included, counted up to 1,000.",
			kindLabel()),
		tenants: c.watch("tenant_open",
			"Transfers and orders that wait for us, of the tenants with the most of them, by rank. Of each "+
				"state only the most urgent ones are counted. GET /admin/v1/queues says which tenants they "+
				"are.",
			rankLabel()),
		outboxAge: c.watch("outbox_age_seconds",
			"How long the oldest event has waited that is not in the log of events; zero when drained."),
		sinkLag: c.watch("sink_lag_seconds",
			"How long the oldest event has been in the log that a sink has not sent; zero when drained.",
			sinkLabel()),
		inboxLag: c.watch("inbox_lag_seconds",
			"How long the oldest event has been due that a consumer in the program has not handled; zero "+
				"when drained.", consumerLabel()),
		mismatch: c.watch("outbox_inbox_mismatch",
			"Events that a consumer in the program was told of more than ten seconds ago and that are not "+
				"in its inbox, by type; absent in health.", consumerLabel(),
			Label{Name: "type", Bound: "the types of events"}),
		webhooks: c.watch("webhook_endpoints",
			"Webhook endpoints of all tenants that get nothing, by whether they fail or are disabled.",
			of("state", "disabled", "failing")),
		webhooksDead: c.watch("webhook_dead_events",
			"Events that an endpoint did not take and that are given up until somebody sends them again."),
	}
}

// consumerLabel has the parts of the program that wait for events.
func consumerLabel() Label { return of("consumer", "order") }

func (g lookGauges) all() []*prometheus.Desc {
	return []*prometheus.Desc{
		g.age, g.ready, g.promiseAge, g.overdue, g.tenants, g.outboxAge, g.sinkLag, g.inboxLag, g.mismatch,
		g.webhooks, g.webhooksDead,
	}
}

// collect shows one look.
func (g lookGauges) collect(look Look, gauge func(*prometheus.Desc, float64, ...string)) {
	gauge(g.age, look.Age)
	for queue, lanes := range look.Ready {
		for i, age := range lanes {
			gauge(g.ready, age, queue, strconv.Itoa(i+1))
		}
	}
	for kind, p := range look.Promises {
		gauge(g.promiseAge, p.Age, kind)
		gauge(g.overdue, float64(p.Overdue), kind)
	}
	for i := range RankMax {
		open := 0
		if i < len(look.TenantOpen) {
			open = look.TenantOpen[i]
		}
		gauge(g.tenants, float64(open), strconv.Itoa(i+1))
	}
	g.collectOutbox(look.Outbox, gauge)
}

func (g lookGauges) collectOutbox(out Outbox, gauge func(*prometheus.Desc, float64, ...string)) {
	gauge(g.outboxAge, out.Age)
	for name, behind := range out.Sinks {
		gauge(g.sinkLag, behind, name)
	}
	for name, behind := range out.Consumers {
		gauge(g.inboxLag, behind, name)
	}
	for labels, events := range out.Mismatch {
		gauge(g.mismatch, float64(events), labels[:]...)
	}
	for state, endpoints := range out.Webhooks {
		gauge(g.webhooks, float64(endpoints), state)
	}
	gauge(g.webhooksDead, float64(out.WebhooksDead))
}
