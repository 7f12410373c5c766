package transfer

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
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
	known := map[wake]cohort{}
	size := map[wake]int{}
	for _, t := range transfers {
		kind, queue := nextStep(t)
		if kind == "" {
			continue
		}
		w := wake{kind, queue, t.WakeAt.UnixNano(), t.Lane}
		c := known[w]
		if size[w]%cohortMaxItems == 0 {
			c = cohort{Transfers: map[uuid.UUID][]uuid.UUID{}}
			known[w] = c
			jobs = append(jobs, jobqueue.Job{
				Queue: queue, Kind: kind, Args: c, At: t.WakeAt, Lane: int(t.Lane),
			})
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
	transfers, now, err := s.load(ctx, w.refs(job.Args))
	if stopped(err) {
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
	rest := leftOver{again: known.again}
	for _, t := range transfers {
		if !w.due(t) || t.WakeAt.After(now) {
			continue // done, or somebody set a later time
		}
		group.Go(func() { rest.add(t.Ref, w.one(ctx, t, known)) })
	}
	group.Wait()
	if rest.none() {
		return nil
	}
	return s.handBack(ctx, job.ID, rest.cohort, rest.again)
}

// handBack gives the rest of a job back, also while the process stops.
func (s *Service) handBack(ctx context.Context, jobID int64, rest any, again bool) error {
	ctx, cancel := recording(ctx)
	defer cancel()
	return jobqueue.HandBack(ctx, s.pool, jobqueue.Returned{ID: jobID, Args: rest, Again: again})
}

// leftOver gathers what a worker gives back of its job.
type leftOver struct {
	mu     sync.Mutex
	cohort cohort
	// again says that a call of what is left may have been made without record.
	again bool
}

// add puts a transfer whose step could not be done here to what is left.
func (l *leftOver) add(ref Ref, err error) {
	if !noRoom(err) && !stopped(err) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cohort.Transfers == nil {
		l.cohort.Transfers = map[uuid.UUID][]uuid.UUID{}
	}
	l.cohort.Transfers[ref.TenantID] = append(l.cohort.Transfers[ref.TenantID], ref.ID)
	l.again = l.again || !noRoom(err)
}

func (l *leftOver) none() bool { return l.cohort.Transfers == nil }

// brokenMax is how often a step may break in our own code before the transfer is given up as poison; the index
// of dead letters names the same number.
const brokenMax = 5

// passingMax is how often a step may be kept from its end by what is of the moment. What is so for longer is
// no moment any more, and counts as a break.
const passingMax = 50

// heldUpBy says that a step failed for what is of the moment, and not for too long yet.
func (t Transfer) heldUpBy(err error) bool { return passing(err) && t.Attempts < passingMax }

// parkedFor is when a transfer is looked at again that is poison and cannot end: the rail has it, and has to
// answer first, or its end breaks too.
const parkedFor = time.Hour

// one processes one transfer; neither its error nor its panic reaches its neighbours. What breaks again and
// again is given up; what was only in the way of others, or of the database, is tried again.
func (w *cohortWorker[Job]) one(ctx context.Context, t Transfer, known work) error {
	s := w.service
	cause := w.caught(ctx, t, known)
	if cause == nil || stopped(cause) || noRoom(cause) {
		return cause
	}
	var err error
	if t.heldUpBy(cause) {
		err = s.heldUp(ctx, t, cause)
	} else {
		s.cfg.Log.ErrorContext(ctx, "transfer step failed", slog.String("transfer", t.ID.String()),
			slog.Int("failures", int(t.Failures)+1), slog.Any("error", cause))
		s.cfg.Metrics.StepFailed()
		err = s.broke(ctx, t, known, cause)
	}
	if stopped(err) {
		return err
	}
	if err != nil { // then the sweeper finds it
		s.cfg.Log.WarnContext(ctx, "failure of transfer step not noted",
			slog.String("transfer", t.ID.String()), slog.Any("error", err))
	}
	return nil
}

// caught does the step and turns its panic into an error.
func (w *cohortWorker[Job]) caught(ctx context.Context, t Transfer, known work) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
			w.service.cfg.Log.ErrorContext(ctx, "transfer step panicked",
				slog.String("transfer", t.ID.String()), slog.String("stack", string(debug.Stack())))
		}
	}()
	return w.step(ctx, t, known)
}

// heldUp notes that a step could not be written down for now. That is not the transfer's fault.
func (s *Service) heldUp(ctx context.Context, t Transfer, cause error) error {
	wait, _ := s.retryIn(t.Attempts, nil)
	s.cfg.Log.InfoContext(ctx, "transfer step was held up", slog.String("transfer", t.ID.String()),
		slog.Int("attempt", int(t.Attempts)+1), slog.Duration("retry_in", wait), slog.Any("error", cause))
	_, err := s.noted(ctx, again(t, stepOf(t), wait, cause))
	return err
}

// broke notes that a step broke in our own code, and ends what does so again and again.
func (s *Service) broke(ctx context.Context, t Transfer, w work, cause error) error {
	wait, _ := s.retryIn(t.Failures, nil)
	n := again(t, stepOf(t), wait, cause)
	n.after.Failures++
	switch {
	case n.after.Failures < brokenMax:
	case t.State == Settling:
		n.retryIn = parkedFor
	case t.State.Terminal():
		n.after.Notification = NotificationFailed
	default:
		err := s.move(ctx, w.fail(t, ReasonPoison))
		if err == nil || stopped(err) {
			return err
		}
		if !t.heldUpBy(err) { // not even its end can be written down
			n.retryIn = parkedFor
		}
	}
	_, err := s.noted(ctx, n)
	return err
}

// stepOf names the step that a transfer needs, for the ledger of attempts.
func stepOf(t Transfer) string {
	kind, _ := nextStep(t)
	return strings.TrimPrefix(kind, "transfer_")
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
