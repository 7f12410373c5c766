package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/internal/httpapi/internal/publicapi"
	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/webhook"
)

// overlapDefault is how long the secret before signs as well when a client does not say.
const overlapDefault = 24 * time.Hour

// HookWriter makes, changes and removes webhook endpoints.
type HookWriter interface {
	Create(
		ctx context.Context, key idempotency.Keyed, n webhook.New,
		render func(webhook.Endpoint) idempotency.Response,
	) (idempotency.Response, error)
	Change(
		ctx context.Context, key idempotency.Keyed, id uuid.UUID, c webhook.Change,
		render func(webhook.Endpoint) idempotency.Response,
	) (idempotency.Response, error)
	Delete(
		ctx context.Context, key idempotency.Keyed, id uuid.UUID, render func() idempotency.Response,
	) (idempotency.Response, error)
}

// HookReader reads webhook endpoints.
type HookReader interface {
	Endpoint(ctx context.Context, ref webhook.Ref) (webhook.Endpoint, error)
	Endpoints(ctx context.Context, tenantID, after uuid.UUID, limit int) ([]webhook.Endpoint, error)
	// Failing are those of all tenants that have got nothing for a while, the longest first.
	Failing(ctx context.Context, limit int) ([]webhook.Endpoint, error)
}

// HookKeeper pauses and resumes webhook endpoints, and keeps their secrets.
type HookKeeper interface {
	SetStatus(
		ctx context.Context, key idempotency.Keyed, id uuid.UUID, status webhook.Status,
		render func(webhook.Endpoint) idempotency.Response,
	) (idempotency.Response, error)
	RotateSecret(
		ctx context.Context, key idempotency.Keyed, id uuid.UUID, overlap time.Duration,
		render func(webhook.Endpoint) idempotency.Response,
	) (idempotency.Response, error)
	Secret(ctx context.Context, ref webhook.Ref) (webhook.Secrets, error)
}

// Webhooks is the webhook service.
type Webhooks interface {
	HookWriter
	HookReader
	HookKeeper
	HookSender
	HookHistory
}

// CreateWebhookEndpoint makes an endpoint.
func (s *publicServer) CreateWebhookEndpoint(
	ctx context.Context, _ publicapi.CreateWebhookEndpointRequestObject,
) (publicapi.CreateWebhookEndpointResponseObject, error) {
	c := callOf(ctx)
	var in publicapi.NewWebhookEndpoint
	hash, err := decode(c, uuid.Nil, &in)
	if err != nil {
		return nil, err
	}
	render := func(e webhook.Endpoint) idempotency.Response {
		return idempotency.Response{
			Status: http.StatusCreated, Location: hooks + "/" + e.ID.String(), Body: marshal(renderHook(e)),
		}
	}
	response, err := s.cfg.Webhooks.Create(ctx, s.keyed(c, hash), newHook(in), render)
	return stored{response, c}, err
}

func newHook(in publicapi.NewWebhookEndpoint) webhook.New {
	return webhook.New{URL: in.URL, Description: in.Description, Types: in.Types}
}

// ReplaceWebhookEndpoint changes an endpoint.
func (s *publicServer) ReplaceWebhookEndpoint(
	ctx context.Context, in publicapi.ReplaceWebhookEndpointRequestObject,
) (publicapi.ReplaceWebhookEndpointResponseObject, error) {
	c := callOf(ctx)
	var request publicapi.NewWebhookEndpoint
	hash, err := decode(c, in.ID, &request)
	if err != nil {
		return nil, err
	}
	response, err := s.cfg.Webhooks.Change(ctx, s.keyed(c, hash), in.ID, newHook(request),
		hookWith(http.StatusOK))
	return stored{response, c}, err
}

// DeleteWebhookEndpoint removes an endpoint.
func (s *publicServer) DeleteWebhookEndpoint(
	ctx context.Context, in publicapi.DeleteWebhookEndpointRequestObject,
) (publicapi.DeleteWebhookEndpointResponseObject, error) {
	c := callOf(ctx)
	hash, err := decode(c, in.ID, &struct{}{})
	if err != nil {
		return nil, err
	}
	response, err := s.cfg.Webhooks.Delete(ctx, s.keyed(c, hash), in.ID, func() idempotency.Response {
		return idempotency.Response{Status: http.StatusNoContent}
	})
	return stored{response, c}, err
}

