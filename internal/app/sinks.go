package app

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"example.com/holdfast/internal/broker"
	"example.com/holdfast/internal/cloudevent"
	"example.com/holdfast/internal/condition"
	"example.com/holdfast/internal/config"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/tracing"
	"example.com/holdfast/internal/transfer"
)

// brokerSink is the name under which the broker's place in the log is kept, and that of its metrics.
const brokerSink = "broker"

// newEncoder writes events of transfers and orders as the messages that leave.
func newEncoder(cfg config.Config, transfers *transfer.Service, orders *order.Service) *cloudevent.Encoder {
	return &cloudevent.Encoder{Base: cfg.PublicURL, Describe: map[string]cloudevent.Describer{
		"transfer": transfers.Facts, "order": orders.Facts,
	}}
}

// publisher sends the log to the broker. It connects when there is something to send: a broker that refuses
// us keeps no worker from starting.
type publisher struct {
	cfg     config.Config
	env     Env
	encoder *cloudevent.Encoder

	mu      sync.Mutex
	broker  *broker.Broker
	refused time.Time // since when there is no connection to be had, or zero
}

// newBrokerSink makes the sink of the broker, or nil if the settings name none.
func newBrokerSink(
	cfg config.Config, env Env, encoder *cloudevent.Encoder, d *departures,
) (*outbox.Sink, *publisher) {
	if cfg.NATSURL == "" {
		return nil, nil
	}
	p := &publisher{cfg: cfg, env: env, encoder: encoder}
	env.board.add(p.conditions)
	return &outbox.Sink{
		Name: brokerSink, Holder: env.Instance, Publish: p.publish, Pool: d.pool, Bell: d.bell,
		Log: env.Log, Random: rand.Float64,
		Published: func(events int, err error) { env.Metrics.SinkRound(brokerSink, events, err == nil) },
	}, p
}

func (p *publisher) publish(ctx context.Context, events []outbox.Logged) error {
	var traces []string
	for _, e := range events {
		if e.Trace != "" {
			traces = append(traces, e.Trace)
		}
	}
	ctx, span := tracing.Share(ctx, tracing.Producer, "publish events", traces)
	err := p.send(ctx, events)
	span.End(err)
	return err
}

func (p *publisher) send(ctx context.Context, events []outbox.Logged) error {
	b, err := p.connected(ctx)
	if err != nil {
		return err
	}
	messages, err := p.encoder.Encode(ctx, events)
	if err != nil {
		return err
	}
	return b.Publish(ctx, messages)
}

func (p *publisher) connected(ctx context.Context) (*broker.Broker, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broker != nil {
		return p.broker, nil
	}
	b, err := broker.Connect(ctx, broker.Config{
		URL: p.cfg.NATSURL, Stream: p.cfg.NATSStream, CredsFile: p.cfg.NATSCreds,
		Name: "holdfast " + p.env.Instance, InTx: pgtx.InTx, Now: p.env.Now, Log: p.env.Log,
	})
	switch {
	case err == nil:
		p.broker, p.refused = b, time.Time{}
	case p.refused.IsZero():
		p.refused = p.env.Now()
	}
	return b, err
}

// conditions says what is wrong with the broker. A process that does not hold the sink knows nothing wrong.
func (p *publisher) conditions() []condition.Active {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.broker != nil:
		return p.broker.Conditions()
	case !p.refused.IsZero():
		return []condition.Active{{
			Condition: condition.BrokerAway, Subject: brokerSubject, Since: p.refused,
		}}
	}
	return nil
}

// brokerSubject is what conditions of the broker hold for, as it names itself.
const brokerSubject = "nats"

// close ends the connection, if there is one.
func (p *publisher) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broker != nil {
		p.broker.Close()
	}
}
