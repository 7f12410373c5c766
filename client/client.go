// Package client calls the Holdfast API.
//
// A [Client] signs in, gives every changing request an Idempotency-Key, tells the server how long the
// caller's context will wait, and tries again when the server says that this may help: with the same
// key, after the time that the server names, a bounded number of times. A refusal is an error in
// whose chain errors.As finds a [*Problem]. The package never makes a second key for one call, so whatever happens on the way, a
// call moves money at most once.
//
// The types and the bare operations ([API]) are generated from the contract; New is the way in.
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

const (
	// attemptsDefault is how often a call is tried when the server says that trying again may help.
	attemptsDefault = 4
	// waitMax is the longest wait that one request asks the server for.
	waitMax = 30 * time.Second
	// awaitPause is between two such requests: a busy server answers them without waiting.
	awaitPause = 100 * time.Millisecond
	// answerMaxBytes bounds what is read of an answer.
	answerMaxBytes = 4 << 20
)

// The headers that the client sets.
const (
	headerKey     = "Idempotency-Key"
	headerTimeout = "Request-Timeout"
)

// Client calls one Holdfast API with one key. It is safe for concurrent use.
type Client struct {
	api  *API
	doer *doer
}

// Option changes a Client that New makes.
type Option func(*doer)

// WithHTTP sends requests through another http.Client.
func WithHTTP(c *http.Client) Option { return func(d *doer) { d.http = c } }

// WithAttempts bounds how often a call is tried; 1 is once.
func WithAttempts(n int) Option { return func(d *doer) { d.attempts = max(1, n) } }

// WithClock replaces the clock, for tests: now says the time, and sleep waits or ends with the context.
func WithClock(now func() time.Time, sleep func(context.Context, time.Duration) error) Option {
	return func(d *doer) { d.now, d.sleep = now, sleep }
}

// New makes a client for the API at a base URL like http://127.0.0.1:8080.
func New(baseURL, key string, opts ...Option) (*Client, error) {
	d := newDoer(key)
	for _, opt := range opts {
		opt(d)
	}
	api, err := NewClient(baseURL, WithHTTPClient(d))
	if err != nil {
		return nil, fmt.Errorf("client of %s: %w", baseURL, err)
	}
	return &Client{api: api, doer: d}, nil
}

// WithKey names a call yourself: use it when the key has to survive your own process, so that the same
// call after a restart is the same call to the server.
func WithKey(key string) RequestEditorFn {
	return func(_ context.Context, r *http.Request) error {
		r.Header.Set(headerKey, key)
		return nil
	}
}

// Error says what was refused and why.
func (p *Problem) Error() string {
	return fmt.Sprintf("%d %s: %s (request %s)", p.Status, p.Code, p.Detail, p.RequestID)
}

// Terminal says whether a transfer with the status has ended.
func (e TransferStatus) Terminal() bool {
	switch e {
	case TransferStatusSettled, TransferStatusBlocked, TransferStatusCanceled, TransferStatusExpired,
		TransferStatusFailed:
		return true
	case TransferStatusAccepted, TransferStatusInReview, TransferStatusApproved:
	}
	return false
}

// CreateTransfer creates a transfer. When it returns without an error the money is held.
func (c *Client) CreateTransfer(ctx context.Context, t NewTransfer, edit ...RequestEditorFn) (Transfer, error) {
	return read[Transfer](c.api.CreateTransfer(ctx, t, edit...))
}

// CreateTransfers creates up to 100 transfers, each by itself, and returns a result for each.
func (c *Client) CreateTransfers(
	ctx context.Context, ts []NewTransfer, edit ...RequestEditorFn,
) ([]TransferResult, error) {
	out, err := read[TransferResults](c.api.CreateTransfers(ctx, TransferBatch{Transfers: ts}, edit...))
	return out.Results, err
}

// PreviewTransfers says what CreateTransfers would do now, and does nothing.
func (c *Client) PreviewTransfers(ctx context.Context, ts []NewTransfer) ([]TransferResult, error) {
	out, err := read[TransferResults](c.api.PreviewTransfers(ctx, TransferBatch{Transfers: ts}))
	return out.Results, err
}

// Transfer reads a transfer.
func (c *Client) Transfer(ctx context.Context, id TransferID) (Transfer, error) {
	return read[Transfer](c.api.GetTransfer(ctx, id))
}

