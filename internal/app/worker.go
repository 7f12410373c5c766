package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"example.com/holdfast/internal/config"
	"example.com/holdfast/internal/httpapi"
	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/jobqueue"
	"example.com/holdfast/internal/mode"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/outbound/notify"
	"example.com/holdfast/internal/outbound/payout"
	"example.com/holdfast/internal/outbound/risk"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/telemetry"
	"example.com/holdfast/internal/tenancy"
	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/internal/webhook"
)

// The periodic work of a worker.
const (
	sweepEvery   = time.Second
	cleanupEvery = time.Minute
	roundMax     = 10 * time.Second
)

// Worker is the process that takes transfers and orders through their steps. It works between Start and Stop.
type Worker struct {
	cfg       config.Config
	env       Env
	metrics   *telemetry.Metrics
	domain    *pgxpool.Pool
	river     *pgxpool.Pool
	ops       *pgxpool.Pool
	transfers *transfer.Service
	orders    *order.Service
	instance  *jobqueue.Instance
	out       dependencies
	events    *departures
	operators *Operations
	sampler   *sampler
	pace      *pace
	client    *river.Client[pgx.Tx]
	admin     *listener
	draining  atomic.Bool
	cancel    context.CancelFunc
	rounds    sync.WaitGroup
}

// NewWorker wires a worker.
func NewWorker(ctx context.Context, cfg config.Config, env Env, via Transports) (*Worker, error) {
	w := &Worker{cfg: cfg, env: env, metrics: env.Metrics}
	var errs [3]error
	w.domain, errs[0] = workerPool(ctx, cfg)
	w.river, errs[1] = riverPool(ctx, cfg)
	w.ops, errs[2] = opsPool(ctx, cfg)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	var err error
	if w.out, err = newDependencies(cfg, env, via, w.ops); err != nil {
		return nil, err
	}
	w.transfers = transfer.NewService(transfer.Config{
		Pool: w.domain, Risk: risk.New(w.out.risk.Client), Rail: payout.New(w.out.payout.Client),
		Notify: notify.New(w.out.notify.Client), Metrics: env.Metrics, Log: env.Log,
		Subscriptions: Subscriptions(), Instance: env.Instance, Now: env.Now,
	})
	w.orders = order.NewService(order.Config{
		Pool: w.domain, Payments: NewPayments(w.transfers), Metrics: env.Metrics, Log: env.Log,
		Instance: env.Instance, Now: env.Now,
	})
	w.events, err = newDepartures(ctx, cfg, env, newEncoder(cfg, w.transfers, w.orders))
	if err != nil {
		return nil, err
	}
	w.operators = operationsOf(w.ops, w.transfers, w.orders, w.env.doors)
	w.sampler = newSampler(w.ops, env)
	w.sampler.then = newWatchman(env, w.operators.lastGivenUp).judge
	w.sampler.governor = newGovernor(w.ops, env, w.sampler, w.events.bell)
	env.tally.add(w.domain)
	w.events.deferrable(env)
	workers := river.NewWorkers()
	w.transfers.AddWorkers(workers)
	w.orders.AddWorkers(workers)
	hand := jobqueue.NewHand(env.Now)
	w.instance = &jobqueue.Instance{
		ID: env.Instance, Host: env.Host, Version: env.Version, Pool: w.ops, Log: env.Log,
		Reaped: env.Metrics.Reaped, Silent: w.release, Hand: hand,
	}
	w.client, err = jobqueue.NewClient(jobqueue.Config{
		Pool: w.river, ID: env.Instance, InHand: w.out.inHand(cfg.DBLimit), Workers: workers, Log: env.Log,
		Now: env.Now, Hand: hand,
	})
	if err != nil {
		return nil, err
	}
	inHand := w.out.inHand(cfg.DBLimit)[jobqueue.QueueNotification]
	w.pace = &pace{
		env: env, tap: jobqueue.NewTap(w.client, jobqueue.QueueNotification, inHand),
		places: w.out.notify.Bulkhead(),
	}
	return w, nil
}

// Checks are what has to work before the worker counts as ready.
func (w *Worker) Checks() []httpapi.Check {
	return []httpapi.Check{
		{Name: "working", Run: func(context.Context) error { return serving(&w.draining) }},
		{Name: "worker_database", Run: w.ops.Ping},
	}
}

