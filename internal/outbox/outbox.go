// Package outbox writes events: one row per transition, in the transition's transaction, audit
// trail and outbox in one. Events that a consumer in this program waits for are delivered: by a row that
// is written with them, a job that wakes the consumer, and an inbox that remembers what was handled.
//
// Append is the only way out. The package refuses to publish anything itself, to write an event
// without a transaction, to change one that is written, and to know what an event means: who waits for
// which is data, handed in as Subscriptions.
//
// Invariants: (tenant, aggregate, seq) is unique and seq is the aggregate's version after the
// transition, so a lost or doubled event is a gap or a violation; an event that a subscription names is
// either to be delivered or in the consumer's inbox, never both. What a consumer cannot handle waits ever
// longer and then shows among the dead, and is never given up: what it tells has happened.
package outbox

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/holdfast/internal/outbox/internal/outboxdb"
	"example.com/holdfast/internal/pgtx"
)

// pageMaxRows bounds a page of List.
const pageMaxRows = 200

// Event is what happened to one aggregate in one step.
type Event struct {
	TenantID    uuid.UUID
	AggregateID uuid.UUID
	// Seq is the aggregate's version after the event, from 1.
	Seq int32
	// Type is a name like transfer.settled.
	Type string
	// From is the state before, "" for the first event.
	From string
	To   string
	// Reason says why, for the states that need one.
	Reason string
	// Actor says who: api:<key id>, worker:<instance>, operator:<name>.
	Actor string
	// Cause says through what: request:<id> or job:<id>.
	Cause string
	// Trace is the traceparent of the transition, or "".
	Trace string
	// Reference is the client's own name for the aggregate. It is not stored with the event: it says
	// which subscriptions the event belongs to.
	Reference string
	// Lane is that of the aggregate's work: deliveries of the event are woken in it. Like Reference it is not
	// stored with the event. Zero counts as 1.
	Lane int16
	// Data is more that belongs to the event, as JSON, or nil.
	Data json.RawMessage
	// At is Postgres's time of the event; Append sets it.
	At time.Time
}

// Append queues events into the batch that writes the transitions that they tell of, and a delivery with
// its job for each event that a subscription names.
func Append(
	ctx context.Context, write *pgx.Batch, now time.Time, events []Event, subscriptions ...Subscription,
) error {
	n := len(events)
	if n == 0 {
		return nil
	}
	p := outboxdb.InsertEventsParams{
		Now: now, Tenants: make([]uuid.UUID, n), Aggregates: make([]uuid.UUID, n), Seqs: make([]int32, n),
		Types: make([]string, n), FromStates: make([]string, n), ToStates: make([]string, n),
		Reasons: make([]string, n), Actors: make([]string, n), Causes: make([]string, n),
		Data: make([][]byte, n),
	}
	for i, e := range events {
		p.Tenants[i], p.Aggregates[i], p.Seqs[i], p.Types[i] = e.TenantID, e.AggregateID, e.Seq, e.Type
		p.FromStates[i], p.ToStates[i], p.Reasons[i] = e.From, e.To, e.Reason
		p.Actors[i], p.Causes[i], p.Data[i] = e.Actor, e.Cause, e.Data
		if e.Trace != "" && p.Traces == nil {
			p.Traces = make([]string, n)
		}
		if e.Trace != "" {
			p.Traces[i] = e.Trace
		}
	}
	if err := outboxdb.New().InsertEvents(ctx, pgtx.Into(write), p); err != nil {
		return err
	}
	for _, s := range subscriptions {
		if err := s.deliver(ctx, write, now, events); err != nil {
			return err
		}
	}
	return nil
}

// List reads a page of the events of one aggregate after seq, in their order.
func List(
	ctx context.Context, db outboxdb.DBTX, tenantID, aggregateID uuid.UUID, after int32,
) ([]Event, error) {
	rows, err := outboxdb.New().ListEvents(ctx, db, outboxdb.ListEventsParams{
		TenantID: tenantID, AggregateID: aggregateID, After: after, PageSize: pageMaxRows,
	})
	if err != nil {
		return nil, fmt.Errorf("list events of %s: %w", aggregateID, err)
	}
	events := make([]Event, len(rows))
	for i, r := range rows {
		events[i] = Event{
			TenantID: tenantID, AggregateID: aggregateID, Seq: r.Seq, Type: r.Type,
			From: pgtx.OrZero(r.FromState), To: r.ToState, Reason: pgtx.OrZero(r.Reason),
			Actor: r.Actor, Cause: pgtx.OrZero(r.Cause), Trace: pgtx.OrZero(r.Trace), Data: r.Data, At: r.At,
		}
	}
	return events, nil
}
