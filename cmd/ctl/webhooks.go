package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/webhook"
)

//nolint:lll // help texts are struct tags
type webhookCmd struct {
	List     listWebhooksCmd    `cmd:"" help:"Print the webhook endpoints of a tenant, or those of all tenants that fail or are disabled."`
	Show     showWebhookCmd     `cmd:"" help:"Print a webhook endpoint."`
	Attempts webhookAttemptsCmd `cmd:"" help:"Print what was sent to a webhook endpoint and what came of it, the latest first."`
	Redrive  redriveWebhookCmd  `cmd:"" help:"Send again what a webhook endpoint did not take and was given up."`
	Pause    pauseWebhookCmd    `cmd:"" help:"Send nothing to a webhook endpoint any more; its events wait in the log."`
	Resume   resumeWebhookCmd   `cmd:"" help:"Go on where a paused or disabled webhook endpoint was."`
}

// attemptsMax bounds a list of attempts.
const attemptsMax = webhook.PageMaxRows

type listWebhooksCmd struct {
	output

	Tenant string `help:"Name or id of the tenant. Without it, those of all tenants that do not work."`
}

// Run prints the endpoints.
func (c *listWebhooksCmd) Run(ctx context.Context) error { return atDesk(ctx, c.do) }

func (c *listWebhooksCmd) do(ctx context.Context, d desk) error {
	found, err := c.find(ctx, d)
	if err != nil {
		return err
	}
	lines := make([]webhookLine, len(found))
	for i, e := range found {
		lines[i] = lineOfWebhook(e)
	}
	return show(d.out, c.JSON, lines, webhookHeader)
}

func (c *listWebhooksCmd) find(ctx context.Context, d desk) ([]webhook.Endpoint, error) {
	if c.Tenant == "" {
		return d.webhooks.Failing(ctx, webhook.PageMaxRows)
	}
	tenantID, err := d.tenant(ctx, c.Tenant)
	if err != nil {
		return nil, err
	}
	return d.webhooks.Endpoints(ctx, tenantID, uuid.Nil, webhook.PageMaxRows)
}

// endpoint names a webhook endpoint.
type endpoint struct {
	output

	Tenant string    `required:"" help:"Name or id of the tenant."`
	ID     uuid.UUID `arg:"" help:"Id of the endpoint, as in the list."`
}

func (e endpoint) ref(ctx context.Context, d desk) (webhook.Ref, error) {
	tenantID, err := d.tenant(ctx, e.Tenant)
	return webhook.Ref{TenantID: tenantID, ID: e.ID}, err
}

// once is a key for a change that is asked for by hand: each time it is another one.
func once(ref webhook.Ref) idempotency.Keyed {
	key := idempotency.Key{TenantID: ref.TenantID, Key: actor() + "/" + uuid.NewString()}
	return idempotency.Keyed{Key: key}
}

type showWebhookCmd struct{ endpoint }

// Run prints the endpoint.
func (c *showWebhookCmd) Run(ctx context.Context) error { return atDesk(ctx, c.do) }

func (c *showWebhookCmd) do(ctx context.Context, d desk) error {
	ref, err := c.ref(ctx, d)
	if err != nil {
		return err
	}
	e, err := d.webhooks.Endpoint(ctx, ref)
	if err != nil {
		return explained(err)
	}
	return show(d.out, c.JSON, []webhookLine{lineOfWebhook(e)}, webhookHeader)
}

type webhookAttemptsCmd struct {
	endpoint

	Limit int `default:"50" help:"How many to print at most; 1 to 200."`
}

// Run prints the attempts.
func (c *webhookAttemptsCmd) Run(ctx context.Context) error { return atDesk(ctx, c.do) }

func (c *webhookAttemptsCmd) do(ctx context.Context, d desk) error {
	if c.Limit < 1 || c.Limit > attemptsMax {
		return fmt.Errorf("--limit has to be 1 to %d", attemptsMax)
	}
	ref, err := c.ref(ctx, d)
	if err != nil {
		return err
	}
	found, err := d.webhooks.Attempts(ctx, ref, 0, c.Limit)
	if err != nil {
		return explained(err)
	}
	lines := make([]attemptLine, len(found))
	for i, a := range found {
		lines[i] = lineOfAttempt(a)
	}
	return show(d.out, c.JSON, lines, attemptHeader)
}

type redriveWebhookCmd struct{ endpoint }

