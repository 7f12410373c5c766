// Package outbound is the only door to a dependency.
//
// A Client stands for one dependency. Each call is refused inside a database transaction, while the
// dependency fails (circuit breaker), and, as a repeat, when there are too many of them (retry budget). It
// then waits its turn at the dependency's bulkhead, is given what is left of the caller's time, and is
// attempted exactly once. What attempts come to moves the breaker, and the bulkhead's limit below its cap.
// The package never retries, on its own or by net/http; whether to ask, retry or give up is the
// caller's, who learns from Error what may have happened.
//
// Invariants: one Do sends at most one request; no more than the bulkhead's limit are in flight; no
// attempt takes longer than the timeout, which whoever lends places counts on; every wait has a bound that
// its error names.
package outbound

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"example.com/holdfast/internal/bulkhead"
)

const (
	// EffectKeyHeader carries Call.EffectKey. net/http resends requests that carry it if it can
	// rewind their body, so every body sent here is one that it cannot rewind.
	EffectKeyHeader = "Idempotency-Key"

	// BudgetHeader carries the milliseconds that the dependency may use.
	BudgetHeader = "Request-Timeout"

	// DefaultMaxResponseBytes bounds a reply when the call names no bound.
	DefaultMaxResponseBytes = 64 << 10

	// minAttempt is the least time worth sending a request for, and the unit of BudgetHeader.
	minAttempt = time.Millisecond
)

// Config describes one dependency.
type Config struct {
	Name      string                         // names the dependency in errors, metrics and the bulkhead
	BaseURL   string                         // scheme and host, perhaps with a path prefix
	Limit     int                            // calls in flight at once
	WaitMax   time.Duration                  // longest wait at the bulkhead
	Timeout   time.Duration                  // longest attempt
	Transport http.RoundTripper              // nil: a transport of the client's own
	InTx      func(ctx context.Context) bool // tells whether ctx belongs to an open transaction
	Now       func() time.Time
	Observer  func(Observation) // nil: nobody looks
	Random    func() float64    // in [0, 1), for jitter; nil: the runtime's
}

// validate returns everything that is wrong with the configuration at once.
func (c Config) validate() error {
	var problems []error
	base, err := url.Parse(c.BaseURL)
	if err != nil || base.Host == "" || (base.Scheme != "http" && base.Scheme != "https") {
		problems = append(problems, fmt.Errorf("base URL %q is not an http(s) URL with a host", c.BaseURL))
	}
	if c.Name == "" {
		problems = append(problems, errors.New("name is empty"))
	}
	if c.Limit < 0 {
		problems = append(problems, fmt.Errorf("limit %d is negative", c.Limit))
	}
	if c.WaitMax < 0 {
		problems = append(problems, fmt.Errorf("longest wait %v is negative", c.WaitMax))
	}
	if c.Timeout < minAttempt {
		problems = append(problems, fmt.Errorf("timeout %v is below %v", c.Timeout, minAttempt))
	}
	if c.InTx == nil || c.Now == nil {
		problems = append(problems, errors.New("InTx and Now must be set"))
	}
	return errors.Join(problems...)
}

// Observation is one finished call, for metrics.
type Observation struct {
	Dependency string
	Operation  string
	Kind       Kind          // KindOK, or why it failed
	Status     int           // of the reply, 0 without one
	Attempted  bool          // false when refused before the attempt
	Repeat     bool          // Caller.Repeat
	Lane       int           // Caller.Lane
	Wait       time.Duration // at the bulkhead
	Elapsed    time.Duration // wait included
}

// Call is one request.
type Call struct {
	Operation        string // names the call in errors and metrics
	Method           string
	Path             string // escaped, appended to the base URL
	EffectKey        string // the same for every attempt at one effect; empty for reads
	Body             []byte // not changed until Do returns
	ContentType      string // of the body; empty: JSON
	MaxResponseBytes int    // 0: DefaultMaxResponseBytes

	// Header is what the request carries besides; none of the headers above.
	Header map[string]string

	// StatusOnly says that the body of the reply means nothing: it is read up to MaxResponseBytes, so that
	// the connection can be used again, and neither its size nor its loss makes the call fail.
	StatusOnly bool

	// Decode reads the body of a 2xx reply; its error makes the call a KindBadReply. May be nil.
	Decode func(body []byte) error
}

// Response is a 2xx reply.
type Response struct {
	Status int
	Body   []byte
}

// Client calls one dependency. Make it with New; it is safe for concurrent use.
type Client struct {
	name      string
	base      string
	waitMax   time.Duration
	timeout   time.Duration
	bulkhead  *bulkhead.Bulkhead
	guard     *guard
	transport http.RoundTripper
	inTx      func(ctx context.Context) bool
	now       func() time.Time
	observe   func(Observation)
}

// New returns a client, or all problems of its configuration.
func New(config Config) (*Client, error) {
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("outbound %s: %w", config.Name, err)
	}
	c := &Client{
		name:      config.Name,
		base:      strings.TrimSuffix(config.BaseURL, "/"),
		waitMax:   config.WaitMax,
		timeout:   config.Timeout,
		bulkhead:  bulkhead.New(config.Name, config.Limit, config.Now),
		transport: config.Transport,
		inTx:      config.InTx,
		now:       config.Now,
		observe:   config.Observer,
	}
	if c.transport == nil {
		c.transport = newTransport(config.Limit)
	}
	if config.Random == nil {
		config.Random = rand.Float64
	}
	c.guard = newGuard(c.bulkhead, config.Random)
	if c.observe == nil {
		c.observe = func(Observation) {}
	}
	return c, nil
}

// Bulkhead returns the limiter of this dependency, to resize it and to read its counts.
func (c *Client) Bulkhead() *bulkhead.Bulkhead { return c.bulkhead }

// CloseIdle closes connections that no call uses.
func (c *Client) CloseIdle() {
	if t, ok := c.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}
