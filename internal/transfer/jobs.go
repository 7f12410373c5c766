package transfer

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"example.com/holdfast/internal/jobqueue"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/transfer/internal/transferdb"
)

// cohort is the transfers that one job wakes, by tenant.
type cohort struct {
	Transfers map[uuid.UUID][]uuid.UUID `json:"transfers"`
}

func (c cohort) refs() []Ref {
	var refs []Ref
	for tenant, ids := range c.Transfers {
		for _, id := range ids {
			refs = append(refs, Ref{tenant, id})
		}
	}
	return refs
}

// The job kinds, one per step, on the queue of what the step waits for.
type (
	screenJob struct{ cohort }
	settleJob struct{ cohort }
	notifyJob struct{ cohort }
)

// Kind names the job in River's table.
func (screenJob) Kind() string { return "transfer_screen" }

// Kind names the job in River's table.
func (settleJob) Kind() string { return "transfer_settle" }

// Kind names the job in River's table.
func (notifyJob) Kind() string { return "transfer_notify" }

// nextStep says which job a transfer needs next, and on which queue; "" if none.
func nextStep(t Transfer) (string, string) {
	switch t.State {
	case Accepted:
		return screenJob{}.Kind(), jobqueue.QueueRisk
	case InReview, Approved:
		return settleJob{}.Kind(), jobqueue.QueueDB
	case Settled, Blocked, Canceled, Expired, Failed:
		if t.Notification == NotificationPending {
			return notifyJob{}.Kind(), jobqueue.QueueNotification
		}
	}
	return "", ""
}

// cohortMaxItems bounds a cohort. What waits inside a worker is at most so many calls for each place at
// the dependency, so the age of the queue still tells the truth about waiting.
const cohortMaxItems = 32

// enqueue queues jobs for transfers; those that need the same step at the same time share a job.
func enqueue(write *pgx.Batch, transfers []Transfer) error {
	type wake struct {
		kind, queue string
		at          int64
	}
	var jobs []jobqueue.Job
	known := map[wake]cohort{}
	size := map[wake]int{}
	for _, t := range transfers {
		kind, queue := nextStep(t)
		if kind == "" {
			continue
		}
		w := wake{kind, queue, t.WakeAt.UnixNano()}
		c := known[w]
		if size[w]%cohortMaxItems == 0 {
			c = cohort{Transfers: map[uuid.UUID][]uuid.UUID{}}
			known[w] = c
			jobs = append(jobs, jobqueue.Job{Queue: queue, Kind: kind, Args: c, At: t.WakeAt})
		}
		c.Transfers[t.TenantID] = append(c.Transfers[t.TenantID], t.ID)
		size[w]++
	}
	return jobqueue.Enqueue(write, jobs)
}

// cohortWorker processes the transfers of a job side by side, each by straight-line code.
type cohortWorker[Job river.JobArgs] struct {
	river.WorkerDefaults[Job]
	service *Service
	refs    func(Job) []Ref
	// due says whether the step is still to be done; a job that comes again does nothing.
	due  func(Transfer) bool
	step func(context.Context, Transfer, work) error
}

// AddWorkers registers the workers of every job kind of this package.
func (s *Service) AddWorkers(workers *river.Workers) {
	river.AddWorker(workers, &cohortWorker[screenJob]{
		service: s, refs: func(j screenJob) []Ref { return j.refs() }, step: s.screen,
		due: func(t Transfer) bool { return t.State == Accepted },
	})
	river.AddWorker(workers, &cohortWorker[settleJob]{
		service: s, refs: func(j settleJob) []Ref { return j.refs() }, step: s.settle,
		due: func(t Transfer) bool { return t.State == Approved || t.State == InReview },
	})
	river.AddWorker(workers, &cohortWorker[notifyJob]{
		service: s, refs: func(j notifyJob) []Ref { return j.refs() }, step: s.notify,
		due: func(t Transfer) bool { return t.Notification == NotificationPending },
	})
}