// AwaitTransfer reads a transfer when it has ended. When the context ends first, it returns what it
// read last, if anything, with the context's error.
func (c *Client) AwaitTransfer(ctx context.Context, id TransferID) (Transfer, error) {
	prefer := func(_ context.Context, r *http.Request) error {
		r.Header.Set("Prefer", "wait="+strconv.Itoa(int(waitMax/time.Second)))
		return nil
	}
	var last Transfer
	for {
		t, err := read[Transfer](c.api.GetTransfer(ctx, id, prefer))
		if err != nil && ctx.Err() != nil {
			return last, ctx.Err()
		}
		if err != nil || t.Status.Terminal() {
			return t, err
		}
		last = t
		if err := c.doer.sleep(ctx, awaitPause); err != nil {
			return last, err
		}
	}
}

// ListTransfers reads a page of transfers, newest first; nil lists all.
func (c *Client) ListTransfers(ctx context.Context, params *ListTransfersParams) (TransferPage, error) {
	return read[TransferPage](c.api.ListTransfers(ctx, params))
}

// TransferEvents reads what happened to a transfer after a sequence number.
func (c *Client) TransferEvents(ctx context.Context, id TransferID, after int32) ([]Event, error) {
	out, err := read[EventList](c.api.ListTransferEvents(ctx, id, &ListTransferEventsParams{After: &after}))
	return out.Events, err
}

// CancelTransfer takes an open transfer back.
func (c *Client) CancelTransfer(
	ctx context.Context, id TransferID, reason string, edit ...RequestEditorFn,
) (Transfer, error) {
	return read[Transfer](c.api.CancelTransfer(ctx, id, CancelRequest{Reason: reason}, edit...))
}

// ReverseTransfer takes a settled transfer back; a request without a value takes all that is left.
func (c *Client) ReverseTransfer(
	ctx context.Context, id TransferID, r ReversalRequest, edit ...RequestEditorFn,
) (Transfer, error) {
	return read[Transfer](c.api.ReverseTransfer(ctx, id, r, edit...))
}

// CreateAccount opens an account.
func (c *Client) CreateAccount(ctx context.Context, a NewAccount, edit ...RequestEditorFn) (Account, error) {
	return read[Account](c.api.CreateAccount(ctx, a, edit...))
}

// Account reads an account with its balance.
func (c *Client) Account(ctx context.Context, id AccountID) (Account, error) {
	return read[Account](c.api.GetAccount(ctx, id))
}

// ListAccounts reads a page of accounts, oldest first; nil begins with the first.
func (c *Client) ListAccounts(ctx context.Context, params *ListAccountsParams) (AccountPage, error) {
	return read[AccountPage](c.api.ListAccounts(ctx, params))
}

// SetAccountStatus freezes, unfreezes or closes an account.
func (c *Client) SetAccountStatus(
	ctx context.Context, id AccountID, status AccountStatus, edit ...RequestEditorFn,
) (Account, error) {
	return read[Account](c.api.SetAccountStatus(ctx, id, AccountStatusRequest{Status: status}, edit...))
}

// Balance reads what is posted, held and available on an account now.
func (c *Client) Balance(ctx context.Context, id AccountID) (Balance, error) {
	return read[Balance](c.api.GetBalance(ctx, id, nil))
}

// BalanceAt reads what was posted on an account at a time.
func (c *Client) BalanceAt(ctx context.Context, id AccountID, at time.Time) (Balance, error) {
	return read[Balance](c.api.GetBalance(ctx, id, &GetBalanceParams{At: &at}))
}

// Postings reads a page of an account's history, newest first; nil begins with the newest.
func (c *Client) Postings(ctx context.Context, id AccountID, params *ListPostingsParams) (PostingPage, error) {
	return read[PostingPage](c.api.ListPostings(ctx, id, params))
}

// Explain reads what a problem code means.
func (c *Client) Explain(ctx context.Context, code string) (ProblemMeaning, error) {
	return read[ProblemMeaning](c.api.GetProblem(ctx, code))
}

// read takes the answer of a call apart. The doer has turned refusals into errors already.
func read[T any](response *http.Response, err error) (T, error) {
	var out T
	if err != nil {
		return out, err
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, answerMaxBytes))
	err = errors.Join(err, response.Body.Close())
	if err != nil {
		return out, fmt.Errorf("read answer: %w", err)
	}
	if err := json.Unmarshal(text, &out); err != nil {
		return out, fmt.Errorf("decode answer: %w", err)
	}
	return out, nil
}
