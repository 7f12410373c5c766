package webhook

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/internal/cloudevent"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/webhook/internal/webhookdb"
)

const (
	// roundEvents is how many events of the log, and how many of the backlog, a round has at most.
	roundEvents = 64
	// probeEvents is how many attempts a failing endpoint gets at a time; one of them is of the backlog.
	probeEvents = 4
	probeHeads  = 1
	// logPage is how many events of the log are read at a time to find some that are wanted, logPages how
	// many times in a round.
	logPage  = 256
	logPages = 8
	// backlogMaxRows is from which size of its backlog on an endpoint gets nothing of the log: what the
	// backlog parks has to be looked at first.
	backlogMaxRows = 100_000
)

var errEncode = errors.New("no event could be written as a message")

// item is one event on its way to an endpoint, or one ping.
type item struct {
	kind  string
	event outbox.Logged
	// attempts have failed before; firstFailed is when the first one did.
	attempts    int32
	firstFailed *time.Time
	// blocked items wait behind the backlog; only chosen ones are sent.
	blocked, chosen bool
	message         cloudevent.Message
	result          result
}

func (i *item) ref() outbox.Ref {
	return outbox.Ref{AggregateID: i.event.AggregateID, Seq: i.event.Seq}
}

// round is what is sent in one go.
type round struct {
	probe bool
	heads []*item // of the backlog, one of each aggregate
	log   []*item // the events of the log behind the place that are wanted, in their order
	read  int64   // everything of the log up to here is in log, or not wanted
	tasks []*task
	// There was more to read of the log, of the backlog.
	more, moreHeads bool
}

// all are the items of a round in the order in which they are sent: what is new goes before what has failed,
// and that before what goes again.
func (r *round) all() []*item {
	var pings, resends []*item
	for _, t := range r.tasks {
		if t.Kind == KindPing {
			pings = append(pings, t.items...)
		} else {
			resends = append(resends, t.items...)
		}
	}
	return slices.Concat(pings, r.log, r.heads, resends)
}

// load reads what there is to send.
func (h *hand) load(ctx context.Context) (*round, error) {
	ctx, cancel := context.WithTimeout(ctx, statementMax)
	defer cancel()
	r := &round{probe: h.e.Probes > 0, read: h.from}
	for _, step := range []func(context.Context, *round) error{h.loadHeads, h.loadLog, h.block, h.loadTasks} {
		if err := step(ctx, r); err != nil {
			return nil, err
		}
	}
	h.choose(r)
	return r, nil
}

func (h *hand) loadHeads(ctx context.Context, r *round) error {
	if h.e.Backlog == 0 {
		return nil
	}
	most := roundEvents
	if r.probe {
		most = probeHeads
	}
	rows, err := webhookdb.New().DueBacklog(ctx, h.d.Pool, webhookdb.DueBacklogParams{
		EndpointID: h.e.ID, TenantID: h.e.TenantID, Early: r.probe,
		PageSize: int32(most),
	})
	if err != nil || len(rows) == 0 {
		return wrap("read backlog", err)
	}
	refs := make([]outbox.Ref, len(rows))
	for i, row := range rows {
		refs[i] = outbox.Ref{AggregateID: row.AggregateID, Seq: row.Seq}
	}
	events, err := outbox.Read(ctx, h.d.Pool, h.e.TenantID, refs)
	if err != nil {
		return err
	}
	for i, row := range rows {
		event, ok := events[refs[i]]
		if !ok {
			return fmt.Errorf("event %d of %s does not exist", row.Seq, row.AggregateID)
		}
		r.heads = append(r.heads, &item{
			kind: KindEvent, event: outbox.Logged{Place: row.Place, Event: event},
			attempts: row.Attempts, firstFailed: row.FirstFailedAt,
		})
	}
	r.moreHeads = len(rows) == most && !r.probe
	return nil
}

// wrap says what could not be done, if anything.
func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// loadLog reads on until there are enough events that are wanted.
func (h *hand) loadLog(ctx context.Context, r *round) error {
	if h.e.Backlog >= backlogMaxRows {
		return nil
	}
	page := logPage
	if len(h.e.Types) == 0 {
		page = roundEvents
	}
	for range logPages {
		events, err := outbox.ReadLog(ctx, h.d.Pool, h.e.TenantID, r.read, page)
		if err != nil {
			return err
		}
		if r.more = !r.take(h.e.Types, events); r.more || len(events) < page {
			return nil
		}
	}
	r.more = true
	return nil
}

// take adds what is wanted of the next events, and says whether there was room for all.
func (r *round) take(types []string, events []outbox.Logged) bool {
	for _, e := range events {
		if wants(types, e.Type) {
			if len(r.log) == roundEvents {
				return false
			}
			r.log = append(r.log, &item{kind: KindEvent, event: e})
		}
		r.read = e.Place
	}
	return true
}

// block finds the events of the log whose aggregates have something in the backlog.
func (h *hand) block(ctx context.Context, r *round) error {
	if h.e.Backlog == 0 || len(r.log) == 0 {
		return nil
	}
	var aggregates []uuid.UUID
	for _, i := range r.log {
		aggregates = append(aggregates, i.event.AggregateID)
	}
	rows, err := webhookdb.New().BlockedAggregates(ctx, h.d.Pool, webhookdb.BlockedAggregatesParams{
		EndpointID: h.e.ID, TenantID: h.e.TenantID, Aggregates: aggregates,
	})
	if err != nil {
		return wrap("read backlog", err)
	}
	blocked := map[uuid.UUID]bool{}
	for _, aggregate := range rows {
		blocked[aggregate] = true
	}
	for _, i := range r.log {
		i.blocked = blocked[i.event.AggregateID]
	}
	return nil
}

// choose decides what is sent: all that is not blocked. Of a failing endpoint it is little: the first event
// of the log, and others by chance, so that none that is refused for ever stands before all others for ever.
func (h *hand) choose(r *round) {
	for _, i := range r.all() {
		i.chosen = !i.blocked
	}
	if !r.probe {
		return
	}
	var first []*item // of each aggregate
	seen := map[uuid.UUID]bool{}
	for _, i := range r.log {
		if i.chosen && !seen[i.event.AggregateID] {
			first = append(first, i)
		}
		seen[i.event.AggregateID], i.chosen = true, false
	}
	for n := range min(len(first), probeEvents-len(r.heads)) {
		pick := n
		if n > 0 {
			pick += int(h.d.Random() * float64(len(first)-n))
		}
		first[n], first[pick] = first[pick], first[n]
		first[n].chosen = true
	}
}

// encode writes the events that are sent as messages. One that cannot be written fails by itself.
func (h *hand) encode(ctx context.Context, r *round) error {
	var items []*item
	var events []outbox.Logged
	for _, i := range r.all() {
		if i.chosen && i.kind != KindPing {
			items, events = append(items, i), append(events, i.event)
		}
	}
	if len(items) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, statementMax)
	defer cancel()
	messages, err := h.d.Encode(ctx, events)
	if err == nil && len(messages) == len(items) {
		for n, i := range items {
			i.message = messages[n]
		}
		return nil
	}
	written := 0
	for n, i := range items {
		one, err := h.d.Encode(ctx, events[n:n+1])
		if err != nil || len(one) != 1 {
			i.message.ID = cloudevent.ID(i.event.AggregateID, i.event.Seq)
			i.result = result{tried: true, outcome: OutcomeUnwritten, text: textUnwritten, at: h.d.Now()}
			continue
		}
		i.message = one[0]
		written++
	}
	if written == 0 && len(items) > 1 {
		return errors.Join(errEncode, err) // it is not the event's fault
	}
	return nil
}
