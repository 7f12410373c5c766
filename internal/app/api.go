package app

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/config"
	"example.com/holdfast/internal/httpapi"
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
	draining  atomic.Bool
	public    *listener
	admin     *listener
}

// NewAPI wires an API with a public and an admin listener. Further checks are added to its own for
// /readyz.
func NewAPI(ctx context.Context, cfg config.Config, env Env, further ...httpapi.Check) (*API, error) {
	a := &API{}
	var errs [2]error
	a.domain, errs[0] = OpenAPIPool(ctx, cfg)
	a.ops, errs[1] = opsPool(ctx, cfg)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	a.transfers = transfer.NewService(transfer.Config{
		Pool: a.domain, Metrics: env.Metrics, Log: env.Log, Subscriptions: Subscriptions(),
		Instance: env.Instance, Now: env.Now,
	})
	a.orders = order.NewService(order.Config{
		Pool: a.domain, Metrics: env.Metrics, Log: env.Log, Instance: env.Instance, Now: env.Now,
	})
	a.admission = newAdmission(a.ops, cfg.QueueAgeMax, a.transfers.Lane, env)
	parts := httpapi.Config{
		Keys: tenancy.NewService(a.domain, env.Now), Transfers: a.transfers,
		Accounts: ledger.NewService(a.domain), Orders: a.orders, Inventory: inventory.NewService(a.domain),
		Admit: a.admission.admit, Checks: append(a.checks(), further...), InFlightMax: cfg.InFlightMax,
		RatePerSecond: cfg.TenantRate, KeyReusedStatus: cfg.MismatchStatus, PayoutCallbackSecret: cfg.PayoutCallbackSecret,
		Metrics: env.Metrics, Now: env.Now, Log: env.Log,
	}
	a.public = newListener("public API", cfg.Addr, httpapi.New(parts), env)
	parts.Keys = tenancy.NewService(a.ops, env.Now)
	a.admin = newListener("admin API", cfg.AdminAddr, withMetrics(httpapi.NewAdmin(parts), env), env)
	return a, nil
}

func (a *API) checks() []httpapi.Check {
	return []httpapi.Check{
		{Name: "serving", Run: func(context.Context) error { return serving(&a.draining) }},
		{Name: "database", Run: a.ops.Ping},
	}
}

var errDraining = errors.New("this instance is draining")

func serving(draining *atomic.Bool) error {
	if draining.Load() {
		return errDraining
	}
	return nil
}

// Start begins to commit, then to listen.
func (a *API) Start(ctx context.Context) error {
	a.transfers.Start(ctx)
	a.orders.Start(ctx)
	a.admission.start(ctx)
	if err := a.admin.start(ctx); err != nil {
		return err
	}
	return a.public.start(ctx)
}

// Stop says that it is not ready, answers what it has taken within the context, and leaves.
func (a *API) Stop(ctx context.Context) error {
	a.draining.Store(true)
	err := a.public.stop(ctx)
	a.admission.stop()
	a.orders.Stop()
	a.transfers.Stop()
	err = errors.Join(err, a.admin.stop(ctx))
	a.domain.Close()
	a.ops.Close()
	return err
}

// Addr is where the public API listens; AdminAddr where the admin listener does.
func (a *API) Addr() string { return a.public.addr }

// AdminAddr is where the admin listener listens.
func (a *API) AdminAddr() string { return a.admin.addr }
