//nolint:bodyclose // read and discard close what the generated calls return
package client

import (
	"context"
	"time"
)

// CreateWebhookEndpoint lets what happens from now on be sent to an address. WebhookSecret reads what the
// messages are signed with.
func (c *Client) CreateWebhookEndpoint(
	ctx context.Context, n NewWebhookEndpoint, edit ...RequestEditorFn,
) (WebhookEndpoint, error) {
	return read[WebhookEndpoint](c.api.CreateWebhookEndpoint(ctx, n, edit...))
}

// WebhookEndpoint reads an endpoint.
func (c *Client) WebhookEndpoint(ctx context.Context, id WebhookEndpointID) (WebhookEndpoint, error) {
	return read[WebhookEndpoint](c.api.GetWebhookEndpoint(ctx, id))
}

// ListWebhookEndpoints reads a page of endpoints, oldest first; nil begins with the first.
func (c *Client) ListWebhookEndpoints(
	ctx context.Context, params *ListWebhookEndpointsParams,
) (WebhookEndpointPage, error) {
	return read[WebhookEndpointPage](c.api.ListWebhookEndpoints(ctx, params))
}

// ReplaceWebhookEndpoint replaces what was said about an endpoint; what is left out is empty then.
func (c *Client) ReplaceWebhookEndpoint(
	ctx context.Context, id WebhookEndpointID, n NewWebhookEndpoint, edit ...RequestEditorFn,
) (WebhookEndpoint, error) {
	return read[WebhookEndpoint](c.api.ReplaceWebhookEndpoint(ctx, id, n, edit...))
}

// DeleteWebhookEndpoint removes an endpoint with all that still waits for it.
func (c *Client) DeleteWebhookEndpoint(
	ctx context.Context, id WebhookEndpointID, edit ...RequestEditorFn,
) error {
	return discard(c.api.DeleteWebhookEndpoint(ctx, id, edit...))
}

// PauseWebhookEndpoint lets nothing be sent until ResumeWebhookEndpoint.
func (c *Client) PauseWebhookEndpoint(
	ctx context.Context, id WebhookEndpointID, edit ...RequestEditorFn,
) (WebhookEndpoint, error) {
	return read[WebhookEndpoint](c.api.PauseWebhookEndpoint(ctx, id, Nothing{}, edit...))
}

// ResumeWebhookEndpoint goes on where a paused or disabled endpoint was.
func (c *Client) ResumeWebhookEndpoint(
	ctx context.Context, id WebhookEndpointID, edit ...RequestEditorFn,
) (WebhookEndpoint, error) {
	return read[WebhookEndpoint](c.api.ResumeWebhookEndpoint(ctx, id, Nothing{}, edit...))
}

// WebhookSecret reads what the messages to an endpoint are signed with.
func (c *Client) WebhookSecret(ctx context.Context, id WebhookEndpointID) (WebhookSecret, error) {
	return read[WebhookSecret](c.api.GetWebhookSecret(ctx, id))
}

// RotateWebhookSecret makes a new secret; for as long as they overlap messages are signed by the one before,
// too.
func (c *Client) RotateWebhookSecret(
	ctx context.Context, id WebhookEndpointID, overlap time.Duration, edit ...RequestEditorFn,
) (WebhookEndpoint, error) {
	request := SecretRotation{OverlapSeconds: new(int64(overlap / time.Second))}
	return read[WebhookEndpoint](c.api.RotateWebhookSecret(ctx, id, request, edit...))
}

// PingWebhookEndpoint lets a message be sent that tells of nothing; WebhookAttempts shows what comes of it.
func (c *Client) PingWebhookEndpoint(
	ctx context.Context, id WebhookEndpointID, edit ...RequestEditorFn,
) (WebhookEndpoint, error) {
	return read[WebhookEndpoint](c.api.PingWebhookEndpoint(ctx, id, Nothing{}, edit...))
}

// ResendWebhookEvents lets an event, or those of a time, go again. It returns how many there are at most.
func (c *Client) ResendWebhookEvents(
	ctx context.Context, id WebhookEndpointID, which WebhookResend, edit ...RequestEditorFn,
) (int64, error) {
	out, err := read[WebhookResent](c.api.ResendWebhookEvents(ctx, id, which, edit...))
	return out.Events, err
}

// WebhookAttempts reads a page of what was sent to an endpoint, newest first; nil begins with the newest.
func (c *Client) WebhookAttempts(
	ctx context.Context, id WebhookEndpointID, params *ListWebhookAttemptsParams,
) (WebhookAttemptPage, error) {
	return read[WebhookAttemptPage](c.api.ListWebhookAttempts(ctx, id, params))
}

// WebhookDeadLetters reads a page of what was given up, in the order of the log; nil begins with the first.
func (c *Client) WebhookDeadLetters(
	ctx context.Context, id WebhookEndpointID, params *ListWebhookDeadLettersParams,
) (WebhookDeadLetterPage, error) {
	return read[WebhookDeadLetterPage](c.api.ListWebhookDeadLetters(ctx, id, params))
}

// RedriveWebhookDeadLetters lets all go again that was given up. It returns how many events that are.
func (c *Client) RedriveWebhookDeadLetters(
	ctx context.Context, id WebhookEndpointID, edit ...RequestEditorFn,
) (int, error) {
	out, err := read[WebhookRedriven](c.api.RedriveWebhookDeadLetters(ctx, id, Nothing{}, edit...))
	return out.Events, err
}
