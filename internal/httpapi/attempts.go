package httpapi

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"example.com/holdfast/internal/httpapi/internal/adminapi"
	"example.com/holdfast/internal/httpapi/internal/publicapi"
	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/webhook"
)

// HookSender lets messages be sent that nothing happened for.
type HookSender interface {
	Ping(
		ctx context.Context, key idempotency.Keyed, id uuid.UUID,
		render func(webhook.Endpoint) idempotency.Response,
	) (idempotency.Response, error)
	Resend(
		ctx context.Context, key idempotency.Keyed, id uuid.UUID, span webhook.Span,
		render func(events int64) idempotency.Response,
	) (idempotency.Response, error)
	// Redrive lets go again what was given up.
	Redrive(
		ctx context.Context, key idempotency.Keyed, id uuid.UUID,
		render func(events int) idempotency.Response,
	) (idempotency.Response, error)
}

// HookHistory tells what was sent, and what was given up.
type HookHistory interface {
	// Attempts are those before an attempt's id, newest first; 0 begins with the newest.
	Attempts(ctx context.Context, ref webhook.Ref, before int64, limit int) ([]webhook.Attempt, error)
	// DeadLetters are those after a place, in the order of their places.
	DeadLetters(ctx context.Context, ref webhook.Ref, after int64, limit int) ([]webhook.Dead, error)
}

// PingWebhookEndpoint lets an endpoint be tried out.
func (s *publicServer) PingWebhookEndpoint(
	ctx context.Context, in publicapi.PingWebhookEndpointRequestObject,
) (publicapi.PingWebhookEndpointResponseObject, error) {
	c := callOf(ctx)
	hash, err := decode(c, in.ID, &struct{}{})
	if err != nil {
		return nil, err
	}
	response, err := s.cfg.Webhooks.Ping(ctx, s.keyed(c, hash), in.ID, hookWith(http.StatusAccepted))
	return stored{response, c}, err
}

// ResendWebhookEvents lets events go again.
func (s *publicServer) ResendWebhookEvents(
	ctx context.Context, in publicapi.ResendWebhookEventsRequestObject,
) (publicapi.ResendWebhookEventsResponseObject, error) {
	c := callOf(ctx)
	var request publicapi.WebhookResend
	hash, err := decode(c, in.ID, &request)
	if err != nil {
		return nil, err
	}
	span := webhook.Span{EventID: request.EventID, From: request.From, To: request.To}
	response, err := s.cfg.Webhooks.Resend(ctx, s.keyed(c, hash), in.ID, span,
		func(events int64) idempotency.Response {
			return idempotency.Response{
				Status: http.StatusAccepted, Body: marshal(publicapi.WebhookResent{Events: events}),
			}
		})
	return stored{response, c}, err
}

// ListWebhookAttempts pages through what was sent to an endpoint, newest first.
func (s *publicServer) ListWebhookAttempts(
	ctx context.Context, in publicapi.ListWebhookAttemptsRequestObject,
) (publicapi.ListWebhookAttemptsResponseObject, error) {
	c := callOf(ctx)
	limit, err := pageSize(in.Params.Limit)
	if err != nil {
		return nil, err
	}
	before, err := numberPosition(ofAttempts, in.Params.Cursor, 0)
	if err != nil {
		return nil, err
	}
	ref := webhook.Ref{TenantID: c.tenantID, ID: in.ID}
	found, err := s.cfg.Webhooks.Attempts(ctx, ref, before, limit)
	if err != nil {
		return nil, err
	}
	out := publicapi.WebhookAttemptPage{
		Attempts:   make([]publicapi.WebhookAttempt, len(found)),
		NextCursor: behindNumber(found, limit, ofAttempts, func(a webhook.Attempt) int64 { return a.ID }),
	}
	for i, a := range found {
		out.Attempts[i] = publicapi.WebhookAttempt{
			EventID: a.EventID, EventType: a.EventType, Kind: publicapi.WebhookAttemptKind(a.Kind),
			Attempt: a.Attempt, At: a.At.UTC(), Outcome: a.Outcome, Status: a.Status,
			DurationMs: a.Duration.Milliseconds(), Error: a.Error,
		}
	}
	return publicapi.ListWebhookAttempts200JSONResponse{
		Body: out, Headers: publicapi.ListWebhookAttempts200ResponseHeaders{Link: c.link(out.NextCursor)},
	}, nil
}

