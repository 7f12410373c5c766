package transfertest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/jobqueue"
	"example.com/holdfast/internal/transfer"
)

// InHand is how many jobs of each queue a worker of a test has in hand.
const InHand = 8

// sweepEvery is how often a worker of a test sweeps.
const sweepEvery = 100 * time.Millisecond

// stopMax bounds the stop of a worker.
const stopMax = 10 * time.Second

// Worker is a running worker: a heartbeat, River's client and a sweeper.
type Worker struct {
	Instance  *jobqueue.Instance
	Transfers *transfer.Service
	client    *river.Client[pgx.Tx]
	river     *pgxpool.Pool
	cancel    context.CancelFunc
	sweeps    sync.WaitGroup
}

// StartWorker starts a worker with the bundle's dependencies, which the test's end stops.
func (b *Bundle) StartWorker(tb testing.TB, id string) *Worker {
	tb.Helper()
	w := NewWorker(tb, b.DB.URL, b.Config(tb, id))
	require.NoError(tb, w.Start(tb.Context()))
	tb.Cleanup(func() { _ = w.Stop(context.WithoutCancel(tb.Context())) })
	return w
}

// NewWorker makes a worker that is not started, from a configuration whose pool it replaces by pools of
// its own on the database at url.
func NewWorker(tb testing.TB, url string, cfg transfer.Config) *Worker {
	tb.Helper()
	cfg.Pool = OpenPool(tb, url)
	w := &Worker{Transfers: transfer.NewService(cfg), river: OpenPool(tb, url)}
	workers := river.NewWorkers()
	w.Transfers.AddWorkers(workers)
	w.Instance = &jobqueue.Instance{
		ID: cfg.Instance, Host: "test", Version: "test", Pool: OpenPool(tb, url), Log: cfg.Log,
	}
	var err error
	w.client, err = jobqueue.NewClient(jobqueue.Config{
		Pool: w.river, ID: cfg.Instance, Workers: workers, Log: cfg.Log, Now: cfg.Now,
		InHand: map[string]int{
			jobqueue.QueueRisk: InHand, jobqueue.QueuePayout: InHand, jobqueue.QueueNotification: InHand,
			jobqueue.QueueDB: InHand,
		},
	})
	require.NoError(tb, err)
	return w
}

// Start beats, fetches and sweeps. The context's values reach every step, so that a test can break it.
func (w *Worker) Start(ctx context.Context) error {
	if err := w.Instance.Start(ctx); err != nil {
		return err
	}
	w.Transfers.Start(ctx)
	ctx, w.cancel = context.WithCancel(context.WithoutCancel(ctx))
	w.sweeps.Go(func() { w.sweep(ctx) })
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
			_, _ = w.Transfers.Sweep(ctx)
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
	w.Transfers.Stop()
	return w.Instance.Stop(ctx)
}
