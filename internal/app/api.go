package app

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/config"
	"example.com/holdfast/internal/httpapi"
	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/inventory"
	"example.com/holdfast/internal/ledger"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/tenancy"
	"example.com/holdfast/internal/transfer"
)

// API is the process that accepts and reads. It works between Start and Stop.
type API struct {
	domain    *pgxpool.Pool
	ops       *pgxpool.Pool
	transfers *transfer.Service
	orders    *order.Service
	admission *admission
	finder    *idempotency.Finder
	sampler   *sampler
	feed      *feed
	draining  atomic.Bool
	endWaits  context.CancelFunc
	public    *listener
	admin     *listener
}

// NewAPI wires an API with a public and an admin listener. Further checks are added to its own for
// /readyz.
func NewAPI(ctx context.Context, cfg config.Config, env Env, further ...httpapi.Check) (*API, error) {
	a := &API{}
	var errs [3]error
	a.domain, errs[0] = OpenAPIPool(ctx, cfg)
	a.ops, errs[1] = opsPool(ctx, cfg)
	a.feed, errs[2] = newFeed(ctx, cfg, env)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	a.transfers = transfer.NewService(transfer.Config{
		Pool: a.domain, Metrics: env.Metrics, Log: env.Log, Subscriptions: Subscriptions(),
		Instance: env.Instance, AcceptWaitMax: cfg.AcceptWaitMax, Now: env.Now,
	})
	a.orders = order.NewService(order.Config{
		Pool: a.domain, Metrics: env.Metrics, Log: env.Log, Instance: env.Instance,
		AcceptWaitMax: cfg.AcceptWaitMax, Now: env.Now,
	})
	ending, endWaits := context.WithCancel(context.WithoutCancel(ctx))
	a.endWaits = endWaits
	a.admission = newAdmission(a.ops, cfg.QueueAgeMax, laneOf{a.transfers.Lane, a.orders.Lane}, env)
	a.finder = idempotency.NewFinder(a.domain, env.Now)
	operators := operationsOf(a.ops, a.transfers, a.orders, env.doors)
	a.sampler = newSampler(a.ops, env)
	a.sampler.then = newWatchman(env, operators.lastGivenUp).judge
	a.sampler.governor = newGovernor(a.ops, env, a.sampler, a.feed.bell)
	env.tally.add(a.domain)
	parts := httpapi.Config{
		Keys: tenancy.NewService(a.domain, env.Now), Accounts: ledger.NewService(a.domain),
		Transfers: waitingTransfers{a.transfers, untilEnd(ending, a.transfers.Wait, a.transfers.Get)},
		Orders:    waitingOrders{a.orders, untilEnd(ending, a.orders.Wait, a.orders.Get)},
		Inventory: inventory.NewService(a.domain),
		Admit:     a.admission.admit, Known: a.finder.Known, Mode: env.mode.Check,
		Checks: append(a.checks(), further...), InFlightMax: cfg.InFlightMax,
		RatePerSecond: cfg.TenantRate, KeyReusedStatus: cfg.MismatchStatus,
		PayoutCallbackSecret: cfg.PayoutCallbackSecret, Dependencies: operators, Backlog: operators,
		Modes: NewModes(a.ops, env.mode.Policy()),
		Feed:  a.feed, Encode: newEncoder(cfg, a.transfers, a.orders).Encode, Ending: ending.Done(),
		Webhooks: newWebhooks(cfg, env, a.domain), Self: selfOf(env),
		Metrics: countedRequests{env.Metrics, env.tally}, Now: env.Now, Log: env.Log,
	}
	a.public = newListener("public API", cfg.Addr, httpapi.New(parts), env)
	parts.Keys, parts.Mode = tenancy.NewService(a.ops, env.Now), nil
	a.admin = newListener("admin API", cfg.AdminAddr, withMetrics(httpapi.NewAdmin(parts), env), env)
	return a, nil
}

func (a *API) checks() []httpapi.Check {
	return []httpapi.Check{
		{Name: "serving", Run: func(context.Context) error { return serving(&a.draining) }},
		{Name: "database", Run: a.ops.Ping},
	}
}

// waitingTransfers are transfers for which a client waits no longer than this process serves.
type waitingTransfers struct {
	*transfer.Service

	wait func(context.Context, transfer.Ref, time.Duration) (transfer.Transfer, error)
}

// Wait waits for the end of a transfer.
func (w waitingTransfers) Wait(
	ctx context.Context, ref transfer.Ref, most time.Duration,
) (transfer.Transfer, error) {
	return w.wait(ctx, ref, most)
}

// waitingOrders are orders for which a client waits no longer than this process serves.
type waitingOrders struct {
	*order.Service

	wait func(context.Context, order.Ref, time.Duration) (order.Order, error)
}

// Wait waits for the end of an order.
func (w waitingOrders) Wait(ctx context.Context, ref order.Ref, most time.Duration) (order.Order, error) {
	return w.wait(ctx, ref, most)
}

var errDraining = errors.New("draining")

func serving(draining *atomic.Bool) error {
	if draining.Load() {
		return errDraining
	}
	return nil
}

// Start begins to commit, then to listen. What cannot start is stopped.
func (a *API) Start(ctx context.Context) error {
	a.transfers.Start(ctx)
	a.orders.Start(ctx)
	a.finder.Start(ctx)
	a.admission.start(ctx)
	a.feed.start(ctx)
	a.sampler.start(ctx)
	err := a.admin.start(ctx)
	if err == nil {
		err = a.public.start(ctx)
	}
	if err != nil {
		return errors.Join(err, a.Stop(ctx))
	}
	return nil
}

// Drain says that it is not ready, and serves on.
func (a *API) Drain() { a.draining.Store(true) }

// Stop says that it is not ready, answers what it has taken within the context, and leaves. The admin
// listener tells of it until the end.
func (a *API) Stop(ctx context.Context) error {
	a.Drain()
	a.endWaits()
	serving, cancel := beforeCut(ctx)
	defer cancel()
	err := a.public.stop(serving)
	a.admission.stop()
	a.finder.Stop()
	a.feed.stop()
	a.orders.Stop()
	a.transfers.Stop()
	err = errors.Join(err, a.admin.stop(ctx))
	a.sampler.stop(ctx)
	a.domain.Close()
	a.ops.Close()
	return err
}

// Addr is where the public API listens; AdminAddr where the admin listener does.
func (a *API) Addr() string { return a.public.addr }

// AdminAddr is where the admin listener listens.
func (a *API) AdminAddr() string { return a.admin.addr }
