package webhook

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/cloudevent"
	"example.com/holdfast/internal/webhook/internal/webhookdb"
)

// pageSize keeps a caller's limit between one row and PageMaxRows.
func pageSize(limit int) int32 { return int32(min(max(limit, 1), PageMaxRows)) }

func (s *Service) get(ctx context.Context, ref Ref) (webhookdb.WebhookEndpoints, error) {
	row, err := s.q.GetEndpoint(ctx, s.pool, webhookdb.GetEndpointParams{TenantID: ref.TenantID, ID: ref.ID})
	return row, asEndpoint("read", ref.ID, err)
}

// Endpoint reads an endpoint.
func (s *Service) Endpoint(ctx context.Context, ref Ref) (Endpoint, error) {
	row, err := s.get(ctx, ref)
	if err != nil {
		return Endpoint{}, err
	}
	return endpointOf(row), nil
}

// Endpoints reads a page of a tenant's endpoints after an id, the oldest first.
func (s *Service) Endpoints(ctx context.Context, tenantID, after uuid.UUID, limit int) ([]Endpoint, error) {
	rows, err := s.q.ListEndpoints(ctx, s.pool, webhookdb.ListEndpointsParams{
		TenantID: tenantID, After: after, PageSize: pageSize(limit),
	})
	if err != nil {
		return nil, fmt.Errorf("list endpoints of tenant %s: %w", tenantID, err)
	}
	return endpointsOf(rows), nil
}

func endpointsOf(rows []webhookdb.WebhookEndpoints) []Endpoint {
	endpoints := make([]Endpoint, len(rows))
	for i, r := range rows {
		endpoints[i] = endpointOf(r)
	}
	return endpoints
}

// Failing reads the endpoints of all tenants that have got nothing for a while or are disabled, the longest
// first.
func (s *Service) Failing(ctx context.Context, limit int) ([]Endpoint, error) {
	rows, err := s.q.SystemFailingEndpoints(ctx, s.pool, pageSize(limit))
	if err != nil {
		return nil, fmt.Errorf("list failing endpoints: %w", err)
	}
	return endpointsOf(rows), nil
}

// Attempts reads what was sent to an endpoint, newest first: a page before an attempt's id, or the first page
// for 0.
func (s *Service) Attempts(ctx context.Context, ref Ref, before int64, limit int) ([]Attempt, error) {
	if _, err := s.get(ctx, ref); err != nil {
		return nil, err
	}
	if before == 0 {
		before = math.MaxInt64
	}
	rows, err := s.q.ListAttempts(ctx, s.pool, webhookdb.ListAttemptsParams{
		EndpointID: ref.ID, TenantID: ref.TenantID, Before: before, PageSize: pageSize(limit),
	})
	if err != nil {
		return nil, fmt.Errorf("list attempts of endpoint %s: %w", ref.ID, err)
	}
	attempts := make([]Attempt, len(rows))
	for i, r := range rows {
		attempts[i] = Attempt{
			ID: r.ID, EventID: r.EventID, EventType: r.EventType, Kind: r.Kind, At: r.At, Outcome: r.Outcome,
			Status: int(r.Status), Duration: time.Duration(r.TookUs) * time.Microsecond, Error: r.Error,
			Attempt: int(r.Attempt),
		}
	}
	return attempts, nil
}

// DeadLetters reads a page of an endpoint's dead events after a place, in the order of their places.
func (s *Service) DeadLetters(ctx context.Context, ref Ref, after int64, limit int) ([]Dead, error) {
	if _, err := s.get(ctx, ref); err != nil {
		return nil, err
	}
	rows, err := s.q.ListDead(ctx, s.pool, webhookdb.ListDeadParams{
		EndpointID: ref.ID, TenantID: ref.TenantID, After: after, PageSize: pageSize(limit),
	})
	if err != nil {
		return nil, fmt.Errorf("list dead events of endpoint %s: %w", ref.ID, err)
	}
	dead := make([]Dead, len(rows))
	for i, r := range rows {
		dead[i] = deadOf(r)
	}
	return dead, nil
}

func deadOf(r webhookdb.ListDeadRow) Dead {
	return Dead{
		Place: r.Place, EventID: cloudevent.ID(r.AggregateID, r.Seq), EventType: r.Type,
		Attempts: int(r.Attempts), LastStatus: int(r.LastStatus), LastError: r.LastError,
		FirstFailedAt: r.FirstFailedAt, DeadAt: r.DeadAt, Behind: int(r.Behind),
	}
}

// DeadAll reads the dead events of all tenants, the latest first.
func (s *Service) DeadAll(ctx context.Context, limit int) ([]DeadOf, error) {
	rows, err := s.q.SystemListDead(ctx, s.pool, pageSize(limit))
	if err != nil {
		return nil, fmt.Errorf("list dead events: %w", err)
	}
	dead := make([]DeadOf, len(rows))
	for i, r := range rows {
		dead[i] = DeadOf{Ref{r.TenantID, r.EndpointID}, r.Url, deadOf(webhookdb.ListDeadRow{
			Place: r.Place, AggregateID: r.AggregateID, Seq: r.Seq, Type: r.Type, Attempts: r.Attempts,
			LastStatus: r.LastStatus, LastError: r.LastError, FirstFailedAt: r.FirstFailedAt,
			DeadAt: r.DeadAt, Behind: r.Behind,
		})}
	}
	return dead, nil
}

// statsMax is up to where Stats count.
const statsMax = 10_000

// Stats counts what is wrong over all tenants, each up to statsMax.
type Stats struct {
	// Failing endpoints have got nothing for a while, Disabled ones are not sent to any more, and Dead events
	// wait for somebody.
	Failing, Disabled, Dead int
}

// ReadStats counts what is wrong over all tenants.
func ReadStats(ctx context.Context, pool *pgxpool.Pool) (Stats, error) {
	row, err := webhookdb.New().SystemCountEndpoints(ctx, pool, statsMax)
	if err != nil {
		return Stats{}, fmt.Errorf("count endpoints: %w", err)
	}
	return Stats{Failing: int(row.Failing), Disabled: int(row.Disabled), Dead: int(row.Dead)}, nil
}
