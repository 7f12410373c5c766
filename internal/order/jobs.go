package order

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"example.com/holdfast/internal/jobqueue"
	"example.com/holdfast/internal/order/internal/orderdb"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/pgtx"
)

// queue is where all steps of an order wait: each is work on our own database.
const queue = jobqueue.QueueDB

// cohort is the orders that one job wakes, by tenant.
type cohort struct {
	Orders map[uuid.UUID][]uuid.UUID `json:"orders"`
}

// refs lists the cohort in id order, each order once.
func (c cohort) refs() []Ref {
	var refs []Ref
	for tenant, ids := range c.Orders {
		for _, id := range ids {
			refs = append(refs, Ref{tenant, id})
		}
	}
	slices.SortFunc(refs, compareRefs)
	return slices.Compact(refs)
}

// The job kinds, one per step, and one for the events of payments.
type (
	reserveJob struct{ cohort }
	payJob     struct{ cohort }
	reverseJob struct{ cohort }
	paymentJob struct{ outbox.Deliveries }
)

// Kind names the job in River's table.
func (reserveJob) Kind() string { return "order_reserve" }

// Kind names the job in River's table.
func (payJob) Kind() string { return "order_pay" }

// Kind names the job in River's table.
func (reverseJob) Kind() string { return "order_reverse" }

// Kind names the job in River's table.
func (paymentJob) Kind() string { return "order_payment" }

// nextStep says which job an order needs next; "" if none.
func nextStep(o Order) string {
	switch o.State {
	case Pending:
		return reserveJob{}.Kind()
	case Reserved:
		return payJob{}.Kind()
	case Canceled:
		if o.PaymentState == PaymentReversing {
			return reverseJob{}.Kind()
		}
	case Confirmed:
	}
	return ""
}

// cohortMaxItems bounds a cohort: a worker has many in hand.
const cohortMaxItems = 32

// enqueue queues jobs for orders; those that need the same step at the same time in the same lane share a job.
func enqueue(write *pgx.Batch, orders []Order) error {
	type wake struct {
		kind string
		at   int64
		lane int16
	}
	var jobs []jobqueue.Job
	known := map[wake]cohort{}
	size := map[wake]int{}
	for _, o := range orders {
		kind := nextStep(o)
		if kind == "" {
			continue
		}
		w := wake{kind, o.WakeAt.UnixNano(), o.Lane}
		c := known[w]
		if size[w]%cohortMaxItems == 0 {
			c = cohort{Orders: map[uuid.UUID][]uuid.UUID{}}
			known[w] = c
			jobs = append(jobs, jobqueue.Job{
				Queue: queue, Kind: kind, Args: c, At: o.WakeAt, Lane: int(o.Lane),
			})
		}
		c.Orders[o.TenantID] = append(c.Orders[o.TenantID], o.ID)
		size[w]++
	}
	return jobqueue.Enqueue(write, jobs)
}

// cohortWorker processes the orders of a job side by side, each by straight-line code.
type cohortWorker[Job river.JobArgs] struct {
	river.WorkerDefaults[Job]
	service *Service
	refs    func(Job) []Ref
	step    func(context.Context, Order, work) error
}

// AddWorkers registers the workers of every job kind of this package.
func (s *Service) AddWorkers(workers *river.Workers) {
	river.AddWorker(workers, s.reserver())
	river.AddWorker(workers, s.payer())
	river.AddWorker(workers, s.reverser())
	river.AddWorker(workers, s.listener())
}

func (s *Service) reserver() *cohortWorker[reserveJob] {
	return &cohortWorker[reserveJob]{
		service: s, refs: func(j reserveJob) []Ref { return j.refs() }, step: s.reserve,
	}
}

func (s *Service) payer() *cohortWorker[payJob] {
	return &cohortWorker[payJob]{
		service: s, refs: func(j payJob) []Ref { return j.refs() }, step: s.pay,
	}
}

func (s *Service) reverser() *cohortWorker[reverseJob] {
	return &cohortWorker[reverseJob]{
		service: s, refs: func(j reverseJob) []Ref { return j.refs() }, step: s.reverse,
	}
}

// Work processes a cohort and reports success also when an order could not be moved: the row says what
// is left to do, and the sweeper wakes it again. A process that stops gives the job back.
func (w *cohortWorker[Job]) Work(ctx context.Context, job *river.Job[Job]) error {
	s := w.service
	loadedAt := s.cfg.Now()
	orders, now, err := s.load(ctx, w.refs(job.Args))
	if err != nil {
		return err
	}
	known := s.workOf(job.ID, now, loadedAt)
	var steps []func() error
	for _, o := range orders {
		if nextStep(o) != job.Args.Kind() || o.WakeAt.After(now) {
			continue // done, or somebody set a later time
		}
		steps = append(steps, func() error { return w.step(ctx, o, known) })
	}
	return s.sideBySide(ctx, steps)
}