// ListWebhookEndpoints pages through a tenant's endpoints, oldest first.
func (s *publicServer) ListWebhookEndpoints(
	ctx context.Context, in publicapi.ListWebhookEndpointsRequestObject,
) (publicapi.ListWebhookEndpointsResponseObject, error) {
	c := callOf(ctx)
	limit, err := pageSize(in.Params.Limit)
	if err != nil {
		return nil, err
	}
	from, err := idPosition(ofHooks, in.Params.Cursor)
	if err != nil {
		return nil, err
	}
	found, err := s.cfg.Webhooks.Endpoints(ctx, c.tenantID, from, limit)
	if err != nil {
		return nil, err
	}
	out := publicapi.WebhookEndpointPage{
		WebhookEndpoints: make([]publicapi.WebhookEndpoint, len(found)),
		NextCursor:       after(found, limit, ofHooks, func(e webhook.Endpoint) uuid.UUID { return e.ID }),
	}
	for i, e := range found {
		out.WebhookEndpoints[i] = renderHook(e)
	}
	return publicapi.ListWebhookEndpoints200JSONResponse{
		Body: out, Headers: publicapi.ListWebhookEndpoints200ResponseHeaders{Link: c.link(out.NextCursor)},
	}, nil
}

// GetWebhookEndpoint reads an endpoint.
func (s *publicServer) GetWebhookEndpoint(
	ctx context.Context, in publicapi.GetWebhookEndpointRequestObject,
) (publicapi.GetWebhookEndpointResponseObject, error) {
	e, err := s.cfg.Webhooks.Endpoint(ctx, webhook.Ref{TenantID: callOf(ctx).tenantID, ID: in.ID})
	if err != nil {
		return nil, err
	}
	return publicapi.GetWebhookEndpoint200JSONResponse(renderHook(e)), nil
}

// PauseWebhookEndpoint lets nothing be sent any more.
func (s *publicServer) PauseWebhookEndpoint(
	ctx context.Context, in publicapi.PauseWebhookEndpointRequestObject,
) (publicapi.PauseWebhookEndpointResponseObject, error) {
	return s.setHookStatus(ctx, in.ID, webhook.Paused)
}

// ResumeWebhookEndpoint goes on where the endpoint was.
func (s *publicServer) ResumeWebhookEndpoint(
	ctx context.Context, in publicapi.ResumeWebhookEndpointRequestObject,
) (publicapi.ResumeWebhookEndpointResponseObject, error) {
	return s.setHookStatus(ctx, in.ID, webhook.Active)
}

func (s *publicServer) setHookStatus(
	ctx context.Context, id uuid.UUID, status webhook.Status,
) (stored, error) {
	c := callOf(ctx)
	hash, err := decode(c, id, &struct{}{})
	if err != nil {
		return stored{}, err
	}
	response, err := s.cfg.Webhooks.SetStatus(ctx, s.keyed(c, hash), id, status, hookWith(http.StatusOK))
	return stored{response, c}, err
}

// GetWebhookSecret reads what messages are signed with. No other answer has it, and no stored one.
func (s *publicServer) GetWebhookSecret(
	ctx context.Context, in publicapi.GetWebhookSecretRequestObject,
) (publicapi.GetWebhookSecretResponseObject, error) {
	secrets, err := s.cfg.Webhooks.Secret(ctx, webhook.Ref{TenantID: callOf(ctx).tenantID, ID: in.ID})
	if err != nil {
		return nil, err
	}
	return publicapi.GetWebhookSecret200JSONResponse{
		Current: secrets.Current, Previous: secrets.Previous, PreviousUntil: inUTC(secrets.PreviousUntil),
	}, nil
}

// RotateWebhookSecret makes a new secret.
func (s *publicServer) RotateWebhookSecret(
	ctx context.Context, in publicapi.RotateWebhookSecretRequestObject,
) (publicapi.RotateWebhookSecretResponseObject, error) {
	c := callOf(ctx)
	var request publicapi.SecretRotation
	hash, err := decode(c, in.ID, &request)
	if err != nil {
		return nil, err
	}
	overlap := overlapDefault
	if given := request.OverlapSeconds; given != nil {
		if most := int64(webhook.OverlapMax / time.Second); *given < 0 || *given > most {
			return nil, problem.Invalid("/overlap_seconds", "%s", fmt.Sprintf("has to be 0 to %d", most))
		}
		overlap = time.Duration(*given) * time.Second
	}
	response, err := s.cfg.Webhooks.RotateSecret(ctx, s.keyed(c, hash), in.ID, overlap,
		hookWith(http.StatusOK))
	return stored{response, c}, err
}

func hookWith(status int) func(webhook.Endpoint) idempotency.Response {
	return func(e webhook.Endpoint) idempotency.Response {
		return idempotency.Response{Status: status, Body: marshal(renderHook(e))}
	}
}

func renderHook(e webhook.Endpoint) publicapi.WebhookEndpoint {
	return publicapi.WebhookEndpoint{
		ID: e.ID, URL: e.URL, Description: e.Description, Types: append([]string{}, e.Types...),
		Status: publicapi.WebhookStatus(e.Status), StatusReason: e.StatusReason, Failures: e.Failures,
		FailingSince: inUTC(e.FailingSince), LastError: e.LastError, SecretVersion: e.SecretVersion,
		CreatedAt: e.CreatedAt.UTC(), UpdatedAt: e.UpdatedAt.UTC(),
	}
}
