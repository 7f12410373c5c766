package httpapi

import (
	"context"
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/internal/httpapi/internal/adminapi"
	"example.com/holdfast/internal/outbox"
)

// Queue is a queue with the age of the oldest due job of each of its lanes, the first lane first.
type Queue struct {
	Name string
	Ages []time.Duration
}

// BusyTenant is a tenant with how much of its work is open, of the most urgent of all.
type BusyTenant struct {
	TenantID          uuid.UUID
	Transfers, Orders int
}

// The kinds of a dead letter.
const (
	DeadTransfer = "transfer"
	DeadOrder    = "order"
	DeadDelivery = "delivery"
	DeadJob      = "job"
	DeadWebhook  = "webhook"
)

// DeadLetter is something that was given up.
type DeadLetter struct {
	// Kind is one of the above. Transfers and orders have a Status, deliveries and webhooks an Event and its
	// Consumer, which of a webhook is the endpoint, and jobs their kind and Queue; a job has no tenant.
	Kind            string
	TenantID        uuid.UUID
	ID              string
	Status          string
	Event, Consumer string
	Job, Queue      string
	// Reason is why it was given up, after how many Attempts, and what came of the last one.
	Reason    string
	Attempts  int
	LastError string
	At        time.Time
}

// Backlog tells of work that waits, and of work that was given up.
type Backlog interface {
	Queues(ctx context.Context) ([]Queue, error)
	// Busiest are the tenants with the most open work, the busiest first.
	Busiest(ctx context.Context) ([]BusyTenant, error)
	// DeadLetters are the latest so many, the latest first.
	DeadLetters(ctx context.Context, limit int) ([]DeadLetter, error)
	// Outbox tells how far the way out of events is behind.
	Outbox(ctx context.Context) (outbox.Lag, error)
}

// ListQueues tells how long due work has waited, and whose work is open.
func (s *adminServer) ListQueues(
	ctx context.Context, _ adminapi.ListQueuesRequestObject,
) (adminapi.ListQueuesResponseObject, error) {
	found, err := s.cfg.Backlog.Queues(ctx)
	if err != nil {
		return nil, err
	}
	busy, err := s.cfg.Backlog.Busiest(ctx)
	if err != nil {
		return nil, err
	}
	out := adminapi.ListQueues200JSONResponse{
		Queues: make([]adminapi.Queue, len(found)), Busiest: make([]adminapi.BusyTenant, len(busy)),
	}
	for i, t := range busy {
		out.Busiest[i] = adminapi.BusyTenant{
			TenantID: t.TenantID, Transfers: t.Transfers, Orders: t.Orders,
		}
	}
	for i, q := range found {
		lanes := make([]adminapi.QueueLane, len(q.Ages))
		for lane, age := range q.Ages {
			lanes[lane] = adminapi.QueueLane{Lane: lane + 1, AgeSeconds: age.Seconds()}
		}
		out.Queues[i] = adminapi.Queue{Queue: q.Name, Lanes: lanes}
	}
	return out, nil
}

// ListDeadLetters tells what was given up. The errors are shown as they are: who signs in here may see them.
func (s *adminServer) ListDeadLetters(
	ctx context.Context, in adminapi.ListDeadLettersRequestObject,
) (adminapi.ListDeadLettersResponseObject, error) {
	limit, err := pageSize(in.Params.Limit)
	if err != nil {
		return nil, err
	}
	found, err := s.cfg.Backlog.DeadLetters(ctx, limit)
	if err != nil {
		return nil, err
	}
	out := adminapi.ListDeadLetters200JSONResponse{DeadLetters: make([]adminapi.DeadLetter, len(found))}
	for i, d := range found {
		out.DeadLetters[i] = adminapi.DeadLetter{
			Kind: adminapi.DeadLetterKind(d.Kind), TenantID: d.TenantID, ID: d.ID, Status: d.Status,
			Event: d.Event, Consumer: d.Consumer, Job: d.Job, Queue: d.Queue, Reason: d.Reason,
			Attempts: d.Attempts, LastError: d.LastError, At: d.At.UTC(),
		}
	}
	return out, nil
}

// GetOutbox tells how far the way out of events is behind.
func (s *adminServer) GetOutbox(
	ctx context.Context, _ adminapi.GetOutboxRequestObject,
) (adminapi.GetOutboxResponseObject, error) {
	lag, err := s.cfg.Backlog.Outbox(ctx)
	if err != nil {
		return nil, err
	}
	out := adminapi.GetOutbox200JSONResponse{
		AgeSeconds: lag.Outbox.Seconds(), Last: lag.Last, Sinks: make([]adminapi.OutboxSink, len(lag.Sinks)),
		Consumers: make([]adminapi.OutboxConsumer, len(lag.Consumers)),
		Unhandled: make([]adminapi.OutboxUnhandled, len(lag.Unhandled)),
	}
	for i, sink := range lag.Sinks {
		out.Sinks[i] = adminapi.OutboxSink{
			Sink: sink.Name, Events: sink.Events, AgeSeconds: sink.Age.Seconds(),
		}
	}
	for i, c := range lag.Consumers {
		out.Consumers[i] = adminapi.OutboxConsumer{Consumer: c.Name, AgeSeconds: c.Age.Seconds()}
	}
	for i, u := range lag.Unhandled {
		out.Unhandled[i] = adminapi.OutboxUnhandled{Consumer: u.Consumer, Type: u.Type, Events: u.Events}
	}
	return out, nil
}
