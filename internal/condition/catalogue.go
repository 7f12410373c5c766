package condition

// All returns every condition.
func All() []Condition {
	return []Condition{
		DependencySaturated, BreakerOpen, BrokerAway, QueueOld, PromisesLate, OutboxStalled, SinkBehind,
		InboxBehind, WebhooksFailing, DeadLetters, DatabaseSilent, Degraded, OverrideActive, Drift,
		Quarantine,
	}
}

// What is wrong with other systems.
//
//nolint:gochecknoglobals // declared values, never changed
var (
	DependencySaturated = Condition{
		Name:  "dependency_saturated",
		Title: "A dependency has been used to its limit for a while",
		Text: "Calls in flight and waiting have been at 90 % of the effective limit or more for 30 " +
			"seconds. Work for this dependency queues. If the effective limit is below the cap, the " +
			"dependency is overloaded; if not, the limit is too small for the load or the dependency has " +
			"become slow.",
		Severity: Warning,
	}
	BreakerOpen = Condition{
		Name:  "breaker_open",
		Title: "A dependency fails and is not asked",
		Text: "At least half of the recent calls failed. Calls are refused until probes succeed, and what " +
			"needs the dependency waits. Look at the dependency first.",
		Severity: Critical,
	}
	BrokerAway = Condition{
		Name:  "broker_away",
		Title: "The broker does not take events",
		Text: "There is no connection to the broker, or it refuses what it is given. Consumers of the " +
			"stream hear nothing new. Nothing is lost: events wait in the log, for as long as it keeps " +
			"them, and go out when the broker is back.",
		Severity: Warning,
	}
	WebhooksFailing = Condition{
		Name:  "webhooks_failing",
		Title: "Webhook endpoints take nothing",
		Text: "At least one endpoint of a tenant has taken nothing for a while, or was disabled for it; " +
			"the subject says which of the two. Its events wait and others are not held up. Most often it " +
			"is the receiver: the list of failing endpoints has its last error.",
		Severity: Warning,
	}
)

// What is wrong with work in here.
//
//nolint:gochecknoglobals // declared values, never changed
var (
	QueueOld = Condition{
		Name:  "queue_old",
		Title: "Due work waits for a worker",
		Text: "The oldest due job of a queue has waited for more than 5 seconds, in a lane that somebody " +
			"waits for. Delayed and repeated jobs count only once they are due. Look at whether workers " +
			"run, and whether the dependency of the queue is slow or saturated.",
		Severity: Warning,
	}
	PromisesLate = Condition{
		Name:  "promises_late",
		Title: "Something is open past its promise",
		Text: "A client was promised an end that has not come, and the sweeper that ends what is late has " +
			"not ended it either. Look at the oldest of them, at its attempts, and at whether workers " +
			"run.",
		Severity: Critical,
	}
	OutboxStalled = Condition{
		Name:  "outbox_stalled",
		Title: "Events do not get into the log",
		Text: "The oldest event has waited for more than 10 seconds for its place in the log. Nobody hears " +
			"of anything new: feed, webhooks and broker all read the log. Look at whether a worker runs, " +
			"since the relay is in each of them, and at what holds its lock.",
		Severity: Critical,
	}
	SinkBehind = Condition{
		Name:  "sink_behind",
		Title: "A sink is behind the log",
		Text: "The oldest event that a sink has not sent has been in the log for more than 60 seconds. " +
			"Look at what the sink sends to, and at the errors of its rounds.",
		Severity: Warning,
	}
	InboxBehind = Condition{
		Name:  "inbox_behind",
		Title: "A part of this program does not handle its events",
		Text: "The oldest delivery of a consumer in the program has been due for more than 10 seconds. " +
			"Orders wait for the end of their payments by it. Look at the queue db, and at deliveries " +
			"that fail.",
		Severity: Critical,
	}
	DeadLetters = Condition{
		Name:  "dead_letters",
		Title: "Something was given up in the last hour",
		Text: "After its last attempt a transfer, an order, a delivery, a job or an event for a webhook " +
			"was given up; the subject says which kind. Nobody tries it again by itself. The dead letters " +
			"say what came of the last attempt.",
		Severity: Warning,
	}
	DatabaseSilent = Condition{
		Name:  "database_silent",
		Title: "The database has not answered for a while",
		Text: "For more than 10 seconds this process could not look at how work fares. What is said of " +
			"queues, promises and events is what was seen last, and may be worse by now. Look at the " +
			"database, and at the network between.",
		Severity: Critical,
	}
)

// Conditions that nothing judges yet.
//
//nolint:gochecknoglobals // declared values, never changed
var (
	Drift = Condition{
		Name:  "drift",
		Title: "A process does not run what it was released as",
		Text: "Not judged yet. It will mean that program, settings or schema of a process are not those of " +
			"its signed manifest, or not those of its peers. It will name what differs.",
		Severity: Critical,
	}
	Quarantine = Condition{
		Name:  "quarantine",
		Title: "A process has taken itself out of service",
		Text: "Not judged yet. It will mean that a process is not ready and fetches no work, since it " +
			"drifted from its manifest for too long.",
		Severity: Critical,
	}
)

// What the service does on purpose.
//
//nolint:gochecknoglobals // declared values, never changed
var (
	Degraded = Condition{
		Name:  "degraded",
		Title: "The service is not in its normal mode",
		Text: "The controller or a person has switched the mode; the subject says to which. In constrained " +
			"notifications and webhooks wait, in protection traffic of low priority is refused besides, in " +
			"frozen writes that are not critical are. The history of the mode says which signals led to it.",
		Severity: Warning,
	}
	OverrideActive = Condition{
		Name:  "override_active",
		Title: "A person decides the mode",
		Text: "The controller switches nothing until the override ends by itself or is lifted. The state " +
			"of the mode says who has said so, why, and until when.",
		Severity: Warning,
	}
)
