package app

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/cloudevent"
	"example.com/holdfast/internal/config"
	"example.com/holdfast/internal/mode"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/webhook"
)

// departures are the ways of events out of a worker: the relay into the log, and the sinks that read it.
type departures struct {
	pool  *pgxpool.Pool
	bells *pgxpool.Pool
	relay *outbox.Relay
	bell  *outbox.Bell
	// sink is that of the broker, and publisher its way there; nil without one.
	sink      *outbox.Sink
	publisher *publisher
	// webhooks sends to tenants' endpoints; nil without a key.
	webhooks *webhook.Deliverer
}

func newDepartures(
	ctx context.Context, cfg config.Config, env Env, encoder *cloudevent.Encoder,
) (*departures, error) {
	d := &departures{}
	var errs [2]error
	d.pool, errs[0] = eventsPool(ctx, cfg)
	d.bells, errs[1] = bellPool(ctx, cfg)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	d.relay = &outbox.Relay{Pool: d.pool, Log: env.Log}
	d.bell = &outbox.Bell{Pool: d.bells, Log: env.Log, Further: []string{mode.Channel}}
	d.sink, d.publisher = newBrokerSink(cfg, env, encoder, d)
	d.webhooks = newDeliverer(cfg, env, encoder, d)
	return d, nil
}

func (d *departures) start(ctx context.Context) error {
	d.bell.Start(ctx)
	if d.webhooks != nil {
		if err := d.webhooks.Start(ctx); err != nil {
			return err
		}
	}
	d.relay.Start(ctx)
	if d.sink != nil {
		d.sink.Start(ctx)
	}
	return nil
}

func (d *departures) stop() {
	if d.webhooks != nil {
		d.webhooks.Stop()
	}
	if d.sink != nil {
		d.sink.Stop()
		d.publisher.close()
	}
	d.relay.Stop()
	d.bell.Stop()
	d.bells.Close()
	d.pool.Close()
}
