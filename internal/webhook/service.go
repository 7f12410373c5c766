package webhook

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/webhook/internal/webhookdb"
)

// Options say how endpoints are made.
type Options struct {
	// Key is the master key that secrets are made of. Without one no endpoint is made.
	Key []byte
	// Development allows http, and addresses of this machine.
	Development bool
	// KnownTypes are the types of events that an endpoint may want; none stands for any.
	KnownTypes []string
	Now        func() time.Time
}

// Service makes, changes and reads endpoints.
type Service struct {
	pool   *pgxpool.Pool
	q      *webhookdb.Queries
	key    []byte
	checks checks
	now    func() time.Time
}

// NewService makes a service on a pool.
func NewService(pool *pgxpool.Pool, o Options) *Service {
	return &Service{pool: pool, q: webhookdb.New(), key: o.Key, now: o.Now, checks: checks{
		addresses: newAddresses(o.Development), development: o.Development, types: o.KnownTypes,
	}}
}

// Create makes an endpoint that gets what happens from now on, once per key.
func (s *Service) Create(
	ctx context.Context, key idempotency.Keyed, n New, render func(Endpoint) idempotency.Response,
) (idempotency.Response, error) {
	if err := s.checks.endpoint(n); err != nil {
		return idempotency.Response{}, err
	}
	if len(s.key) == 0 {
		return idempotency.Response{}, unavailable()
	}
	id, err := uuid.NewV7()
	if err != nil {
		return idempotency.Response{}, fmt.Errorf("make endpoint id: %w", err)
	}
	work := func(ctx context.Context, tx pgx.Tx, now time.Time) (idempotency.Response, error) {
		if err := s.admit(ctx, tx, key.TenantID); err != nil {
			return idempotency.Response{}, err
		}
		row, err := s.q.InsertEndpoint(ctx, tx, webhookdb.InsertEndpointParams{
			ID: id, TenantID: key.TenantID, Url: n.URL, Description: n.Description,
			Types: withoutNil(n.Types), Now: now,
		})
		if err != nil {
			return idempotency.Response{}, fmt.Errorf("insert endpoint %s: %w", id, err)
		}
		return render(endpointOf(row)), nil
	}
	return idempotency.Run(ctx, s.pool, "create webhook endpoint", key, work)
}

// admit refuses one endpoint more than a tenant may have.
func (s *Service) admit(ctx context.Context, tx pgx.Tx, tenantID uuid.UUID) error {
	if _, err := s.q.LockTenant(ctx, tx, tenantID); err != nil {
		return fmt.Errorf("lock tenant %s: %w", tenantID, err)
	}
	n, err := s.q.CountEndpoints(ctx, tx, tenantID)
	if err != nil {
		return fmt.Errorf("count endpoints of tenant %s: %w", tenantID, err)
	}
	if n >= EndpointsMax {
		return problem.New(problem.IllegalTransition, "There are %d endpoints, which are the most.", n)
	}
	return nil
}

// withoutNil makes no types an empty array, which is not NULL.
func withoutNil(types []string) []string {
	if types == nil {
		return []string{}
	}
	return types
}

// Change replaces what a tenant said about an endpoint, once per key.
func (s *Service) Change(
	ctx context.Context, key idempotency.Keyed, id uuid.UUID, c Change,
	render func(Endpoint) idempotency.Response,
) (idempotency.Response, error) {
	if err := s.checks.endpoint(c); err != nil {
		return idempotency.Response{}, err
	}
	change := func(ctx context.Context, tx pgx.Tx, now time.Time) (webhookdb.WebhookEndpoints, error) {
		return s.q.ChangeEndpoint(ctx, tx, webhookdb.ChangeEndpointParams{
			Url: c.URL, Description: c.Description, Types: withoutNil(c.Types), Now: now,
			TenantID: key.TenantID, ID: id,
		})
	}
	return s.update(ctx, key, id, change, render)
}

// SetStatus pauses or resumes an endpoint, once per key. One that is resumed goes on where it was, and is
// tried at once as if it had never failed.
func (s *Service) SetStatus(
	ctx context.Context, key idempotency.Keyed, id uuid.UUID, status Status,
	render func(Endpoint) idempotency.Response,
) (idempotency.Response, error) {
	switch status {
	case Active, Paused:
	case Disabled:
		return idempotency.Response{}, problem.Invalid("/status", "is set by us only")
	default:
		return idempotency.Response{}, problem.Invalid("/status", "has to be active or paused")
	}
	change := func(ctx context.Context, tx pgx.Tx, now time.Time) (webhookdb.WebhookEndpoints, error) {
		row, err := s.q.SetEndpointStatus(ctx, tx, webhookdb.SetEndpointStatusParams{
			Status: string(status), Now: now, TenantID: key.TenantID, ID: id,
		})
		if err != nil || status != Active {
			return row, err
		}
		return row, s.q.RecallBacklog(ctx, tx, recall(row, now))
	}
	return s.update(ctx, key, id, change, render)
}

