// Package notify tells the notification service what became of a transfer.
//
// It translates; whether a notification is due, and when, is decided by who calls it. Invariant:
// Send returns nil only if the service has taken the message.
package notify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/go-json-experiment/json"

	"example.com/holdfast/internal/outbound"
)

const maxResponseBytes = 4 << 10

// Message is one notification. Every attempt sends the same message under the same EffectKey.
type Message struct {
	EffectKey  string `json:"-"`
	TransferID string `json:"transfer_id"`
	TenantID   string `json:"tenant_id"`
	Event      string `json:"event"`
	State      string `json:"state"`
	Reason     string `json:"reason,omitzero"`
}

// Client calls the notification service. Make it with New.
type Client struct {
	door *outbound.Client
}

// New returns a client that calls through the door.
func New(door *outbound.Client) *Client { return &Client{door: door} }

// Send makes one attempt to hand the message over. Its error is an *outbound.Error, unless the
// message itself cannot be written as JSON.
func (c *Client) Send(ctx context.Context, message Message) error {
	body, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("notification of transfer %s: %w", message.TransferID, err)
	}
	_, err = c.door.Do(ctx, outbound.Call{
		Operation:        "send",
		Method:           http.MethodPost,
		Path:             "/v1/notifications",
		EffectKey:        message.EffectKey,
		Body:             body,
		MaxResponseBytes: maxResponseBytes,
	})
	return err
}

// Sent asks, after an ambiguous Send, whether the service has taken a message under the effect key.
func (c *Client) Sent(ctx context.Context, effectKey string) (bool, error) {
	_, err := c.door.Do(ctx, outbound.Call{
		Operation:        "find",
		Method:           http.MethodGet,
		Path:             "/v1/effects/" + url.PathEscape(effectKey),
		MaxResponseBytes: maxResponseBytes,
	})
	var failure *outbound.Error
	if errors.As(err, &failure) && failure.Status == http.StatusNotFound {
		return false, nil
	}
	return err == nil, err
}
