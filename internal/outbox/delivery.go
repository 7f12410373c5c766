package outbox

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/jobqueue"
	"example.com/holdfast/internal/outbox/internal/outboxdb"
	"example.com/holdfast/internal/pgtx"
)

// deliveriesPerJob bounds what one job names.
const deliveriesPerJob = 32

// The sweep, by Postgres's clock.
const (
	// sweepGrace is how long a due delivery may wait for its job before the sweeper asks.
	sweepGrace = 2 * time.Second
	// sweepBatchRows bounds one transaction of the sweeper.
	sweepBatchRows = 500
)

// Subscription says which events a consumer in this program waits for, and how it is woken.
type Subscription struct {
	// Consumer names who waits.
	Consumer string
	// Types are the types of the events; ReferencePrefix is how their reference begins.
	Types           []string
	ReferencePrefix string
	// Queue and Kind are those of the job that wakes the consumer. Its arguments are Deliveries.
	Queue, Kind string
}

func (s Subscription) wants(e Event) bool {
	return e.Reference != "" && strings.HasPrefix(e.Reference,
		s.ReferencePrefix) && slices.Contains(s.Types, e.Type)
}

// DeliveryRef names an event that is to be handled.
type DeliveryRef struct {
	TenantID    uuid.UUID `json:"tenant"`
	AggregateID uuid.UUID `json:"aggregate"`
	Seq         int32     `json:"seq"`
}

func compareRefs(a, b DeliveryRef) int {
	return cmp.Or(bytes.Compare(a.TenantID[:], b.TenantID[:]),
		bytes.Compare(a.AggregateID[:], b.AggregateID[:]), cmp.Compare(a.Seq, b.Seq))
}

// Delivery is an event that a consumer still has to handle.
type Delivery struct {
	DeliveryRef
	Type      string
	Reference string
	// Lane is where its jobs go in their queue.
	Lane int16
	// Attempts counts the tries that came to nothing, and Failures those that broke in the consumer's code.
	Attempts, Failures int32
	// At is when the event happened, and WakeAt when it is to be handled.
	At, WakeAt time.Time

	// trace is the event's, as long as it is known: its row does not have it.
	trace string
}

func fromRow(r outboxdb.Deliveries) Delivery {
	return Delivery{
		DeliveryRef: DeliveryRef{r.TenantID, r.AggregateID, r.Seq}, Type: r.Type, Reference: r.Reference,
		Lane: r.Lane, Attempts: r.Attempts, Failures: r.Failures, At: r.CreatedAt, WakeAt: r.WakeAt,
	}
}

func fromRows(rows []outboxdb.Deliveries) []Delivery {
	deliveries := make([]Delivery, len(rows))
	for i, r := range rows {
		deliveries[i] = fromRow(r)
	}
	return deliveries
}

// Deliveries are the arguments of the job that wakes a consumer.
type Deliveries struct {
	Deliveries []DeliveryRef `json:"deliveries"`
}

// deliver queues a delivery for each event that the subscription names, and the jobs.
func (s Subscription) deliver(ctx context.Context, write *pgx.Batch, now time.Time, events []Event) error {
	p := outboxdb.InsertDeliveriesParams{Now: now}
	var fresh []Delivery
	for _, e := range events {
		if !s.wants(e) {
			continue
		}
		d := Delivery{
			DeliveryRef: DeliveryRef{e.TenantID, e.AggregateID, e.Seq}, Lane: max(1, e.Lane), WakeAt: now,
			trace: e.Trace,
		}
		p.Consumers, p.Tenants = append(p.Consumers, s.Consumer), append(p.Tenants, e.TenantID)
		p.Aggregates, p.Seqs = append(p.Aggregates, e.AggregateID), append(p.Seqs, e.Seq)
		p.Types, p.Refs = append(p.Types, e.Type), append(p.Refs, e.Reference)
		p.Lanes, fresh = append(p.Lanes, d.Lane), append(fresh, d)
	}
	if len(fresh) == 0 {
		return nil
	}
	if err := outboxdb.New().InsertDeliveries(ctx, pgtx.Into(write), p); err != nil {
		return err
	}
	return s.wake(write, fresh)
}

// wake queues jobs for deliveries; those that are due at the same time in the same lane share a job.
func (s Subscription) wake(write *pgx.Batch, deliveries []Delivery) error {
	type due struct {
		at   int64
		lane int16
	}
	var order []due
	gathered := map[due][]Delivery{}
	for _, d := range deliveries {
		w := due{d.WakeAt.UnixNano(), d.Lane}
		if gathered[w] == nil {
			order = append(order, w)
		}
		gathered[w] = append(gathered[w], d)
	}
	var jobs []jobqueue.Job
	for _, w := range order {
		for chunk := range slices.Chunk(gathered[w], deliveriesPerJob) {
			job := jobqueue.Job{Queue: s.Queue, Kind: s.Kind, At: time.Unix(0, w.at), Lane: int(w.lane)}
			refs := make([]DeliveryRef, len(chunk))
			for i, d := range chunk {
				refs[i] = d.DeliveryRef
				job.Traces.Add(d.AggregateID, d.trace)
			}
			job.Args = Deliveries{refs}
			jobs = append(jobs, job)
		}
	}
	return jobqueue.Enqueue(write, jobs)
}

