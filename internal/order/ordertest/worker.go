package ordertest

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/app"
	"example.com/holdfast/internal/jobqueue"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/internal/transfer/transfertest"
)

// sweepEvery is how often a worker of a test sweeps.
const sweepEvery = 100 * time.Millisecond

// stopMax bounds the stop of a worker.
const stopMax = 10 * time.Second

// Worker is a running worker: a heartbeat, River's client and a sweeper.
type Worker struct {
	instance  *jobqueue.Instance
	transfers *transfer.Service
	orders    *order.Service
	client    *river.Client[pgx.Tx]
	cancel    context.CancelFunc
	sweeps    sync.WaitGroup
}

// StartWorker starts a worker for everything, which the test's end stops.
func (b *Bundle) StartWorker(tb testing.TB, id string) *Worker {
	tb.Helper()
	return b.start(tb, id, jobqueue.QueueRisk, jobqueue.QueueNotification, jobqueue.QueueDB)
}

// StartPayments starts a worker that screens and tells transfers, and leaves all work on the database
// alone to the test.
func (b *Bundle) StartPayments(tb testing.TB) {
	tb.Helper()
	b.start(tb, "payments", jobqueue.QueueRisk, jobqueue.QueueNotification)
}

func (b *Bundle) start(tb testing.TB, id string, queues ...string) *Worker {
	tb.Helper()
	domain, own := transfertest.OpenPool(tb, b.DB.URL), transfertest.OpenPool(tb, b.DB.URL)
	w := &Worker{transfers: b.transfers(tb, id, domain)}
	w.orders = orders(id, domain, app.NewPayments(w.transfers))
	workers := river.NewWorkers()
	w.transfers.AddWorkers(workers)
	w.orders.AddWorkers(workers)
	w.instance = &jobqueue.Instance{
		ID: id, Host: "test", Version: "test", Pool: own,
		Log: slog.New(slog.DiscardHandler),
	}
	inHand := map[string]int{}
	for _, queue := range queues {
		inHand[queue] = transfertest.InHand
	}
	var err error
	w.client, err = jobqueue.NewClient(jobqueue.Config{
		Pool: own, ID: id, InHand: inHand, Workers: workers, Log: slog.New(slog.DiscardHandler),
		Now: time.Now, //nolint:forbidigo // a test waits by the real clock
	})
	require.NoError(tb, err)
	require.NoError(tb, w.run(tb.Context(), inHand[jobqueue.QueueDB] > 0))
	tb.Cleanup(func() { _ = w.Stop(context.WithoutCancel(tb.Context())) })
	return w
}

func (w *Worker) run(ctx context.Context, sweeps bool) error {
	if err := w.instance.Start(ctx); err != nil {
		return err
	}
	w.transfers.Start(ctx)
	w.orders.Start(ctx)
	ctx, w.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if sweeps {
		w.sweeps.Go(func() { w.sweep(ctx) })
	}
	return w.client.Start(context.WithoutCancel(ctx))
}

func (w *Worker) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_, _ = w.transfers.Sweep(ctx)
			_, _ = w.orders.Sweep(ctx)
		}
	}
}

// Stop finishes what is in hand and leaves. A second Stop does nothing.
func (w *Worker) Stop(ctx context.Context) error {
	if w.cancel == nil {
		return nil
	}
	w.cancel()
	w.cancel = nil
	w.sweeps.Wait()
	ctx, cancel := context.WithTimeout(ctx, stopMax)
	defer cancel()
	if err := w.client.StopAndCancel(ctx); err != nil {
		return err
	}
	w.orders.Stop()
	w.transfers.Stop()
	return w.instance.Stop(ctx)
}
