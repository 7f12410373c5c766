// Package client calls the Holdfast API.
//
// A [Client] signs in, gives every changing request an Idempotency-Key, tells the server how long the
// caller's context will wait, and tries again when the server says that this may help: with the same
// key, after the time that the server names, a bounded number of times. A refusal is an error in whose
// chain errors.As finds a [*Problem]. The package never makes a second key for one call, so whatever
// happens on the way, a call moves money or stock at most once. A call that ends with a problem without
// SafeNewKey may have been done all the same, also when its last try was refused for load: give a call that
// you would make again then a key of your own ([WithKey]).
//
// The types and the bare operations ([API]) are generated from the contract; New is the way in.
//
//nolint:godoclint // the generated file brings a line of its own
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
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
	case TransferStatusAccepted, TransferStatusInReview, TransferStatusApproved, TransferStatusSettling:
	}
	return false
}

// Terminal says whether an order with the status has ended.
func (e OrderStatus) Terminal() bool {
	switch e {
	case OrderStatusConfirmed, OrderStatusCanceled:
		return true
	case OrderStatusPending, OrderStatusReserved:
	}
	return false
}

// discard closes the answer of a call that says nothing.
func discard(response *http.Response, err error) error {
	if err != nil {
		return err
	}
	return response.Body.Close()
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