// Work processes a cohort and reports success also when a transfer could not be moved: the row says
// what is left to do, and the sweeper wakes it again.
func (w *cohortWorker[Job]) Work(ctx context.Context, job *river.Job[Job]) error {
	s := w.service
	loadedAt := s.cfg.Now()
	transfers, now, err := s.load(ctx, w.refs(job.Args))
	if err != nil {
		return err
	}
	known := work{
		actor: "worker:" + s.cfg.Instance, cause: "job:" + strconv.FormatInt(job.ID, 10),
		now: now, loadedAt: loadedAt, clock: s.cfg.Now,
	}
	var group sync.WaitGroup
	for _, t := range transfers {
		if !w.due(t) || t.WakeAt.After(now) {
			continue // done, or somebody set a later time
		}
		group.Go(func() { w.one(ctx, t, known) })
	}
	group.Wait()
	return nil
}

// one processes one transfer; neither its error nor its panic reaches its neighbours.
func (w *cohortWorker[Job]) one(ctx context.Context, t Transfer, known work) {
	log := w.service.cfg.Log
	defer func() {
		if r := recover(); r != nil {
			log.ErrorContext(ctx, "transfer step panicked", slog.String("transfer", t.ID.String()),
				slog.Any("panic", r), slog.String("stack", string(debug.Stack())))
			w.service.cfg.Metrics.StepFailed()
		}
	}()
	if err := w.step(ctx, t, known); err != nil && !stopped(err) {
		log.ErrorContext(ctx, "transfer step failed", slog.String("transfer", t.ID.String()), slog.Any("error", err))
		w.service.cfg.Metrics.StepFailed()
	}
}

// The sweep, by Postgres's clock.
const (
	// sweepGrace is how long a due row may wait for its job before the sweeper asks.
	sweepGrace = 2 * time.Second
	// sweepBatchRows bounds one round of the sweeper per queue.
	sweepBatchRows = 500
)

// Sweep wakes transfers whose wake-up is due and that no live job names: in health there are none. It
// returns how many it woke.
func (s *Service) Sweep(ctx context.Context) (int, error) {
	total := 0
	for _, step := range []struct {
		queue  string
		states []State
	}{
		{jobqueue.QueueRisk, []State{Accepted}},
		{jobqueue.QueueDB, []State{InReview, Approved}},
		{jobqueue.QueueNotification, []State{Settled, Blocked, Canceled, Expired, Failed}},
	} {
		woken, err := s.sweepQueue(ctx, step.queue, step.states)
		if err != nil {
			return total, fmt.Errorf("sweep transfers of queue %s: %w", step.queue, err)
		}
		total += woken
	}
	s.cfg.Metrics.Swept(total)
	return total, nil
}

func (s *Service) sweepQueue(ctx context.Context, queue string, states []State) (int, error) {
	names := make([]string, len(states))
	for i, state := range states {
		names[i] = string(state)
	}
	var woken []Transfer
	err := pgtx.Run(ctx, s.pool, "sweep transfers", func(ctx context.Context, tx pgx.Tx) error {
		oldest, live, err := jobqueue.OldestLive(ctx, tx, queue)
		if err != nil {
			return err
		}
		var horizon time.Time
		if err := tx.QueryRow(ctx, "SELECT clock_timestamp() - $1::interval", pgtx.Interval(sweepGrace)).
			Scan(&horizon); err != nil {
			return fmt.Errorf("read time: %w", err)
		}
		if live && oldest.Before(horizon) {
			horizon = oldest
		}
		rows, err := transferdb.New().SystemWakeForgotten(ctx, tx, transferdb.SystemWakeForgottenParams{
			Horizon: horizon, States: names, BatchSize: sweepBatchRows,
		})
		if err != nil || len(rows) == 0 {
			return err
		}
		woken = fromRows(rows)
		var write pgx.Batch
		if err := enqueue(&write, woken); err != nil {
			return err
		}
		return tx.SendBatch(ctx, &write).Close()
	})
	return len(woken), err
}
