package order

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"example.com/holdfast/internal/jobqueue"
	"example.com/holdfast/internal/order/internal/orderdb"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/tracing"
)

// queue is where all steps of an order wait: each is work on our own database.
const queue = jobqueue.QueueDB

// cohort is the orders that one job wakes, by tenant.
type cohort struct {
	Orders map[uuid.UUID][]uuid.UUID `json:"orders"`
}

func cohortOf(refs []Ref) cohort {
	c := cohort{Orders: map[uuid.UUID][]uuid.UUID{}}
	for _, r := range refs {
		c.Orders[r.TenantID] = append(c.Orders[r.TenantID], r.ID)
	}
	return c
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

// enqueue queues jobs for orders; those that need the same step at the same time in the same lane share a
// job.
func enqueue(write *pgx.Batch, orders []Order) error {
	type wake struct {
		kind string
		at   int64
		lane int16
	}
	var jobs []jobqueue.Job
	type last struct {
		cohort    cohort
		job, size int
	}
	known := map[wake]last{}
	for _, o := range orders {
		kind := nextStep(o)
		if kind == "" {
			continue
		}
		w := wake{kind, o.WakeAt.UnixNano(), o.Lane}
		l := known[w]
		if l.size%cohortMaxItems == 0 {
			l.cohort, l.job = cohort{Orders: map[uuid.UUID][]uuid.UUID{}}, len(jobs)
			jobs = append(jobs, jobqueue.Job{
				Queue: queue, Kind: kind, Args: l.cohort, At: o.WakeAt, Lane: int(o.Lane),
			})
		}
		l.cohort.Orders[o.TenantID] = append(l.cohort.Orders[o.TenantID], o.ID)
		jobs[l.job].Traces.Add(o.ID, o.trace)
		l.size++
		known[w] = l
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
// is left to do, and the sweeper wakes it again. What a process that stops could not finish is given back.
func (w *cohortWorker[Job]) Work(ctx context.Context, job *river.Job[Job]) error {
	s := w.service
	loadedAt := s.cfg.Now()
	refs := w.refs(job.Args)
	jobqueue.Rows(ctx, len(refs))
	orders, now, err := s.load(ctx, refs)
	if stopped(err) {
		return s.handBack(ctx, job.ID, job.Args, job.Attempt > 1)
	}
	if err != nil {
		return err
	}
	known := s.workOf(job.ID, now, loadedAt)
	var group sync.WaitGroup
	var rest gathered[Ref]
	for _, o := range orders {
		if nextStep(o) != job.Args.Kind() || o.WakeAt.After(now) {
			jobqueue.Count(ctx, jobqueue.OutcomeNotDue, 1)
			continue // done, or somebody set a later time
		}
		o.trace = jobqueue.TraceOf(ctx, o.ID)
		group.Go(func() {
			if stopped(w.traced(ctx, o, known)) {
				jobqueue.Count(ctx, jobqueue.OutcomeHandedBack, 1)
				rest.add(o.Ref)
			}
		})
	}
	group.Wait()
	if rest.items == nil {
		return nil
	}
	return s.handBack(ctx, job.ID, cohortOf(rest.items), true)
}

func (s *Service) workOf(jobID int64, now, loadedAt time.Time) work {
	return work{
		actor: "worker:" + s.cfg.Instance, cause: "job:" + strconv.FormatInt(jobID, 10),
		now: now, loadedAt: loadedAt, clock: s.cfg.Now,
	}
}

// gathered is what steps that go side by side leave behind.
type gathered[Item any] struct {
	mu    sync.Mutex
	items []Item
}

func (g *gathered[Item]) add(item Item) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.items = append(g.items, item)
}

// handBack gives the rest of a job back, also while the process stops. again says that payments of the rest
// may have been asked for.
func (s *Service) handBack(ctx context.Context, jobID int64, rest any, again bool) error {
	ctx, cancel := recording(ctx)
	defer cancel()
	return jobqueue.HandBack(ctx, s.pool, jobqueue.Returned{ID: jobID, Args: rest, Again: again})
}

// one processes one order; neither its error nor its panic reaches its neighbours. What breaks again and
// again is given up; what was only in the way of others, or of the database, is tried again.
func (w *cohortWorker[Job]) one(ctx context.Context, o Order, known work) error {
	s := w.service
	cause := s.caught(ctx, func() error { return w.step(ctx, o, known) })
	if cause == nil || stopped(cause) {
		return cause
	}
	tracing.Fail(ctx, cause)
	var err error
	if ofTheMoment(cause, o.Attempts) {
		err = s.heldUp(ctx, o, known, cause)
	} else {
		s.cfg.Log.ErrorContext(ctx, "order step failed", slog.String("order", o.ID.String()),
			slog.Int("failures", int(o.Failures)+1), slog.Any("error", cause))
		s.cfg.Metrics.OrderStepFailed()
		err = s.broke(ctx, o, known)
	}
	if stopped(err) {
		return err
	}
	if err != nil { // then the sweeper finds it
		s.cfg.Log.WarnContext(ctx, "failure of order step not noted", slog.String("order", o.ID.String()),
			slog.Any("error", err))
	}
	return nil
}

// paymentWorker tells orders how their payments ended.
type paymentWorker struct {
	river.WorkerDefaults[paymentJob]
	service *Service
}

func (s *Service) listener() *paymentWorker { return &paymentWorker{service: s} }

// Work tells the events that are still to be told. One that could not be told has its next time, and what a
// process that stops could not tell is given back.
func (w *paymentWorker) Work(ctx context.Context, job *river.Job[paymentJob]) error {
	s := w.service
	jobqueue.Rows(ctx, len(job.Args.Deliveries.Deliveries))
	deliveries, known, err := s.loadDeliveries(ctx, job.Args.Deliveries.Deliveries, job.ID)
	if stopped(err) {
		return s.handBack(ctx, job.ID, job.Args, job.Attempt > 1)
	}
	if err != nil {
		return err
	}
	var group sync.WaitGroup
	var rest gathered[outbox.DeliveryRef]
	var failed gathered[outbox.Failure]
	for _, d := range deliveries {
		if d.WakeAt.After(known.now) {
			continue // somebody set a later time
		}
		group.Go(func() {
			switch err := w.traced(ctx, d, known); {
			case stopped(err):
				rest.add(d.DeliveryRef)
			case err != nil:
				failed.add(s.untold(ctx, d, err))
			}
		})
	}
	group.Wait()
	s.tellAgain(ctx, failed.items)
	if rest.items == nil {
		return nil
	}
	return s.handBack(ctx, job.ID, paymentJob{outbox.Deliveries{Deliveries: rest.items}}, true)
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