// Run lets go again what was given up, and prints how many events that are.
func (c *redriveWebhookCmd) Run(ctx context.Context) error { return atDesk(ctx, c.do) }

func (c *redriveWebhookCmd) do(ctx context.Context, d desk) error {
	ref, err := c.ref(ctx, d)
	if err != nil {
		return err
	}
	events := 0
	_, err = d.webhooks.Redrive(ctx, once(ref), ref.ID, func(n int) idempotency.Response {
		events = n
		return idempotency.Response{Status: done}
	})
	if err != nil {
		return explained(err)
	}
	return show(d.out, c.JSON, []redrivenLine{{ref.ID, events}}, redrivenHeader)
}

type pauseWebhookCmd struct{ endpoint }

// Run pauses the endpoint and prints it.
func (c *pauseWebhookCmd) Run(ctx context.Context) error { return atDesk(ctx, c.do) }

func (c *pauseWebhookCmd) do(ctx context.Context, d desk) error { return c.set(ctx, d, webhook.Paused) }

type resumeWebhookCmd struct{ endpoint }

// Run resumes the endpoint and prints it.
func (c *resumeWebhookCmd) Run(ctx context.Context) error { return atDesk(ctx, c.do) }

func (c *resumeWebhookCmd) do(ctx context.Context, d desk) error {
	return c.set(ctx, d, webhook.Active)
}

func (e endpoint) set(ctx context.Context, d desk, status webhook.Status) error {
	ref, err := e.ref(ctx, d)
	if err != nil {
		return err
	}
	var changed webhook.Endpoint
	_, err = d.webhooks.SetStatus(ctx, once(ref), ref.ID, status,
		func(now webhook.Endpoint) idempotency.Response {
			changed = now
			return idempotency.Response{Status: done}
		})
	if err != nil {
		return explained(err)
	}
	return show(d.out, e.JSON, []webhookLine{lineOfWebhook(changed)}, webhookHeader)
}

// done is the status of a stored answer that nobody asks for.
const done = 204

type webhookLine struct {
	TenantID     uuid.UUID `json:"tenant_id"`
	ID           uuid.UUID `json:"id"`
	URL          string    `json:"url"`
	Types        []string  `json:"types"`
	Status       string    `json:"status"`
	StatusReason string    `json:"status_reason,omitzero"`
	Failures     int32     `json:"failures"`
	FailingSince time.Time `json:"failing_since,omitzero"`
	LastError    string    `json:"last_error,omitzero"`
}

func lineOfWebhook(e webhook.Endpoint) webhookLine {
	line := webhookLine{
		e.TenantID, e.ID, e.URL, append([]string{}, e.Types...), string(e.Status), e.StatusReason, e.Failures,
		e.FailingSince, e.LastError,
	}
	if !line.FailingSince.IsZero() {
		line.FailingSince = line.FailingSince.UTC()
	}
	return line
}

func (l webhookLine) cells() []string {
	since := "-"
	if !l.FailingSince.IsZero() {
		since = clock(l.FailingSince)
	}
	status := l.Status
	if l.StatusReason != "" {
		status += ": " + l.StatusReason
	}
	return []string{
		l.TenantID.String(), l.ID.String(), cell(l.URL), cell(status), strconv.Itoa(int(l.Failures)), since,
		cell(l.LastError),
	}
}

type attemptLine struct {
	At         time.Time `json:"at"`
	Kind       string    `json:"kind"`
	EventID    string    `json:"event_id"`
	EventType  string    `json:"event_type"`
	Attempt    int       `json:"attempt"`
	Outcome    string    `json:"outcome"`
	Status     int       `json:"status,omitzero"`
	DurationMS int64     `json:"duration_ms"`
	Error      string    `json:"error,omitzero"`
}

func lineOfAttempt(a webhook.Attempt) attemptLine {
	return attemptLine{
		a.At.UTC(), a.Kind, a.EventID, a.EventType, a.Attempt, a.Outcome, a.Status,
		a.Duration.Milliseconds(), a.Error,
	}
}

func (l attemptLine) cells() []string {
	return []string{
		clock(l.At), l.Kind, l.EventType, l.EventID, strconv.Itoa(l.Attempt), l.Outcome,
		strconv.FormatInt(l.DurationMS, 10), cell(l.Error),
	}
}

type redrivenLine struct {
	ID     uuid.UUID `json:"id"`
	Events int       `json:"events"`
}

func (l redrivenLine) cells() []string { return []string{l.ID.String(), strconv.Itoa(l.Events)} }
