package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// refs lists the cohort in id order, each transfer once.
func (c cohort) refs() []Ref {
	var refs []Ref
	for tenant, ids := range c.Transfers {
		for _, id := range ids {
			refs = append(refs, Ref{tenant, id})
		}
	}
	slices.SortFunc(refs, compareRefs)
	return slices.Compact(refs)
}

// The job kinds, one per step, on the queue of what the step waits for.
type (
	screenJob struct{ cohort }
	settleJob struct{ cohort }
	payoutJob struct{ cohort }
	notifyJob struct{ cohort }
)

// Kind names the job in River's table.
func (screenJob) Kind() string { return "transfer_screen" }

// Kind names the job in River's table.
func (settleJob) Kind() string { return "transfer_settle" }

// Kind names the job in River's table.
func (payoutJob) Kind() string { return "transfer_payout" }

// Kind names the job in River's table.
func (notifyJob) Kind() string { return "transfer_notify" }

// nextStep says which job a transfer needs next, and on which queue; "" if none.
func nextStep(t Transfer) (string, string) {
	switch t.State {
	case Accepted:
		return screenJob{}.Kind(), jobqueue.QueueRisk
	case InReview, Approved:
		return settleJob{}.Kind(), jobqueue.QueueDB
	case Settling:
		return payoutJob{}.Kind(), jobqueue.QueuePayout
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

// enqueue queues jobs for transfers; those that need the same step at the same time in the same lane share a
// job.
func enqueue(write *pgx.Batch, transfers []Transfer) error {
	type wake struct {
		kind, queue string
		at          int64
		lane        int16
	}
	var jobs []jobqueue.Job
	type last struct {
		cohort    cohort
		job, size int
	}
	known := map[wake]last{}
	for _, t := range transfers {
		kind, queue := nextStep(t)
		if kind == "" {
			continue
		}
		w := wake{kind, queue, t.WakeAt.UnixNano(), t.Lane}
		l := known[w]
		if l.size%cohortMaxItems == 0 {
			l.cohort, l.job = cohort{Transfers: map[uuid.UUID][]uuid.UUID{}}, len(jobs)
			jobs = append(jobs, jobqueue.Job{
				Queue: queue, Kind: kind, Args: l.cohort, At: t.WakeAt, Lane: int(t.Lane),
			})
		}
		l.cohort.Transfers[t.TenantID] = append(l.cohort.Transfers[t.TenantID], t.ID)
		jobs[l.job].Traces.Add(t.ID, t.trace)
		l.size++
		known[w] = l
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
	river.AddWorker(workers, s.screener())
	river.AddWorker(workers, s.settler())
	river.AddWorker(workers, s.payer())
	river.AddWorker(workers, s.notifier())
}

func (s *Service) screener() *cohortWorker[screenJob] {
	return &cohortWorker[screenJob]{
		service: s, refs: func(j screenJob) []Ref { return j.refs() }, step: s.screen,
		due: func(t Transfer) bool { return t.State == Accepted },
	}
}

func (s *Service) settler() *cohortWorker[settleJob] {
	return &cohortWorker[settleJob]{
		service: s, refs: func(j settleJob) []Ref { return j.refs() }, step: s.settle,
		due: func(t Transfer) bool { return t.State == Approved || t.State == InReview },
	}
}

func (s *Service) payer() *cohortWorker[payoutJob] {
	return &cohortWorker[payoutJob]{
		service: s, refs: func(j payoutJob) []Ref { return j.refs() }, step: s.payout,
		due: func(t Transfer) bool { return t.State == Settling },
	}
}

func (s *Service) notifier() *cohortWorker[notifyJob] {
	return &cohortWorker[notifyJob]{
		service: s, refs: func(j notifyJob) []Ref { return j.refs() }, step: s.notify,
		due: func(t Transfer) bool { return t.Notification == NotificationPending },
	}
}

// Work processes a cohort and reports success also when a transfer could not be moved: the row says
// what is left to do, and the sweeper wakes it again. What the dependency has no place for, and what a
// process that stops could not finish, is given back.
func (w *cohortWorker[Job]) Work(ctx context.Context, job *river.Job[Job]) error {
	s := w.service
	loadedAt := s.cfg.Now()
	refs := w.refs(job.Args)
	jobqueue.Rows(ctx, len(refs))
	transfers, now, err := s.load(ctx, refs)
	if stopped(err) {
		jobqueue.Count(ctx, jobqueue.OutcomeHandedBack, len(refs))
		return s.handBack(ctx, job.ID, job.Args, job.Attempt > 1)
	}
	if err != nil {
		return err
	}
	known := work{
		actor: "worker:" + s.cfg.Instance, cause: "job:" + strconv.FormatInt(job.ID, 10),
		again: job.Attempt > 1, now: now, loadedAt: loadedAt, clock: s.cfg.Now,
	}
	var group sync.WaitGroup
	rest := leftOver{service: s, job: job.ID, again: known.again}
	for _, t := range transfers {
		if !w.due(t) || t.WakeAt.After(now) {
			jobqueue.Count(ctx, jobqueue.OutcomeNotDue, 1)
			continue // done, or somebody set a later time
		}
		if known.again && t.State != Settling { // a payout is claimed in its row before it is sent
			t.Sent = max(t.Sent, 1) // in the row too, where the next job knows nothing of this one
		}
		t.trace = jobqueue.TraceOf(ctx, t.ID)
		group.Go(func() { rest.add(ctx, t.Ref, w.traced(ctx, t, known)) })
	}
	return rest.handBack(ctx, group.Wait)
}

// handBack gives the rest of a job back, also while the process stops.
func (s *Service) handBack(ctx context.Context, jobID int64, rest any, again bool) error {
	ctx, cancel := recording(ctx)
	defer cancel()
	return jobqueue.HandBack(ctx, s.pool, jobqueue.Returned{ID: jobID, Args: rest, Again: again})
}

// giveBackAfter is when a job whose calls take long gives back what has found no place until then; it is
// above the wait for a place.
const giveBackAfter = 400 * time.Millisecond

// leftOver gathers what a worker gives back of its job.
type leftOver struct {
	service *Service
	job     int64

	mu     sync.Mutex
	cohort cohort
	// again says that a call of what is left may have been made without record.
	again bool
}

// handBack gives back what is left when all steps have ended, and what is left by giveBackAfter already then:
// others may have a place for it while our calls take their time.
func (l *leftOver) handBack(ctx context.Context, wait func()) error {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		wait()
	}()
	early := time.NewTimer(giveBackAfter)
	defer early.Stop()
	var err error
	select {
	case <-ended:
	case <-early.C:
		err = l.flush(ctx)
		<-ended
	}
	return errors.Join(err, l.flush(ctx))
}

func (l *leftOver) flush(ctx context.Context) error {
	l.mu.Lock()
	rest, again := l.cohort, l.again
	l.cohort = cohort{}
	l.mu.Unlock()
	if rest.Transfers == nil {
		return nil
	}
	return l.service.handBack(ctx, l.job, rest, again)
}

// add puts a transfer whose step could not be done here to what is left.
func (l *leftOver) add(ctx context.Context, ref Ref, err error) {
	if !noRoom(err) && !stopped(err) {
		return
	}
	jobqueue.Count(ctx, jobqueue.OutcomeHandedBack, 1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cohort.Transfers == nil {
		l.cohort.Transfers = map[uuid.UUID][]uuid.UUID{}
	}
	l.cohort.Transfers[ref.TenantID] = append(l.cohort.Transfers[ref.TenantID], ref.ID)
	l.again = l.again || !noRoom(err)
}

// The sweep, by Postgres's clock.
const (
	// sweepGrace is how long a due row may wait for its job before the sweeper asks.
	sweepGrace = 2 * time.Second
	// sweepBatchRows bounds one transaction of the sweeper, and sweepRoundsMax how many of them one
	// Sweep makes for a queue.
	sweepBatchRows = 500
	sweepRoundsMax = 20
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
		{jobqueue.QueuePayout, []State{Settling}},
		{jobqueue.QueueNotification, []State{Settled, Blocked, Canceled, Expired, Failed}},
	} {
		woken, err := s.sweepQueue(ctx, step.queue, step.states)
		s.cfg.Metrics.Swept(woken)
		total += woken
		if err != nil {
			return total, fmt.Errorf("sweep transfers of queue %s: %w", step.queue, err)
		}
	}
	return total, nil
}

func (s *Service) sweepQueue(ctx context.Context, queue string, states []State) (int, error) {
	total := 0
	for range sweepRoundsMax {
		woken := 0
		err := pgtx.Run(ctx, s.pool, "sweep transfers", func(ctx context.Context, tx pgx.Tx) error {
			var err error
			woken, err = wakeForgotten(ctx, tx, queue, states)
			return err
		})
		if pgtx.Raced(err) {
			return total, nil // a row moved meanwhile, so it was not forgotten: look again next time
		}
		if err != nil {
			return total, err
		}
		total += woken
		if woken < sweepBatchRows {
			break
		}
	}
	return total, nil
}

// wakeForgotten wakes one batch.
func wakeForgotten(ctx context.Context, tx pgx.Tx, queue string, states []State) (int, error) {
	horizon, err := jobqueue.Horizon(ctx, tx, queue, sweepGrace)
	if err != nil {
		return 0, err
	}
	rows, err := transferdb.New().SystemWakeForgotten(ctx, tx, transferdb.SystemWakeForgottenParams{
		Horizon: horizon, States: names(states), BatchSize: sweepBatchRows,
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

func names(states []State) []string {
	texts := make([]string, len(states))
	for i, state := range states {
		texts[i] = string(state)
	}
	return texts
}
