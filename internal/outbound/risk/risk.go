// Package risk asks the risk service whether a transfer may go on.
//
// It translates; it decides nothing. What to do without an answer is the transfer's posture.
// Invariant: a Decision's outcome is one of the three below; any other reply is an error.
package risk

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

// Outcome is what the risk service says about a transfer. The set is closed.
type Outcome string

// The outcomes.
const (
	OutcomeApprove Outcome = "approve"
	OutcomeReview  Outcome = "review"
	OutcomeBlock   Outcome = "block"
)

// Request is one transfer to screen. Every attempt sends the same request under the same EffectKey.
type Request struct {
	EffectKey   string `json:"-"`
	TransferID  string `json:"transfer_id"`
	TenantID    string `json:"tenant_id"`
	From        string `json:"from_account"`
	To          string `json:"to_account"`
	AmountValue int64  `json:"amount_value"`
	Currency    string `json:"currency"`
}

// Decision is the answer of the risk service and its own reference for it.
type Decision struct {
	Outcome   Outcome `json:"outcome"`
	Reason    string  `json:"reason"`
	Reference string  `json:"reference"`
}

// Client asks the risk service. Make it with New.
type Client struct {
	door *outbound.Client
}

// New returns a client that calls through the door.
func New(door *outbound.Client) *Client { return &Client{door: door} }

// Screen makes one attempt to have the transfer screened. Its error is an *outbound.Error, unless
// the request itself cannot be written as JSON.
func (c *Client) Screen(ctx context.Context, request Request) (Decision, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return Decision{}, fmt.Errorf("screening of transfer %s: %w", request.TransferID, err)
	}
	var decision Decision
	_, err = c.door.Do(ctx, outbound.Call{
		Operation:        "screen",
		Method:           http.MethodPost,
		Path:             "/v1/screenings",
		EffectKey:        request.EffectKey,
		Body:             body,
		MaxResponseBytes: maxResponseBytes,
		Decode:           decision.read,
	})
	if err != nil {
		return Decision{}, err
	}
	return decision, nil
}

// Find asks, after an ambiguous Screen, for the decision that was made under the effect key.
// False means that the risk service has made none.
func (c *Client) Find(ctx context.Context, effectKey string) (Decision, bool, error) {
	var found struct {
		Reply Decision `json:"reply"`
	}
	_, err := c.door.Do(ctx, outbound.Call{
		Operation:        "find",
		Method:           http.MethodGet,
		Path:             "/v1/effects/" + url.PathEscape(effectKey),
		MaxResponseBytes: maxResponseBytes,
		Decode: func(body []byte) error {
			if err := json.Unmarshal(body, &found); err != nil {
				return err
			}
			return found.Reply.check()
		},
	})
	var failure *outbound.Error
	if errors.As(err, &failure) && failure.Status == http.StatusNotFound {
		return Decision{}, false, nil
	}
	if err != nil {
		return Decision{}, false, err
	}
	return found.Reply, true, nil
}

func (d *Decision) read(body []byte) error {
	if err := json.Unmarshal(body, d); err != nil {
		return err
	}
	return d.check()
}

func (d *Decision) check() error {
	switch d.Outcome {
	case OutcomeApprove, OutcomeReview, OutcomeBlock:
		return nil
	}
	return fmt.Errorf("unknown outcome %q", d.Outcome)
}
