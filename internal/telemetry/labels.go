package telemetry

import (
	"strconv"

	"example.com/holdfast/internal/condition"
	"example.com/holdfast/internal/jobqueue"
	"example.com/holdfast/internal/outbound"
)

// The kinds of promises.
const (
	KindTransfer = "transfer"
	KindOrder    = "order"
)

// Operator is to blame for a review that nobody decided: no dependency had its step.
const Operator = "operator"

// The reasons of an end that somebody else than the client is to blame for, as the domains give them.
const (
	ReasonDeadline      = "deadline_exhausted"
	ReasonAttempts      = "attempts_exhausted"
	ReasonPoison        = "poison"
	ReasonPayoutRefused = "payout_refused"
)

// RankMax is how many tenants are told by their rank.
const RankMax = 5

// of is a label with all its values.
func of(name string, values ...string) Label { return Label{Name: name, Values: values} }

// one is a label that has one value in a process.
func one(name string) Label { return Label{Name: name, Bound: "one in each process"} }

// yesOrNo is a label that says whether something is so.
func yesOrNo(name string) Label { return of(name, "false", "true") }

func kindLabel() Label { return of("kind", KindOrder, KindTransfer) }

func queueLabel() Label { return of("queue", jobqueue.Queues()...) }

func laneLabel() Label { return of("lane", numbers(jobqueue.Lanes)...) }

func rankLabel() Label { return of("rank", numbers(RankMax)...) }

// dependencyLabel has the dependencies with a door of their own, which their queues are named after.
func dependencyLabel() Label {
	return of("dependency", jobqueue.QueueNotification, jobqueue.QueuePayout, jobqueue.QueueRisk)
}

// calledLabel has the endpoints of tenants besides, all of them together.
func calledLabel() Label {
	l := dependencyLabel()
	l.Values = append(l.Values, "webhook")
	return l
}

// blamedLabel has those whose step a failed end was in.
func blamedLabel() Label { return of("dependency", append(jobqueue.Queues(), Operator)...) }

func operationLabel() Label {
	return of("operation", "deliver", "find", "screen", "send", "submit", "withdraw")
}

// outcomeLabel has how a call can end, refusals before it included.
func outcomeLabel(name string) Label {
	l := Label{Name: name}
	for _, k := range []outbound.Kind{
		outbound.KindOK, outbound.KindInTransaction, outbound.KindOpen, outbound.KindRetryBudget,
		outbound.KindFull, outbound.KindNoBudget, outbound.KindWithheld, outbound.KindCanceled,
		outbound.KindTimeout, outbound.KindUnreachable, outbound.KindAmbiguous, outbound.KindStatus5xx,
		outbound.KindStatus4xx, outbound.KindBadReply,
	} {
		l.Values = append(l.Values, string(k))
	}
	return l
}

func conditionLabel() Label {
	l := Label{Name: "condition"}
	for _, c := range condition.All() {
		l.Values = append(l.Values, c.Name)
	}
	return l
}

// numbers are those from 1 on.
func numbers(most int) []string {
	texts := make([]string, most)
	for i := range texts {
		texts[i] = strconv.Itoa(i + 1)
	}
	return texts
}