// ListenAdmin gives a worker that is a process of its own a listener for health, metrics and the admin
// API.
func (w *Worker) ListenAdmin() {
	handler := httpapi.NewAdmin(httpapi.Config{
		Keys: tenancy.NewService(w.ops, w.env.Now), Transfers: w.transfers, Checks: w.Checks(),
		Dependencies: w.operators, Backlog: w.operators,
		Modes: NewModes(w.ops, w.env.mode.Policy()), Self: selfOf(w.env),
		Webhooks: newWebhooks(w.cfg, w.env, w.ops),
		Metrics:  countedRequests{w.env.Metrics, w.env.tally}, Now: w.env.Now, Log: w.env.Log,
	})
	w.admin = newListener("worker's admin listener", w.cfg.AdminAddr, withMetrics(handler, w.env), w.env)
}

// AdminAddr is where the listener of ListenAdmin listens.
func (w *Worker) AdminAddr() string { return w.admin.addr }

// Start beats first, so that a claimed job always has a living owner, takes places at the dependencies,
// and then fetches.
func (w *Worker) Start(ctx context.Context) error {
	if err := w.instance.Start(ctx); err != nil {
		return err
	}
	if err := w.out.start(ctx); err != nil {
		return err
	}
	w.transfers.Start(ctx)
	w.orders.Start(ctx)
	if err := w.events.start(ctx); err != nil {
		return err
	}
	w.sampler.start(ctx)
	if err := w.pace.keep(ctx); err != nil {
		return err
	}
	if err := w.client.Start(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("start job client: %w", err)
	}
	rounds, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w.cancel = cancel
	w.rounds.Go(func() { w.every(rounds, "sweep", sweepEvery, w.sweep) })
	w.rounds.Go(func() { w.every(rounds, "clean up", cleanupEvery, w.cleanUp) })
	w.rounds.Go(func() { w.every(rounds, "pace", paceEvery, w.pace.keep) })
	if w.admin != nil {
		return w.admin.start(ctx)
	}
	return nil
}

// Drain says that it is not ready, and works on.
func (w *Worker) Drain() { w.draining.Store(true) }

// Stop fetches nothing more, finishes what is in hand within the context or gives it back, and leaves the
// list of the living, so that what it could not even give back is taken over at once. The admin listener
// tells of it until the end.
func (w *Worker) Stop(ctx context.Context) error {
	w.Drain()
	w.cancel()
	w.rounds.Wait()
	err := errors.Join(w.finish(ctx), w.out.stop(ctx), w.instance.Stop(context.WithoutCancel(ctx)))
	w.orders.Stop()
	w.transfers.Stop()
	w.events.stop()
	if w.admin != nil {
		err = errors.Join(err, w.admin.stop(ctx))
	}
	w.sampler.stop(ctx)
	w.domain.Close()
	w.river.Close()
	w.ops.Close()
	if err != nil {
		return fmt.Errorf("stop worker: %w", err)
	}
	return nil
}

// finish lets what is in hand end. What does not end in time is cut off, and given back by its job.
func (w *Worker) finish(ctx context.Context) error {
	soft, cancel := beforeCut(ctx)
	defer cancel()
	if err := w.client.Stop(soft); err == nil {
		return nil
	}
	w.env.Log.WarnContext(ctx, "work in hand is cut off and given back")
	return w.client.StopAndCancel(ctx)
}

func (w *Worker) every(
	ctx context.Context, what string, pause time.Duration, do func(context.Context) error,
) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		round, cancel := context.WithTimeout(ctx, roundMax)
		if err := do(round); err != nil && ctx.Err() == nil {
			w.env.Log.WarnContext(ctx, "round failed", slog.String("what", what), slog.Any("error", err))
		}
		cancel()
	}
}

// release takes what dead workers hold of events on their way out.
func (w *Worker) release(ctx context.Context, dead []string) error {
	return errors.Join(outbox.ReleaseSinks(ctx, w.ops, dead), webhook.Release(ctx, w.ops, dead))
}

func (w *Worker) sweep(ctx context.Context) error {
	transfers, err := w.transfers.Sweep(ctx)
	orders, orderErr := w.orders.Sweep(ctx)
	if transfers+orders > 0 {
		w.env.Log.WarnContext(ctx, "woke forgotten work", slog.Int("transfers", transfers),
			slog.Int("orders", orders))
	}
	return errors.Join(err, orderErr)
}

func (w *Worker) cleanUp(ctx context.Context) error {
	err := pgtx.Run(ctx, w.ops, "delete expired keys", func(ctx context.Context, tx pgx.Tx) error {
		_, err := idempotency.DeleteExpired(ctx, tx)
		return err
	})
	_, forgetErr := outbox.Forget(ctx, w.ops)
	_, webhookErr := webhook.CleanUp(ctx, w.ops)
	return errors.Join(err, forgetErr, webhookErr, mode.CleanUp(ctx, w.ops), w.transfers.CleanUp(ctx))
}
