package webhook

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/webhook/internal/webhookdb"
)

const (
	// resendsMax and pingsMax bound what an endpoint has to do at a time.
	resendsMax = 10
	pingsMax   = 3
	// resendMaxRows bounds a range by its rows in the log, each of which has 1 to 64 events.
	resendMaxRows = 100_000
)

// Ping lets a worker send a message of cloudevent.PingType soon, once per key. What comes of it is among the
// attempts.
func (s *Service) Ping(
	ctx context.Context, key idempotency.Keyed, id uuid.UUID, render func(Endpoint) idempotency.Response,
) (idempotency.Response, error) {
	work := func(ctx context.Context, tx pgx.Tx, now time.Time) (idempotency.Response, error) {
		row, err := s.lock(ctx, tx, key.TenantID, id)
		if err != nil {
			return idempotency.Response{}, err
		}
		if Status(row.Status) != Active {
			return idempotency.Response{}, problem.New(problem.IllegalTransition,
				"The endpoint is %s; only an active one is sent to.", row.Status)
		}
		task := webhookdb.InsertTaskParams{Kind: KindPing, Now: now}
		if err := s.addTask(ctx, tx, row, task, pingsMax); err != nil {
			return idempotency.Response{}, err
		}
		if err := s.wake(ctx, tx, row, now); err != nil {
			return idempotency.Response{}, err
		}
		return render(endpointOf(row)), nil
	}
	return idempotency.Run(ctx, s.pool, "ping webhook endpoint", key, work)
}

// addTask asks whoever holds the endpoint next for something, of which there may be only so many.
func (s *Service) addTask(
	ctx context.Context, tx pgx.Tx, e webhookdb.WebhookEndpoints, task webhookdb.InsertTaskParams, most int32,
) error {
	n, err := s.q.CountTasks(ctx, tx, webhookdb.CountTasksParams{
		EndpointID: e.ID, TenantID: e.TenantID, Kind: task.Kind,
	})
	if err != nil {
		return fmt.Errorf("count tasks of endpoint %s: %w", e.ID, err)
	}
	if n >= most {
		return problem.New(problem.IllegalTransition,
			"There are %d under way already, which are the most.", n)
	}
	task.EndpointID, task.TenantID = e.ID, e.TenantID
	if err := s.q.InsertTask(ctx, tx, task); err != nil {
		return fmt.Errorf("insert task of endpoint %s: %w", e.ID, err)
	}
	return nil
}

func (s *Service) wake(
	ctx context.Context, tx pgx.Tx, e webhookdb.WebhookEndpoints, now time.Time,
) error {
	err := s.q.WakeEndpoint(ctx, tx, webhookdb.WakeEndpointParams{Now: now, TenantID: e.TenantID, ID: e.ID})
	if err != nil {
		return fmt.Errorf("wake endpoint %s: %w", e.ID, err)
	}
	return nil
}

// Resend lets events that the endpoint is past go again, once per key: those that it wants now, under their
// ids. render is told how many there are at most. What is still in the backlog is left to it.
func (s *Service) Resend(
	ctx context.Context, key idempotency.Keyed, id uuid.UUID, span Span,
	render func(events int64) idempotency.Response,
) (idempotency.Response, error) {
	if err := span.check(); err != nil {
		return idempotency.Response{}, err
	}
	work := func(ctx context.Context, tx pgx.Tx, now time.Time) (idempotency.Response, error) {
		row, err := s.lock(ctx, tx, key.TenantID, id)
		if err != nil {
			return idempotency.Response{}, err
		}
		places, events, err := s.places(ctx, tx, row, span)
		if err != nil {
			return idempotency.Response{}, err
		}
		if events > 0 {
			task := webhookdb.InsertTaskParams{
				Kind: KindResend, Done: places.Forgotten, Last: places.Last, Now: now,
			}
			if err := s.addTask(ctx, tx, row, task, resendsMax); err != nil {
				return idempotency.Response{}, err
			}
		}
		return render(events), nil
	}
	return idempotency.Run(ctx, s.pool, "resend webhook events", key, work)
}