// ListWebhookDeadLetters pages through what was given up, in the order of the log.
func (s *publicServer) ListWebhookDeadLetters(
	ctx context.Context, in publicapi.ListWebhookDeadLettersRequestObject,
) (publicapi.ListWebhookDeadLettersResponseObject, error) {
	c := callOf(ctx)
	limit, err := pageSize(in.Params.Limit)
	if err != nil {
		return nil, err
	}
	from, err := numberPosition(ofDeadHooks, in.Params.Cursor, 0)
	if err != nil {
		return nil, err
	}
	ref := webhook.Ref{TenantID: c.tenantID, ID: in.ID}
	found, err := s.cfg.Webhooks.DeadLetters(ctx, ref, from, limit)
	if err != nil {
		return nil, err
	}
	out := publicapi.WebhookDeadLetterPage{
		DeadLetters: make([]publicapi.WebhookDeadLetter, len(found)),
		NextCursor:  behindNumber(found, limit, ofDeadHooks, func(d webhook.Dead) int64 { return d.Place }),
	}
	for i, d := range found {
		out.DeadLetters[i] = publicapi.WebhookDeadLetter{
			EventID: d.EventID, EventType: d.EventType, Attempts: d.Attempts, LastStatus: d.LastStatus,
			LastError: d.LastError, FirstFailedAt: d.FirstFailedAt.UTC(), DeadAt: d.DeadAt.UTC(),
			Behind: d.Behind,
		}
	}
	return publicapi.ListWebhookDeadLetters200JSONResponse{
		Body: out, Headers: publicapi.ListWebhookDeadLetters200ResponseHeaders{Link: c.link(out.NextCursor)},
	}, nil
}

// RedriveWebhookDeadLetters lets all go again that was given up.
func (s *publicServer) RedriveWebhookDeadLetters(
	ctx context.Context, in publicapi.RedriveWebhookDeadLettersRequestObject,
) (publicapi.RedriveWebhookDeadLettersResponseObject, error) {
	return s.redrive(ctx, in.ID)
}

func (s *shared) redrive(ctx context.Context, id uuid.UUID) (stored, error) {
	c := callOf(ctx)
	hash, err := decode(c, id, &struct{}{})
	if err != nil {
		return stored{}, err
	}
	response, err := s.cfg.Webhooks.Redrive(ctx, s.keyed(c, hash), id, func(n int) idempotency.Response {
		return idempotency.Response{
			Status: http.StatusAccepted, Body: marshal(publicapi.WebhookRedriven{Events: n}),
		}
	})
	return stored{response, c}, err
}

// RedriveWebhookEndpoint does for a tenant what RedriveWebhookDeadLetters does.
func (s *adminServer) RedriveWebhookEndpoint(
	ctx context.Context, in adminapi.RedriveWebhookEndpointRequestObject,
) (adminapi.RedriveWebhookEndpointResponseObject, error) {
	callOf(ctx).tenantID = in.TenantID
	return s.redrive(ctx, in.ID)
}

// ListFailingWebhookEndpoints lists the endpoints of all tenants that have got nothing for a while.
func (s *adminServer) ListFailingWebhookEndpoints(
	ctx context.Context, in adminapi.ListFailingWebhookEndpointsRequestObject,
) (adminapi.ListFailingWebhookEndpointsResponseObject, error) {
	limit, err := pageSize(in.Params.Limit)
	if err != nil {
		return nil, err
	}
	found, err := s.cfg.Webhooks.Failing(ctx, limit)
	if err != nil {
		return nil, err
	}
	out := adminapi.ListFailingWebhookEndpoints200JSONResponse{
		WebhookEndpoints: make([]adminapi.FailingWebhookEndpoint, len(found)),
	}
	for i, e := range found {
		out.WebhookEndpoints[i] = adminapi.FailingWebhookEndpoint{
			TenantID: e.TenantID, WebhookEndpoint: renderHook(e),
		}
	}
	return out, nil
}
