package webhook

import (
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/webhook/internal/webhookdb"
)

const (
	// deadAfter is how long an event is tried that is refused while others pass.
	deadAfter = 24 * time.Hour
	// deadGrace is how long it is tried at least after its endpoint is well again.
	deadGrace = time.Hour
	// disabledAfter is how long an endpoint may take nothing.
	disabledAfter = 5 * 24 * time.Hour

	// eventPauseMin and eventPauseMax bound the pause between the tries of an event, probePauseMin and
	// probePauseMax that between the probes of an endpoint. Both double.
	eventPauseMin = 5 * time.Second
	eventPauseMax = 10 * time.Minute
	probePauseMin = time.Second
	probePauseMax = 5 * time.Minute

	// aggregatesAlone is how many aggregates have to fail, with none that passes, for the endpoint to be at
	// fault and not the event.
	aggregatesAlone = 2
	// deferPause is when a round is done again whose door was closed, or that gave up.
	deferPause = time.Second
)

// The reasons of a status.
const (
	reasonGone      = "It replied 410 Gone."
	reasonFailing   = "Nothing got through for five days."
	reasonForgotten = "Events waited longer than the log keeps them, and were not sent."
)

// pause is the doubling pause after so many failures, by its lower half by chance.
func pause(failures int32, least, most time.Duration, random func() float64) time.Duration {
	bound := least
	for i := int32(1); i < failures && bound < most; i++ {
		bound *= 2
	}
	bound = min(bound, most)
	return bound/2 + time.Duration(random()*float64(bound/2))
}

// kept is an event that goes into the backlog.
type kept struct {
	*item
	failed bool
	due    time.Time
}

// missed is an event of the backlog that failed again.
type missed struct {
	*item
	dead bool
	due  time.Time
}

// plan is what a round comes to.
type plan struct {
	row       webhookdb.WebhookEndpoints // as it will be, but for its lease
	kept      []kept
	missed    []missed
	delivered []outbox.Ref // of the backlog
	promote   []uuid.UUID  // aggregates whose first event may be due now
	recovered bool         // its backlog is due now
	done      []int64      // tasks
	moved     []webhookdb.AdvanceTaskParams
	more      bool
}

// tally counts what came of the items of a round.
type tally struct {
	delivered, failed int
	fresh             bool               // an event failed at its first try
	aggregates        map[uuid.UUID]bool // of the log that did so
	deferred, gone    bool
	text              string        // of the last failure
	after             time.Duration // the longest that was asked for
}

func count(r *round) tally {
	t := tally{aggregates: map[uuid.UUID]bool{}}
	for _, i := range r.all() {
		t.deferred = t.deferred || i.result.deferred
		switch {
		case i.result.delivered:
			t.delivered++
		case i.result.tried:
			t.failed++
			t.text, t.after = i.result.text, max(t.after, i.result.after)
			t.gone = t.gone || i.result.status == statusGone
			t.fresh = t.fresh || i.blames()
		}
	}
	for _, i := range r.log {
		if i.blames() {
			t.aggregates[i.event.AggregateID] = true
		}
	}
	return t
}

// blames says whether an event tells that its endpoint may be at fault: one that has failed before does not.
func (i *item) blames() bool {
	return i.kind == KindEvent && i.attempts == 0 && i.result.tried && !i.result.delivered &&
		i.result.outcome != OutcomeUnwritten
}

// settle decides what becomes of an endpoint, as it stands now, and of what a round sent to it.
func settle(
	row webhookdb.WebhookEndpoints, r *round, from int64, now time.Time, random func() float64,
) *plan {
	p := &plan{row: row, more: r.more || r.moreHeads}
	if from > row.Place {
		p.row.Place, p.row.StatusReason, p.row.UpdatedAt = from, reasonForgotten, now
	}
	t := count(r)
	p.judge(t, now)
	if p.row.Probes > 0 {
		p.stay(r)
	} else {
		p.moveOn(r, now, random)
	}
	p.settleHeads(r, now, random)
	p.settleTasks(r, now, random)
	switch {
	case p.row.Probes > 0:
		p.row.NextAt = now.Add(max(pause(p.row.Probes, probePauseMin, probePauseMax, random),
			min(t.after, probePauseMax)))
	case t.deferred || (t.delivered == 0 && t.failed >= failuresAlone):
		p.row.NextAt = now.Add(deferPause)
	}
	p.more = (p.more || p.recovered) && Status(p.row.Status) == Active && !p.row.NextAt.After(now)
	return p
}