// RotateSecret makes a new secret, once per key. Messages are signed by both for as long as they overlap.
func (s *Service) RotateSecret(
	ctx context.Context, key idempotency.Keyed, id uuid.UUID, overlap time.Duration,
	render func(Endpoint) idempotency.Response,
) (idempotency.Response, error) {
	if err := checkOverlap(overlap); err != nil {
		return idempotency.Response{}, err
	}
	if len(s.key) == 0 {
		return idempotency.Response{}, unavailable()
	}
	change := func(ctx context.Context, tx pgx.Tx, now time.Time) (webhookdb.WebhookEndpoints, error) {
		return s.q.RotateEndpointSecret(ctx, tx, webhookdb.RotateEndpointSecretParams{
			PreviousUntil: now.Add(overlap), Now: now, TenantID: key.TenantID, ID: id,
		})
	}
	return s.update(ctx, key, id, change, render)
}

// update changes an endpoint, and answers NotFound for one that the tenant does not have.
func (s *Service) update(
	ctx context.Context, key idempotency.Keyed, id uuid.UUID,
	change func(context.Context, pgx.Tx, time.Time) (webhookdb.WebhookEndpoints, error),
	render func(Endpoint) idempotency.Response,
) (idempotency.Response, error) {
	work := func(ctx context.Context, tx pgx.Tx, now time.Time) (idempotency.Response, error) {
		row, err := change(ctx, tx, now)
		if err != nil {
			return idempotency.Response{}, asEndpoint("change", id, err)
		}
		return render(endpointOf(row)), nil
	}
	return idempotency.Run(ctx, s.pool, "change webhook endpoint", key, work)
}

// lock reads an endpoint and keeps it from others, its holder included.
func (s *Service) lock(
	ctx context.Context, tx pgx.Tx, tenantID, id uuid.UUID,
) (webhookdb.WebhookEndpoints, error) {
	row, err := s.q.LockEndpoint(ctx, tx, webhookdb.LockEndpointParams{TenantID: tenantID, ID: id})
	return row, asEndpoint("lock", id, err)
}

// asEndpoint makes the absence of an endpoint a problem.
func asEndpoint(verb string, id uuid.UUID, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pgx.ErrNoRows):
		return problem.New(problem.NotFound, "Webhook endpoint %s does not exist.", id)
	}
	return fmt.Errorf("%s endpoint %s: %w", verb, id, err)
}

// Delete removes an endpoint with all that still waits for it, once per key. What is on its way arrives.
func (s *Service) Delete(
	ctx context.Context, key idempotency.Keyed, id uuid.UUID, render func() idempotency.Response,
) (idempotency.Response, error) {
	work := func(ctx context.Context, tx pgx.Tx, _ time.Time) (idempotency.Response, error) {
		if _, err := s.lock(ctx, tx, key.TenantID, id); err != nil {
			return idempotency.Response{}, err
		}
		err := s.q.DeleteEndpoint(ctx, tx, webhookdb.DeleteEndpointParams{TenantID: key.TenantID, ID: id})
		if err != nil {
			return idempotency.Response{}, fmt.Errorf("delete endpoint %s: %w", id, err)
		}
		return render(), nil
	}
	return idempotency.Run(ctx, s.pool, "delete webhook endpoint", key, work)
}

// Secret tells what an endpoint's messages are signed with.
func (s *Service) Secret(ctx context.Context, ref Ref) (Secrets, error) {
	if len(s.key) == 0 {
		return Secrets{}, unavailable()
	}
	row, err := s.get(ctx, ref)
	if err != nil {
		return Secrets{}, err
	}
	secrets := Secrets{Current: secretText(s.key, row.ID, row.SecretVersion)}
	if until := pgtx.OrZero(row.PreviousUntil); s.now().Before(until) {
		secrets.Previous, secrets.PreviousUntil = secretText(s.key, row.ID, row.SecretVersion-1), until
	}
	return secrets, nil
}
