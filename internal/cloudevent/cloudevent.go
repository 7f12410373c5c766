// Package cloudevent writes events of the log as the messages that leave the program: CloudEvents 1.0 in
// JSON, the same for webhooks, the broker and the feed.
//
// A message tells what happened and what never changes of the aggregate it happened to: both are known for
// good, so the same event is the same message whenever it is written. The package refuses to tell how an
// aggregate is now, and to send anything.
//
// Invariants: the id of a message is made of its aggregate and seq, so receivers know one that comes again;
// its data fits the JSON Schema of its type.
package cloudevent

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/internal/outbox"
)

// ContentType is that of a message.
const ContentType = "application/cloudevents+json; charset=utf-8"

// Message is one event as it leaves.
type Message struct {
	// ID is the same whenever the event is sent; it has no dots, which the signatures of webhooks need.
	ID          string
	Type        string
	TenantID    uuid.UUID
	AggregateID uuid.UUID
	Seq         int32
	// Place is the event's place in the log.
	Place int64
	At    time.Time
	// Trace is the traceparent of what the event tells of, or "".
	Trace string
	// Body is the message in JSON.
	Body []byte
}

// ID names the message of an event.
func ID(aggregateID uuid.UUID, seq int32) string { return fmt.Sprintf("%s-%d", aggregateID, seq) }

// Describer reads what never changes of the aggregates of events, as JSON objects by the aggregate's id. An
// aggregate that it does not know is missing from the result.
type Describer func(ctx context.Context, events []outbox.Logged) (map[uuid.UUID]json.RawMessage, error)

// Encoder writes events as messages.
type Encoder struct {
	// Base is where the API is reached, such as https://api.example.com, and begins the addresses of schemas.
	// Without it they are relative, which receivers refuse that hold messages to CloudEvents by the letter.
	Base string
	// Describe has a Describer for each kind of aggregate: the part of an event's type before the dot.
	Describe map[string]Describer
}
