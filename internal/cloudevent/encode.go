package cloudevent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/internal/outbox"
)

// usualBytes is how long a message without metadata is.
const usualBytes = 1_024

// Encode writes events as messages, in their order. Each Describer is asked once, about all events of its
// kind. An aggregate that nobody describes has its message too, without the member that tells of it.
func (e *Encoder) Encode(ctx context.Context, events []outbox.Logged) ([]Message, error) {
	facts, err := e.describe(ctx, events)
	if err != nil {
		return nil, err
	}
	messages := make([]Message, len(events))
	for i, event := range events {
		kind := kindOf(event.Type)
		messages[i], err = e.message(event, kind, facts[kind][event.AggregateID])
		if err != nil {
			return nil, fmt.Errorf("encode event %s: %w", ID(event.AggregateID, event.Seq), err)
		}
	}
	return messages, nil
}

// kindOf is the kind of aggregate that an event of this type belongs to.
func kindOf(eventType string) string {
	kind, _, _ := strings.Cut(eventType, ".")
	return kind
}

// describe asks the Describer of each kind about the events of that kind.
func (e *Encoder) describe(
	ctx context.Context, events []outbox.Logged,
) (map[string]map[uuid.UUID]json.RawMessage, error) {
	kinds := map[string][]outbox.Logged{}
	for _, event := range events {
		kind := kindOf(event.Type)
		kinds[kind] = append(kinds[kind], event)
	}
	facts := map[string]map[uuid.UUID]json.RawMessage{}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		describe := e.Describe[kind]
		if describe == nil {
			continue
		}
		found, err := describe(ctx, kinds[kind])
		if err != nil {
			return nil, fmt.Errorf("describe %d events of kind %s: %w", len(kinds[kind]), kind, err)
		}
		facts[kind] = found
	}
	return facts, nil
}

func (e *Encoder) message(event outbox.Logged, kind string, facts json.RawMessage) (Message, error) {
	m := Message{
		ID: ID(event.AggregateID, event.Seq), Type: event.Type, TenantID: event.TenantID,
		AggregateID: event.AggregateID, Seq: event.Seq, Place: event.Place, At: event.At,
		Trace: event.Trace,
	}
	w := e.begin(m)
	// CloudEvents wants sequences to sort as texts, so they all have the length of the largest one.
	w.text("sequence", fmt.Sprintf("%010d", event.Seq))
	w.text("partitionkey", m.AggregateID.String())
	w.optional("traceparent", m.Trace)
	w.open("data")
	w.json("seq", strconv.AppendInt(nil, int64(event.Seq), 10))
	w.optional("from", event.From)
	w.text("to", event.To)
	w.optional("reason", event.Reason)
	w.text("actor", event.Actor)
	w.optional("cause", event.Cause)
	w.json("data", event.Data)
	w.json(kind, facts)
	var err error
	m.Body, err = w.end()
	return m, err
}

// begin writes what all messages say. The data is still to come.
func (e *Encoder) begin(m Message) *writer {
	tenant := m.TenantID.String()
	w := &writer{}
	w.out.Grow(usualBytes)
	w.open("")
	w.text("specversion", "1.0")
	w.text("id", m.ID)
	w.text("source", "/tenants/"+tenant)
	w.text("type", m.Type)
	w.text("subject", m.AggregateID.String())
	w.text("time", m.At.UTC().Format(time.RFC3339Nano))
	w.text("datacontenttype", "application/json")
	w.text("dataschema", e.Base+"/v1/event-types/"+m.Type+"/schema")
	w.text("tenantid", tenant)
	return w
}

// PingType is the type of the message that tries an endpoint out.
const PingType = "webhook.ping"

// Ping is a message that tells of no event: somebody tries an endpoint out.
type Ping struct {
	// ID is the message's. One that is sent again has the same.
	ID         string
	TenantID   uuid.UUID
	EndpointID uuid.UUID
	At         time.Time
}

// EncodePing writes a ping. It has no seq and no place in the log.
func (e *Encoder) EncodePing(p Ping) (Message, error) {
	m := Message{
		ID: p.ID, Type: PingType, TenantID: p.TenantID, AggregateID: p.EndpointID, At: p.At,
	}
	w := e.begin(m)
	w.open("data")
	w.text("endpoint", p.EndpointID.String())
	var err error
	if m.Body, err = w.end(); err != nil {
		return Message{}, fmt.Errorf("encode ping %s: %w", p.ID, err)
	}
	return m, nil
}

// Marshal is JSON as messages have it: on one line, with nothing escaped that JSON does not want escaped.
// What is JSON already keeps its names, numbers and their order.
func Marshal(v any) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// Aggregates names each aggregate of events once, by two arrays for a query.
func Aggregates(events []outbox.Logged) ([]uuid.UUID, []uuid.UUID) {
	var tenants, ids []uuid.UUID
	type ref struct{ tenant, id uuid.UUID }
	known := make(map[ref]bool, len(events))
	for _, event := range events {
		r := ref{event.TenantID, event.AggregateID}
		if !known[r] {
			known[r] = true
			tenants, ids = append(tenants, r.tenant), append(ids, r.id)
		}
	}
	return tenants, ids
}