func (s *Service) workOf(jobID int64, now, loadedAt time.Time) work {
	return work{
		actor: "worker:" + s.cfg.Instance, cause: "job:" + strconv.FormatInt(jobID, 10),
		now: now, loadedAt: loadedAt, clock: s.cfg.Now,
	}
}

// sideBySide does steps at once; the only error that it returns is that the process stops.
func (s *Service) sideBySide(ctx context.Context, steps []func() error) error {
	var group sync.WaitGroup
	var stoppedBy atomic.Pointer[error]
	for _, step := range steps {
		group.Go(func() {
			if err := s.one(ctx, step); stopped(err) {
				stoppedBy.Store(&err)
			}
		})
	}
	group.Wait()
	if err := stoppedBy.Load(); err != nil {
		return *err
	}
	return nil
}

// one does one step; neither its error nor its panic reaches its neighbours.
func (s *Service) one(ctx context.Context, step func() error) error {
	defer func() {
		if r := recover(); r != nil {
			s.cfg.Log.ErrorContext(ctx, "order step panicked", slog.Any("panic", r),
				slog.String("stack", string(debug.Stack())))
			s.cfg.Metrics.OrderStepFailed()
		}
	}()
	err := step()
	if err != nil && !stopped(err) {
		s.cfg.Log.ErrorContext(ctx, "order step failed", slog.Any("error", err))
		s.cfg.Metrics.OrderStepFailed()
	}
	return err
}

// paymentWorker tells orders how their payments ended.
type paymentWorker struct {
	river.WorkerDefaults[paymentJob]
	service *Service
}

func (s *Service) listener() *paymentWorker { return &paymentWorker{service: s} }

// Work tells the events that are still to be told. One that could not be told stays, and the sweeper wakes
// it again.
func (w *paymentWorker) Work(ctx context.Context, job *river.Job[paymentJob]) error {
	s := w.service
	deliveries, err := Subscription().Read(ctx, s.pool, job.Args.Deliveries.Deliveries)
	if err != nil {
		return err
	}
	var now time.Time
	loadedAt := s.cfg.Now()
	if err := s.pool.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&now); err != nil {
		return fmt.Errorf("read time: %w", err)
	}
	known := s.workOf(job.ID, now, loadedAt)
	steps := make([]func() error, len(deliveries))
	for i, d := range deliveries {
		steps[i] = func() error { return s.listen(ctx, d, known) }
	}
	return s.sideBySide(ctx, steps)
}

// The sweep, by Postgres's clock.
const (
	// sweepGrace is how long a due row may wait for its job before the sweeper asks.
	sweepGrace = 2 * time.Second
	// sweepBatchRows bounds one transaction of the sweeper, and sweepRoundsMax how many of them one
	// Sweep makes.
	sweepBatchRows = 500
	sweepRoundsMax = 20
)

// Sweep wakes orders and events of payments whose wake-up is due and that no live job names: in health
// there are none. It returns how many it woke.
func (s *Service) Sweep(ctx context.Context) (int, error) {
	total, err := Subscription().Sweep(ctx, s.pool)
	for range sweepRoundsMax {
		if err != nil {
			break
		}
		woken := 0
		err = pgtx.Run(ctx, s.pool, "sweep orders", func(ctx context.Context, tx pgx.Tx) error {
			var err error
			woken, err = wakeForgotten(ctx, tx)
			return err
		})
		if pgtx.Raced(err) {
			err = nil // a row moved meanwhile, so it was not forgotten: look again next time
			break
		}
		total += woken
		if woken < sweepBatchRows {
			break
		}
	}
	s.cfg.Metrics.Swept(total)
	if err != nil {
		return total, fmt.Errorf("sweep orders: %w", err)
	}
	return total, nil
}

// wakeForgotten wakes one batch.
func wakeForgotten(ctx context.Context, tx pgx.Tx) (int, error) {
	horizon, err := jobqueue.Horizon(ctx, tx, queue, sweepGrace)
	if err != nil {
		return 0, err
	}
	rows, err := orderdb.New().SystemWakeForgotten(ctx, tx, orderdb.SystemWakeForgottenParams{
		Horizon: horizon, BatchSize: sweepBatchRows,
	})
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	var write pgx.Batch
	if err := enqueue(&write, fromRows(rows)); err != nil {
		return 0, err
	}
	return len(rows), tx.SendBatch(ctx, &write).Close()
}
