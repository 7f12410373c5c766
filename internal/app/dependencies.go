package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/breaker"
	"example.com/holdfast/internal/config"
	"example.com/holdfast/internal/jobqueue"
	"example.com/holdfast/internal/outbound"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/slots"
	"example.com/holdfast/internal/telemetry"
)

// The dependencies, as the limits in the database, metrics and errors name them. Each has the name of the
// queue whose jobs call it.
const (
	riskAPI         = jobqueue.QueueRisk
	payoutRail      = jobqueue.QueuePayout
	notificationAPI = jobqueue.QueueNotification
)

// inHandPerPlace is how many jobs of a dependency's queue a worker has in hand for each place of the limit:
// those that call, and as many that wait a moment for a place, so that none is empty.
const inHandPerPlace = 2

// Transports replace the network, for simulations in the process; nil is the network.
type Transports struct {
	Risk, Payout, Notify http.RoundTripper
}

// dependency is the way to one dependency: a door, and the places that are lent to it.
type dependency struct {
	*outbound.Client

	lease    *slots.Lease
	settings config.Dependency
}

// dependencies are the three of them.
type dependencies struct {
	risk, payout, notify dependency
}

func newDependencies(cfg config.Config, env Env, via Transports, pool *pgxpool.Pool) (dependencies, error) {
	var d dependencies
	var errs [3]error
	d.risk, errs[0] = newDependency(riskAPI, cfg.Risk, env, via.Risk, pool)
	d.payout, errs[1] = newDependency(payoutRail, cfg.Payout, env, via.Payout, pool)
	d.notify, errs[2] = newDependency(notificationAPI, cfg.Notify, env, via.Notify, pool)
	return d, errors.Join(errs[:]...)
}

// newDependency makes a door that lets nobody out until it has been lent places.
func newDependency(
	name string, settings config.Dependency, env Env, via http.RoundTripper, pool *pgxpool.Pool,
) (dependency, error) {
	door, err := outbound.New(outbound.Config{
		Name: name, BaseURL: settings.URL, Limit: settings.Limit, WaitMax: settings.WaitMax,
		Timeout: settings.Timeout, Transport: via, InTx: pgtx.InTx, Now: env.Now,
		Observer: func(o outbound.Observation) {
			env.Metrics.Call(o.Dependency, o.Operation, string(o.Kind), o.Elapsed)
			if o.Attempted {
				env.Metrics.Attempt(o.Dependency, o.Repeat)
				env.tally.attempt(o.Repeat)
			} else {
				env.Metrics.Refusal(o.Dependency, string(o.Kind))
			}
		},
	})
	if err != nil {
		return dependency{}, err
	}
	watch(env, door)
	places := door.Bulkhead()
	places.SetLimit(0, time.Time{})
	return dependency{Client: door, settings: settings, lease: &slots.Lease{
		Dependency: name, Holder: env.Instance, Default: settings.Limit, CallTimeout: settings.Timeout,
		Pool: pool, Log: env.Log, Now: env.Now,
		InUse: func() int { return places.Stats().InFlight }, Apply: places.SetLimit,
	}}, nil
}

// watch shows operators how a door is doing whenever they look, and the metrics whenever they are gathered.
func watch(env Env, door *outbound.Client) {
	env.doors.add(door.Health)
	env.Metrics.WatchDependency(func() telemetry.Dependency {
		h := door.Health()
		return telemetry.Dependency{
			Name: h.Dependency, InFlight: h.InFlight, Waiting: h.Waiting, Limit: h.Limit, Cap: h.Cap,
			BreakerOpen: h.Breaker != breaker.Closed, Saturated: !h.SaturatedSince.IsZero(),
		}
	})
	env.board.add(door.Conditions)
}

func (d *dependencies) all() []dependency { return []dependency{d.risk, d.payout, d.notify} }

// start takes places at every dependency. What was taken before one that fails is given back.
func (d *dependencies) start(ctx context.Context) error {
	for i, dep := range d.all() {
		if err := dep.lease.Start(ctx); err != nil {
			for _, started := range d.all()[:i] {
				err = errors.Join(err, started.lease.Stop(context.WithoutCancel(ctx)))
			}
			return fmt.Errorf("take places: %w", err)
		}
	}
	return nil
}

// stop gives the places back and closes connections.
func (d *dependencies) stop(ctx context.Context) error {
	var errs []error
	for _, dep := range d.all() {
		errs = append(errs, dep.lease.Stop(context.WithoutCancel(ctx)))
		dep.CloseIdle()
	}
	return errors.Join(errs...)
}

// inHand is how many jobs of each queue a worker has in hand.
func (d *dependencies) inHand(dbLimit int) map[string]int {
	return map[string]int{
		riskAPI:          inHandPerPlace * d.risk.settings.Limit,
		payoutRail:       inHandPerPlace * d.payout.settings.Limit,
		notificationAPI:  inHandPerPlace * d.notify.settings.Limit,
		jobqueue.QueueDB: dbLimit,
	}
}