// Read reads those of the deliveries that are still to be handled.
func (s Subscription) Read(ctx context.Context, db outboxdb.DBTX, refs []DeliveryRef) ([]Delivery, error) {
	p := outboxdb.ReadDeliveriesParams{Consumer: s.Consumer}
	p.Tenants, p.Aggregates, p.Seqs = columns(refs)
	rows, err := outboxdb.New().ReadDeliveries(ctx, db, p)
	if err != nil {
		return nil, fmt.Errorf("read %d deliveries for %s: %w", len(refs), s.Consumer, err)
	}
	return fromRows(rows), nil
}

func columns(refs []DeliveryRef) ([]uuid.UUID, []uuid.UUID, []int32) {
	tenants, aggregates := make([]uuid.UUID, len(refs)), make([]uuid.UUID, len(refs))
	seqs := make([]int32, len(refs))
	for i, r := range refs {
		tenants[i], aggregates[i], seqs[i] = r.TenantID, r.AggregateID, r.Seq
	}
	return tenants, aggregates, seqs
}

// Sweep wakes deliveries that are due and that no live job names: in health there are none. It returns
// how many it woke.
func (s Subscription) Sweep(ctx context.Context, pool *pgxpool.Pool) (int, error) {
	woken := 0
	err := pgtx.Run(ctx, pool, "sweep deliveries", func(ctx context.Context, tx pgx.Tx) error {
		var err error
		woken, err = s.wakeForgotten(ctx, tx)
		return err
	})
	if pgtx.Raced(err) {
		return 0, nil // a row was handled meanwhile, so it was not forgotten
	}
	if err != nil {
		return 0, fmt.Errorf("sweep deliveries for %s: %w", s.Consumer, err)
	}
	return woken, nil
}

// wakeForgotten looks at jobs and rows in one snapshot, so that no row is taken for forgotten in health.
func (s Subscription) wakeForgotten(ctx context.Context, tx pgx.Tx) (int, error) {
	horizon, err := jobqueue.Horizon(ctx, tx, s.Queue, sweepGrace)
	if err != nil {
		return 0, err
	}
	rows, err := outboxdb.New().SystemWakeForgottenDeliveries(ctx, tx,
		outboxdb.SystemWakeForgottenDeliveriesParams{
			Consumer: s.Consumer, Horizon: horizon, BatchSize: sweepBatchRows,
		})
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	var write pgx.Batch
	if err := s.wake(&write, fromRows(rows)); err != nil {
		return 0, err
	}
	return len(rows), tx.SendBatch(ctx, &write).Close()
}

// Inbox is what one consumer handled, as far as a batch asks: what it knows, and what the batch adds.
type Inbox struct {
	consumer string
	handled  map[DeliveryRef]bool
	fresh    []DeliveryRef
	done     []DeliveryRef
}

// Open queues the look into the inbox. It is filled when the batch is sent.
func (s Subscription) Open(read *pgx.Batch, asked []DeliveryRef) *Inbox {
	i := &Inbox{consumer: s.Consumer, handled: map[DeliveryRef]bool{}}
	if len(asked) > 0 {
		tenants, aggregates, seqs := columns(asked)
		pgtx.Read(read, func(r outboxdb.FindHandledRow) {
			i.handled[DeliveryRef{r.TenantID, r.AggregateID, r.Seq}] = true
		}, outboxdb.FindHandled, tenants, aggregates, seqs, s.Consumer)
	}
	return i
}

// Handled says whether the event was handled before.
func (i *Inbox) Handled(ref DeliveryRef) bool { return i.handled[ref] }

// Done says that the event is handled: Write stores that with the effect, and the delivery goes.
func (i *Inbox) Done(ref DeliveryRef) {
	if !i.handled[ref] {
		i.handled[ref] = true
		i.fresh = append(i.fresh, ref)
	}
	i.done = append(i.done, ref)
}

// Write queues what is done into the batch that writes the effects.
func (i *Inbox) Write(ctx context.Context, write *pgx.Batch, now time.Time) error {
	q, db := outboxdb.New(), pgtx.Into(write)
	if len(i.fresh) > 0 {
		p := outboxdb.InsertHandledParams{Consumer: i.consumer, Now: now}
		p.Tenants, p.Aggregates, p.Seqs = columns(i.fresh)
		if err := q.InsertHandled(ctx, db, p); err != nil {
			return err
		}
	}
	if len(i.done) == 0 {
		return nil
	}
	p := outboxdb.DeleteDeliveriesParams{Consumer: i.consumer}
	p.Tenants, p.Aggregates, p.Seqs = columns(i.done)
	return q.DeleteDeliveries(ctx, db, p)
}
