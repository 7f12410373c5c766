// Package payout pays transfers out through the payout rail, and reads what the rail calls back.
//
// It translates; it decides nothing. The rail is not trusted to honour effect keys: its caller submits a
// reference at most once, ever. When the outcome is unknown it asks by Find; when the rail does not know
// the reference, Withdraw is a fence, after which the rail never pays under it, even if the lost
// submission arrives later. Only then may the same transfer be submitted under a new reference.
//
// Invariants: a Receipt's status is one of the four below, any other reply is an error; an unknown
// reference is reported by Find alone and proves nothing by itself.
package payout

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/go-json-experiment/json"

	"example.com/holdfast/internal/outbound"
)

const (
	payoutsPath      = "/v1/payouts"
	maxResponseBytes = 4 << 10
)

// Status is how far the rail is with a payout. The set is closed.
type Status string

// The statuses. All but pending are final.
const (
	StatusPaid      Status = "paid"
	StatusPending   Status = "pending"
	StatusRefused   Status = "refused"
	StatusWithdrawn Status = "withdrawn" // nothing is paid under this reference, now or later
)

func (s Status) check() error {
	switch s {
	case StatusPaid, StatusPending, StatusRefused, StatusWithdrawn:
		return nil
	}
	return fmt.Errorf("unknown status %q", s)
}

// Request is one transfer to pay out. Its Reference is sent at most once.
type Request struct {
	Reference   string `json:"-"`
	TransferID  string `json:"transfer_id"`
	TenantID    string `json:"tenant_id"`
	From        string `json:"from_account"`
	To          string `json:"to_account"`
	AmountValue int64  `json:"amount_value"`
	Currency    string `json:"currency"`
}

// Receipt is what the rail says about a reference, and its own reference for it.
type Receipt struct {
	Status        Status `json:"status"`
	Reason        string `json:"reason"`
	RailReference string `json:"rail_reference"`
}

// Client calls the payout rail. Make it with New.
type Client struct {
	door *outbound.Client
}

// New returns a client that calls through the door.
func New(door *outbound.Client) *Client { return &Client{door: door} }

// Submit makes the one attempt to have the transfer paid out. Its error is an *outbound.Error, unless
// the request itself cannot be written as JSON; after one that MayHaveHappened, Find comes next and
// never Submit.
func (c *Client) Submit(ctx context.Context, request Request) (Receipt, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return Receipt{}, fmt.Errorf("payout of transfer %s: %w", request.TransferID, err)
	}
	return c.receipt(ctx, outbound.Call{
		Operation: "submit", Method: http.MethodPost, Path: payoutsPath,
		EffectKey: request.Reference, Body: body,
	})
}

// Find asks what the rail knows of the reference. False means that it knows nothing of it yet: a
// submission that was lost may still arrive, so nothing may be paid anew before Withdraw.
func (c *Client) Find(ctx context.Context, reference string) (Receipt, bool, error) {
	receipt, err := c.receipt(ctx, outbound.Call{
		Operation: "find", Method: http.MethodGet, Path: pathOf(reference),
	})
	var failure *outbound.Error
	if errors.As(err, &failure) && failure.Status == http.StatusNotFound {
		return Receipt{}, false, nil
	}
	return receipt, err == nil, err
}

// Withdraw tells the rail never to pay under the reference and returns the receipt as it then is:
// withdrawn if the rail did not know the reference or could still stop it; paid, refused or pending if it
// was too late. It may be repeated. Only a receipt says that the fence stands; an error, a 404 as well,
// says that it is not known to stand.
func (c *Client) Withdraw(ctx context.Context, reference string) (Receipt, error) {
	return c.receipt(ctx, outbound.Call{
		Operation: "withdraw", Method: http.MethodPost, Path: pathOf(reference) + "/withdrawal",
	})
}

func pathOf(reference string) string { return payoutsPath + "/" + url.PathEscape(reference) }

// receipt makes the call and reads its reply, which is a receipt or a failure.
func (c *Client) receipt(ctx context.Context, call outbound.Call) (Receipt, error) {
	var receipt Receipt
	call.MaxResponseBytes = maxResponseBytes
	call.Decode = func(body []byte) error {
		if err := json.Unmarshal(body, &receipt); err != nil {
			return err
		}
		return receipt.Status.check()
	}
	if _, err := c.door.Do(ctx, call); err != nil {
		return Receipt{}, err
	}
	return receipt, nil
}
