package app

import (
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/cloudevent"
	"example.com/holdfast/internal/config"
	"example.com/holdfast/internal/outbound"
	"example.com/holdfast/internal/webhook"
)

// newWebhooks makes the service of webhook endpoints.
func newWebhooks(cfg config.Config, env Env, pool *pgxpool.Pool) *webhook.Service {
	var types []string
	for _, t := range cloudevent.Types() {
		if t.Name != cloudevent.PingType { // nobody has to want a ping
			types = append(types, t.Name)
		}
	}
	return webhook.NewService(pool, webhook.Options{
		Key: cfg.WebhookMasterKey(), Development: cfg.WebhookDevelopment, KnownTypes: types, Now: env.Now,
	})
}

// newDeliverer makes what sends to webhook endpoints, or nil where there is no key to sign with.
func newDeliverer(
	cfg config.Config, env Env, encoder *cloudevent.Encoder, d *departures,
) *webhook.Deliverer {
	key := cfg.WebhookMasterKey()
	if len(key) == 0 {
		return nil
	}
	m := env.Metrics
	return &webhook.Deliverer{
		Pool: d.pool, Bell: d.bell, Log: env.Log, Now: env.Now, Random: rand.Float64, Holder: env.Instance,
		Key: key, Development: cfg.WebhookDevelopment, Encode: encoder.Encode,
		EncodePing: encoder.EncodePing,
		Observer: webhook.Observer{
			Attempted: func(kind, outcome string, _ time.Duration) { m.WebhookAttempt(kind, outcome) },
			Delivered: m.WebhookDelivered, Died: m.WebhookDied, Disabled: m.WebhookDisabled,
			Called: func(o outbound.Observation) {
				m.Call(o.Dependency, o.Operation, string(o.Kind), o.Elapsed)
			},
		},
	}
}