// places finds what a span stands for in the log, up to where the endpoint is, and how many events that are.
func (s *Service) places(
	ctx context.Context, tx pgx.Tx, e webhookdb.WebhookEndpoints, span Span,
) (outbox.Extent, int64, error) {
	if span.EventID != "" {
		place, err := s.placeOf(ctx, tx, e, span.EventID)
		return outbox.Extent{Forgotten: place - 1, Last: place}, 1, err
	}
	after, err := outbox.PlaceAt(ctx, tx, span.From)
	if err != nil {
		return outbox.Extent{}, 0, err
	}
	last, err := outbox.PlaceAt(ctx, tx, span.To)
	if err != nil {
		return outbox.Extent{}, 0, err
	}
	places := outbox.Extent{Forgotten: after, Last: min(last, e.Place)}
	if places.Last <= places.Forgotten {
		return places, 0, nil
	}
	events, err := outbox.CountLog(ctx, tx, e.TenantID, places, resendMaxRows)
	if err == nil && events >= resendMaxRows {
		err = problem.Invalid("/from", "stands for more than %d events", resendMaxRows)
	}
	return places, events, err
}

// placeOf finds the place of one event that the endpoint is past.
func (s *Service) placeOf(
	ctx context.Context, tx pgx.Tx, e webhookdb.WebhookEndpoints, eventID string,
) (int64, error) {
	unknown := problem.New(problem.NotFound, "There is no event of this id.")
	ref, ok := parseID(eventID)
	if !ok {
		return 0, unknown
	}
	events, err := outbox.Read(ctx, tx, e.TenantID, []outbox.Ref{ref})
	if err != nil {
		return 0, err
	}
	event, ok := events[ref]
	if !ok {
		return 0, unknown
	}
	place, ok, err := outbox.FindPlace(ctx, tx, event)
	switch {
	case err != nil:
		return 0, err
	case !ok:
		return 0, problem.New(problem.IllegalTransition, "The event is not in the log, yet or any more.")
	case place > e.Place:
		return 0, problem.New(problem.IllegalTransition, "The event was not sent yet, and will be.")
	}
	return place, nil
}

// parseID reads the id of a message; see cloudevent.ID.
func parseID(id string) (outbox.Ref, bool) {
	cut := strings.LastIndexByte(id, '-')
	if cut < 0 {
		return outbox.Ref{}, false
	}
	aggregate, err := uuid.Parse(id[:cut])
	if err != nil || aggregate.String() != id[:cut] {
		return outbox.Ref{}, false
	}
	seq, err := strconv.ParseInt(id[cut+1:], 10, 32)
	if err != nil || seq < 1 {
		return outbox.Ref{}, false
	}
	return outbox.Ref{AggregateID: aggregate, Seq: int32(seq)}, true
}

// Redrive lets all dead events of an endpoint go again, once per key, and what waits behind them afterwards.
func (s *Service) Redrive(
	ctx context.Context, key idempotency.Keyed, id uuid.UUID, render func(events int) idempotency.Response,
) (idempotency.Response, error) {
	work := func(ctx context.Context, tx pgx.Tx, now time.Time) (idempotency.Response, error) {
		row, err := s.lock(ctx, tx, key.TenantID, id)
		if err != nil {
			return idempotency.Response{}, err
		}
		n, err := s.q.RedriveDead(ctx, tx, webhookdb.RedriveDeadParams{
			Now: now, EndpointID: id, TenantID: key.TenantID,
		})
		if err != nil {
			return idempotency.Response{}, fmt.Errorf("redrive dead events of endpoint %s: %w", id, err)
		}
		if err := s.wake(ctx, tx, row, now); err != nil {
			return idempotency.Response{}, err
		}
		return render(int(n)), nil
	}
	return idempotency.Run(ctx, s.pool, "redrive dead webhook events", key, work)
}
