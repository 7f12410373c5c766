package broker

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.com/holdfast/internal/cloudevent"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/tracing"
)

const (
	// messagesMax bounds one Publish: a page of the log.
	messagesMax = outbox.LogPageMax
	// inFlightMax bounds the messages of one Publish that are not acknowledged yet.
	inFlightMax = 128
	// ackMax bounds the wait for one acknowledgment, below the time that a sink gives to a Publish.
	ackMax = 3 * time.Second
	// sendOnce is how often nats.go sends a message again that nobody was there for.
	sendOnce = 0
)

var (
	errInTransaction = errors.New("publish to broker: refused inside a transaction")
	errClosed        = errors.New("the broker is closed")
	errAway          = errors.New("the broker is away")
	errEnded         = errors.New("the connection has ended")
)

// eventType is what a type may look like, so that its words are words of the subject.
var eventType = regexp.MustCompile(`^[a-z0-9_-]+(\.[a-z0-9_-]+)*$`)

// Observation is one Publish, for metrics.
type Observation struct {
	// Messages is how many there were, Stored how many the stream took, and Duplicates how many it had.
	Messages, Stored, Duplicates int
	Elapsed                      time.Duration
	Err                          error
}

// Failed is how many messages were not acknowledged. Some of them may be in the stream.
func (o Observation) Failed() int { return o.Messages - o.Stored - o.Duplicates }

// Publish returns nil when the stream has every message: it took them now, or had them. They are given in the
// order of the log, at most outbox.LogPageMax. After an error some may be in the stream; to give all of them
// again does no harm.
//
// A call needs a round trip for each message of the aggregate that has most.
func (b *Broker) Publish(ctx context.Context, messages []cloudevent.Message) error {
	if b.config.InTx(ctx) {
		return errInTransaction
	}
	if len(messages) == 0 {
		return nil
	}
	waves, err := split(messages)
	if err != nil {
		return fmt.Errorf("publish to broker: %w", err)
	}
	began := b.config.Now()
	o := Observation{Messages: len(messages)}
	if err := b.send(ctx, waves, &o); err != nil {
		o.Err = fmt.Errorf("publish to broker: %w", err)
	}
	o.Elapsed = b.config.Now().Sub(began)
	b.health.judge(o.Err)
	b.config.Observer(o)
	return o.Err
}

// split puts the n-th message of each aggregate into the n-th wave.
func split(messages []cloudevent.Message) ([][]*nats.Msg, error) {
	if len(messages) > messagesMax {
		return nil, fmt.Errorf("%d messages are more than %d", len(messages), messagesMax)
	}
	type aggregate struct{ tenant, id uuid.UUID }
	type progress struct {
		wave int
		seq  int32
	}
	var waves [][]*nats.Msg
	reached := map[aggregate]progress{}
	for _, m := range messages {
		if m.ID == "" || !eventType.MatchString(m.Type) {
			return nil, fmt.Errorf("message %q of type %q has no subject", m.ID, m.Type)
		}
		key := aggregate{m.TenantID, m.AggregateID}
		at, seen := reached[key]
		if seen && m.Seq <= at.seq {
			return nil, fmt.Errorf("message %s comes after seq %d", m.ID, at.seq)
		}
		if at.wave == len(waves) {
			waves = append(waves, nil)
		}
		waves[at.wave] = append(waves[at.wave], toMsg(m))
		reached[key] = progress{at.wave + 1, m.Seq}
	}
	return waves, nil
}

func toMsg(m cloudevent.Message) *nats.Msg {
	msg := &nats.Msg{
		Subject: subjectPrefix + "." + m.TenantID.String() + "." + m.Type,
		Header: nats.Header{
			jetstream.MsgIDHeader: {m.ID},
			"Content-Type":        {cloudevent.ContentType},
		},
		Data: m.Body,
	}
	if m.Trace != "" {
		msg.Header.Set(tracing.Header, m.Trace)
	}
	return msg
}

func (b *Broker) send(ctx context.Context, waves [][]*nats.Msg, o *Observation) error {
	l, err := b.current(ctx)
	if err != nil {
		return err
	}
	if !l.nc.IsConnected() {
		return errAway
	}
	if err := l.ensure(ctx, b.config); err != nil {
		return err
	}
	for _, wave := range waves {
		if err := l.send(ctx, b.config.Stream, wave, o); err != nil {
			return err
		}
	}
	return nil
}

// send sends a wave and waits for what became of each message that it sent. The first failure is the error,
// and after it no more are sent.
func (l *link) send(ctx context.Context, stream string, wave []*nats.Msg, o *Observation) error {
	var failure error
	waiting := make(chan jetstream.PubAckFuture, inFlightMax)
	await := func() {
		if err := l.await(ctx, stream, <-waiting, o); failure == nil {
			failure = err
		}
	}
	for _, m := range wave {
		if len(waiting) == inFlightMax {
			await()
		}
		if failure == nil {
			failure = ctx.Err()
		}
		if failure != nil {
			break
		}
		future, err := l.js.PublishMsgAsync(m, jetstream.WithRetryAttempts(sendOnce))
		if err != nil {
			failure = fmt.Errorf("send %s: %w", m.Header.Get(jetstream.MsgIDHeader), err)
			break
		}
		waiting <- future
	}
	for len(waiting) > 0 {
		await()
	}
	return failure
}

// await waits for one acknowledgment and counts it.
func (l *link) await(
	ctx context.Context, stream string, future jetstream.PubAckFuture, o *Observation,
) error {
	var err error
	select {
	case ack := <-future.Ok():
		if ack.Stream == stream {
			if ack.Duplicate {
				o.Duplicates++
			} else {
				o.Stored++
			}
			return nil
		}
		err = &unfitError{ack.Stream, "has taken it"}
	case err = <-future.Err():
	case <-ctx.Done():
		err = ctx.Err()
	case <-l.ended:
		err = errEnded
	}
	l.stream.forget() // the stream may be gone, or another one
	return fmt.Errorf("await acknowledgment of %s: %w", future.Msg().Header.Get(jetstream.MsgIDHeader), err)
}