// judge decides how the endpoint is. One success makes it well. It fails since the first time that nothing
// passed; it is left alone as a whole when new events of more than one aggregate tell so. What is tried of
// the backlog does not: it may be a heap of what is refused for ever, behind which the log has to go on.
func (p *plan) judge(t tally, now time.Time) {
	switch {
	case t.delivered > 0:
		p.recovered = p.row.FailingSince != nil
		p.row.Failures, p.row.FailingSince, p.row.Probes, p.row.LastError = 0, nil, 0, t.text
	case t.failed > 0:
		failingBefore := p.row.FailingSince != nil
		p.row.Failures += int32(t.failed) //nolint:gosec // the items of a round
		p.row.LastError = t.text
		if t.fresh && !failingBefore {
			p.row.FailingSince = &now
		}
		n := len(t.aggregates)
		if p.row.Probes > 0 || n >= aggregatesAlone || (n > 0 && failingBefore) {
			p.row.Probes++
		}
	}
	if Status(p.row.Status) != Active {
		return
	}
	switch {
	case t.gone:
		p.disable(reasonGone, now)
	case p.row.FailingSince != nil && now.Sub(*p.row.FailingSince) >= disabledAfter:
		p.disable(reasonFailing, now)
	}
}

func (p *plan) disable(reason string, now time.Time) {
	p.row.Status, p.row.StatusReason, p.row.UpdatedAt = string(Disabled), reason, now
}

// stay leaves the events of a failing endpoint in the log; only what is not wanted is passed.
func (p *plan) stay(r *round) {
	p.row.Place = r.read
	if len(r.log) > 0 {
		p.row.Place = r.log[0].event.Place - 1
	}
}

// moveOn passes the events of the log up to the last one that was tried, or is blocked: those that were not
// delivered go into the backlog.
func (p *plan) moveOn(r *round, now time.Time, random func() float64) {
	last := len(r.log)
	for last > 0 && !r.log[last-1].result.tried && !r.log[last-1].blocked {
		last--
	}
	p.row.Place = r.read
	if last < len(r.log) {
		p.row.Place, p.more = r.log[last].event.Place-1, true
	}
	for _, i := range r.log[:last] {
		if i.result.delivered {
			continue
		}
		k := kept{item: i, failed: i.result.tried, due: now}
		if k.failed {
			k.due = now.Add(i.pause(random))
		} else if !i.blocked {
			p.more = true // it may be due at once
		}
		p.kept = append(p.kept, k)
		p.promote = append(p.promote, i.event.AggregateID)
	}
}

// pause is how long an item waits that has failed once more.
func (i *item) pause(random func() float64) time.Duration {
	return max(pause(i.attempts+1, eventPauseMin, eventPauseMax, random), min(i.result.after, eventPauseMax))
}

// settleHeads takes what was delivered out of the backlog. What has failed for too long is dead, unless it is
// the endpoint that takes nothing.
func (p *plan) settleHeads(r *round, now time.Time, random func() float64) {
	for _, i := range r.heads {
		switch {
		case i.result.delivered:
			p.delivered = append(p.delivered, i.ref())
			p.promote = append(p.promote, i.event.AggregateID)
			p.more = true
		case i.result.tried:
			dead := p.row.FailingSince == nil && i.firstFailed != nil && now.Sub(*i.firstFailed) >= deadAfter
			p.missed = append(p.missed, missed{i, dead, now.Add(i.pause(random))})
		}
	}
}
