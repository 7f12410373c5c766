package app

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"example.com/holdfast/internal/condition"
	"example.com/holdfast/internal/fairshare"
	"example.com/holdfast/internal/telemetry"
)

// What counts as wrong in a look at the database.
const (
	queueOldAfter      = 5 * time.Second
	outboxStalledAfter = 10 * time.Second
	inboxBehindAfter   = 10 * time.Second
	sinkBehindAfter    = time.Minute
	givenUpWithin      = time.Hour
	// standardLanes are those in which somebody waits for the work. A single tenant that brings much is in
	// the last of them, so that one counts too; notifications are behind them.
	standardLanes = fairshare.Third
)

// A condition begins when it held in beginLooks looks in a row, and ends when it did not in endLooks: what
// flickers is one condition and not twenty. silentAfter is how old the last look may get.
const (
	beginLooks  = 3
	endLooks    = 5
	silentAfter = 10 * time.Second
)

// figures are what is judged of a look at the database. What is not in them is not judged.
type figures struct {
	// ready is how long the oldest due job has waited, by queue and lane.
	ready map[string]lanes
	// overdue counts what is open past its promise, by kind.
	overdue map[string]int
	// outbox is how long the oldest event has waited for its place in the log.
	outbox time.Duration
	// sinks and consumers are how far each of them is behind.
	sinks, consumers map[string]time.Duration
	// endpoints counts webhook endpoints that get nothing, by why.
	endpoints map[string]int
	// givenUp is when something was given up last, by kind.
	givenUp map[string]time.Time
}

func figuresOf(l *look, givenUp map[string]time.Time) figures {
	f := figures{
		ready: l.ready, outbox: l.outbox.Outbox, givenUp: givenUp,
		overdue: map[string]int{
			telemetry.KindTransfer: l.transfers.Overdue, telemetry.KindOrder: l.orders.Overdue,
		},
		endpoints: map[string]int{"failing": l.webhooks.Failing, "disabled": l.webhooks.Disabled},
		sinks:     map[string]time.Duration{}, consumers: map[string]time.Duration{},
	}
	for _, s := range l.outbox.Sinks {
		f.sinks[s.Name] = s.Age
	}
	for _, c := range l.outbox.Consumers {
		f.consumers[c.Name] = c.Age
	}
	return f
}

// conditionsOf says what a look at a time shows to be wrong, in a stable order. It knows nothing of earlier
// looks.
func conditionsOf(seen figures, now time.Time) []verdict {
	var found []verdict
	add := func(c condition.Condition, subject string, holds bool) {
		if holds {
			found = append(found, verdict{c, subject})
		}
	}
	for queue, ages := range seen.ready {
		add(condition.QueueOld, queue, slices.Max(ages[:standardLanes]) > queueOldAfter)
	}
	for kind, open := range seen.overdue {
		add(condition.PromisesLate, kind, open > 0)
	}
	add(condition.OutboxStalled, "", seen.outbox > outboxStalledAfter)
	for sink, behind := range seen.sinks {
		add(condition.SinkBehind, sink, behind > sinkBehindAfter)
	}
	for consumer, behind := range seen.consumers {
		add(condition.InboxBehind, consumer, behind > inboxBehindAfter)
	}
	for state, endpoints := range seen.endpoints {
		add(condition.WebhooksFailing, state, endpoints > 0)
	}
	for kind, at := range seen.givenUp {
		add(condition.DeadLetters, kind, !at.IsZero() && now.Sub(at) < givenUpWithin)
	}
	slices.SortFunc(found, verdict.compare)
	return found
}

// verdict is that a condition holds for a subject.
type verdict struct {
	condition condition.Condition
	subject   string
}

func (v verdict) compare(other verdict) int {
	return cmp.Or(
		cmp.Compare(v.condition.Name, other.condition.Name), cmp.Compare(v.subject, other.subject))
}

// judge turns looks into conditions that begin and end.
type judge struct {
	mu       sync.Mutex
	standing map[verdict]standing
	seenAt   time.Time
	silent   bool
}

// standing is how a verdict did in the latest looks.
type standing struct {
	since  time.Time
	active bool
	// looks is how many in a row said the opposite of active.
	looks int
}

// newJudge counts from now on how long nothing was seen.
func newJudge(now time.Time) *judge { return &judge{standing: map[verdict]standing{}, seenAt: now} }

// see judges a look.
func (j *judge) see(seen figures, now time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.seenAt, j.silent = now, false
	found := conditionsOf(seen, now)
	for v, s := range j.standing {
		if !slices.Contains(found, v) {
			j.put(v, s.without())
		}
	}
	for _, v := range found {
		j.put(v, j.standing[v].with(now))
	}
}

// put remembers how a verdict does, for as long as there is something to remember; mu is held.
func (j *judge) put(v verdict, s standing) {
	if s == (standing{}) {
		delete(j.standing, v)
		return
	}
	j.standing[v] = s
}

// with is the standing after a look in which it held.
func (s standing) with(now time.Time) standing {
	if s.active {
		s.looks = 0
		return s
	}
	if s.looks == 0 {
		s.since = now
	}
	s.looks++
	if s.looks >= beginLooks {
		return standing{since: s.since, active: true}
	}
	return s
}

// without is the standing after a look in which it did not.
func (s standing) without() standing {
	if !s.active {
		return standing{}
	}
	s.looks++
	if s.looks >= endLooks {
		return standing{}
	}
	return s
}

// blind says that a look failed. What was seen before stands: what cannot be seen must not look well.
func (j *judge) blind(now time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.silent = now.Sub(j.seenAt) >= silentAfter
}

// active lists what holds.
func (j *judge) active() []condition.Active {
	j.mu.Lock()
	defer j.mu.Unlock()
	var all []condition.Active
	if j.silent {
		all = append(all, condition.Active{Condition: condition.DatabaseSilent, Since: j.seenAt})
	}
	for _, v := range slices.SortedFunc(maps.Keys(j.standing), verdict.compare) {
		if s := j.standing[v]; s.active {
			all = append(all, condition.Active{Condition: v.condition, Subject: v.subject, Since: s.since})
		}
	}
	return all
}
