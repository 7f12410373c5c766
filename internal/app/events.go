package app

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/cloudevent"
	"example.com/holdfast/internal/config"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/telemetry"
	"example.com/holdfast/internal/webhook"
)

const (
	// lagEvery is how often it is looked how far events are behind, and lagMax bounds a look.
	lagEvery = time.Second
	lagMax   = 2 * time.Second
	// lagStale is how old the last look may get before its age is added to what it saw: what cannot be seen
	// must not look drained.
	lagStale = 3 * lagEvery
)

// departures are the ways of events out of a worker: the relay into the log, and the sinks that read it.
type departures struct {
	env   Env
	pool  *pgxpool.Pool
	bells *pgxpool.Pool
	relay *outbox.Relay
	bell  *outbox.Bell
	lag   atomic.Pointer[seenLag]
	// sink is that of the broker, and publisher its way there; nil without one.
	sink      *outbox.Sink
	publisher *publisher
	// webhooks sends to tenants' endpoints; nil without a key.
	webhooks *webhook.Deliverer

	cancel context.CancelFunc
	group  sync.WaitGroup
}

// seenLag is how far events were behind when it was looked at.
type seenLag struct {
	outbox.Lag

	webhooks webhook.Stats
	at       time.Time
}

func newDepartures(
	ctx context.Context, cfg config.Config, env Env, encoder *cloudevent.Encoder,
) (*departures, error) {
	d := &departures{env: env}
	var errs [2]error
	d.pool, errs[0] = eventsPool(ctx, cfg)
	d.bells, errs[1] = bellPool(ctx, cfg)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	d.relay = &outbox.Relay{Pool: d.pool, Log: env.Log}
	d.bell = &outbox.Bell{Pool: d.bells, Log: env.Log}
	d.lag.Store(&seenLag{at: env.Now()})
	d.sink, d.publisher = newBrokerSink(cfg, env, encoder, d)
	d.webhooks = newDeliverer(cfg, env, encoder, d)
	env.Metrics.WatchOutbox(d.behind)
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
	ctx, d.cancel = context.WithCancel(context.WithoutCancel(ctx))
	d.group.Go(func() { d.look(ctx) })
	return nil
}

func (d *departures) stop() {
	d.cancel()
	d.group.Wait()
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

// look sees how far events are behind, again and again.
func (d *departures) look(ctx context.Context) {
	tick := time.NewTicker(lagEvery)
	defer tick.Stop()
	for {
		once, cancel := context.WithTimeout(ctx, lagMax)
		lag, err := outbox.ReadLag(once, d.pool, consumers()...)
		stats, statsErr := webhook.ReadStats(once, d.pool)
		cancel()
		if err = errors.Join(err, statsErr); err == nil {
			d.lag.Store(&seenLag{lag, stats, d.env.Now()})
		} else if ctx.Err() == nil {
			d.env.Log.WarnContext(ctx, "lag of events not seen", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// consumers names the parts of this program that wait for events.
func consumers() []string {
	var names []string
	for _, s := range Subscriptions() {
		names = append(names, s.Consumer)
	}
	return names
}

// behind is the last look as metrics show it.
func (d *departures) behind() telemetry.Outbox {
	seen := d.lag.Load()
	blind := d.env.Now().Sub(seen.at)
	if blind < lagStale {
		blind = 0
	}
	out := telemetry.Outbox{
		Age: (seen.Outbox + blind).Seconds(), Sinks: map[string]float64{},
		Consumers: map[string]float64{}, Mismatch: map[[2]string]int{},
		Webhooks: map[string]int{
			"failing": seen.webhooks.Failing, "disabled": seen.webhooks.Disabled,
		},
		WebhooksDead: seen.webhooks.Dead,
	}
	for _, s := range seen.Sinks {
		out.Sinks[s.Name] = (s.Age + blind).Seconds()
	}
	for _, c := range seen.Consumers {
		out.Consumers[c.Name] = (c.Age + blind).Seconds()
	}
	for _, u := range seen.Unhandled {
		out.Mismatch[[2]string{u.Consumer, u.Type}] = u.Events
	}
	return out
}
