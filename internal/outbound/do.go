package outbound

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"time"

	"example.com/holdfast/internal/budget"
	"example.com/holdfast/internal/tracing"
)

// maxRetryAfter bounds what a dependency can ask for.
const maxRetryAfter = time.Hour

var (
	errInTransaction = errors.New("refused: a database transaction is open")
	errPlaceEnded    = errors.New("the time has passed for which its place was lent")
	errTooLarge      = errors.New("reply is larger than allowed")
)

// Do makes one attempt at the call. Its error is always an *Error.
func (c *Client) Do(ctx context.Context, call Call) (Response, error) {
	started, caller := c.now(), callerOf(ctx)
	ctx, span := c.begin(ctx, call.Operation)
	seen := Observation{
		Dependency: c.name, Operation: call.Operation, Kind: KindOK, Lane: caller.Lane, Repeat: caller.Repeat,
	}
	response, failure := c.pass(ctx, call, started, &seen)
	seen.Status = response.Status
	if failure != nil {
		failure.Dependency, failure.Operation, failure.P95 = c.name, call.Operation, c.guard.p95()
		seen.Kind, seen.Status = failure.Kind, failure.Status
	}
	seen.Elapsed = c.now().Sub(started)
	c.observe(seen)
	c.end(span, seen, failure)
	if failure != nil {
		return Response{}, failure
	}
	return response, nil
}

// pass holds the first half of the order of the door: transaction, breaker, retry budget.
func (c *Client) pass(
	ctx context.Context, call Call, arrived time.Time, seen *Observation,
) (Response, *Error) {
	if c.inTx(ctx) {
		return Response{}, &Error{Kind: KindInTransaction, Err: errInTransaction}
	}
	pass, failure := c.guard.enter(arrived, seen.Repeat)
	if failure != nil {
		return Response{}, failure
	}
	defer func() {
		if !seen.Attempted {
			c.guard.leave(c.now(), pass)
		}
	}()
	wait := c.waitMax
	if left, ok := budget.Remaining(ctx, arrived); ok {
		wait = min(wait, budget.HandOn(left))
	}
	place, err := c.bulkhead.Acquire(ctx, wait, seen.Lane)
	now := c.now()
	seen.Wait = now.Sub(arrived)
	if err != nil {
		return Response{}, notAdmitted(err)
	}
	defer place.Release()
	if err := Begin(ctx); err != nil {
		return Response{}, &Error{Kind: KindWithheld, Err: fmt.Errorf("withheld: %w", err)}
	}
	now = c.now()
	if !place.Until.IsZero() && !now.Before(place.Until) { // the attempt would outlive what was lent
		return Response{}, &Error{Kind: KindNoBudget, Err: fmt.Errorf("refused: %w", errPlaceEnded)}
	}
	a, failure := c.attempt(ctx, call, now)
	if failure != nil {
		return Response{}, failure
	}
	seen.Attempted = true
	t := trial{pass: pass, place: place, began: now, timeout: a.timeout, short: a.timeout < c.timeout}
	defer func() { c.guard.learn(c.now(), t) }() // also when Decode panics
	response, failure := a.run(ctx)
	t.kind, t.status = KindOK, response.Status
	if failure != nil {
		t.kind, t.status = failure.Kind, failure.Status
	}
	return response, failure
}

// attempt is what the remaining time of the caller allows.
func (c *Client) attempt(ctx context.Context, call Call, now time.Time) (*attempt, *Error) {
	left, bounded := budget.Remaining(ctx, now)
	a := &attempt{client: c, call: call, budget: left, allowed: c.timeout}
	if bounded {
		a.allowed = budget.HandOn(left)
	}
	if min(c.timeout, a.allowed) < minAttempt {
		err := fmt.Errorf("refused: %v left, %v is kept back", left, budget.Margin)
		return nil, &Error{Kind: KindNoBudget, Err: err}
	}
	a.timeout = min(c.timeout, a.allowed)
	return a, nil
}

// notAdmitted names the reason why the bulkhead let nobody in.
func notAdmitted(err error) *Error {
	kind := KindFull
	switch {
	case errors.Is(err, context.Canceled):
		kind = KindCanceled
	case errors.Is(err, context.DeadlineExceeded):
		kind = KindNoBudget
	}
	return &Error{Kind: kind, Err: fmt.Errorf("refused: %w", err)}
}

// attempt is one request on its way.
type attempt struct {
	client  *Client
	call    Call
	budget  time.Duration // the caller's time at the start; 0 without a deadline
	allowed time.Duration // what the dependency is told it may use
	timeout time.Duration // what we wait

	wantedConn bool
	gotConn    bool
}

// run sends the request and reads the reply, whole or not at all; of a call that wants the status only, that.
func (a *attempt) run(caller context.Context) (Response, *Error) {
	ctx, cancel := context.WithTimeout(caller, a.timeout)
	defer cancel()
	req, err := a.request(ctx)
	if err != nil {
		return Response{}, &Error{Kind: KindUnreachable, Err: err}
	}
	reply, err := a.client.transport.RoundTrip(req)
	if err != nil {
		return Response{}, a.lost(caller, ctx, err)
	}
	defer func() { _ = reply.Body.Close() }() // a reply that was not read to its end costs its connection
	body, err := a.read(reply)
	if errors.Is(err, errTooLarge) {
		return Response{}, &Error{Kind: KindBadReply, Status: reply.StatusCode, Sent: true, Err: err}
	}
	if err != nil {
		return Response{}, a.lost(caller, ctx, err)
	}
	return a.judge(reply, body)
}

// request builds a request that net/http cannot send twice: the body is present, even if empty,
// and there is no GetBody to rewind it.
func (a *attempt) request(ctx context.Context) (*http.Request, error) {
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { a.wantedConn = true },
		GotConn: func(httptrace.GotConnInfo) { a.gotConn = true },
	})
	body := io.NopCloser(bytes.NewReader(a.call.Body))
	req, err := http.NewRequestWithContext(ctx, a.call.Method, a.client.base+a.call.Path, body)
	if err != nil {
		return nil, fmt.Errorf("build request: %w", err)
	}
	req.ContentLength = int64(len(a.call.Body))
	for name, value := range a.call.Header {
		req.Header.Set(name, value)
	}
	req.Header.Set(BudgetHeader, strconv.FormatInt(a.allowed.Milliseconds(), 10))
	if len(a.call.Body) > 0 {
		req.Header.Set("Content-Type", cmp.Or(a.call.ContentType, "application/json"))
	}
	if a.call.EffectKey != "" {
		req.Header.Set(EffectKeyHeader, a.call.EffectKey)
	}
	if parent := tracing.Parent(ctx); parent != "" {
		req.Header.Set(tracing.Header, parent)
	}
	return req, nil
}

// lost names the reason why there is no complete reply. Only a transport that says it looked for a
// connection and found none proves that nothing was sent.
func (a *attempt) lost(caller, ctx context.Context, err error) *Error {
	sent := a.gotConn || !a.wantedConn
	switch {
	case errors.Is(caller.Err(), context.Canceled):
		return &Error{Kind: KindCanceled, Sent: sent, Err: fmt.Errorf("canceled: %w", context.Canceled)}
	case ctx.Err() != nil:
		late := &timeoutError{timeout: a.timeout, budget: a.budget}
		late.left, _ = budget.Remaining(caller, a.client.now())
		return &Error{Kind: KindTimeout, Sent: sent, Err: late}
	case !sent:
		return &Error{Kind: KindUnreachable, Err: fmt.Errorf("unreachable: %w", err)}
	default:
		return &Error{Kind: KindAmbiguous, Sent: true, Err: fmt.Errorf("sent, no reply: %w", err)}
	}
}

// read returns the body up to its bound.
func (a *attempt) read(reply *http.Response) ([]byte, error) {
	limit := cmp.Or(a.call.MaxResponseBytes, DefaultMaxResponseBytes)
	if a.call.StatusOnly {
		_, _ = io.CopyN(io.Discard, reply.Body, int64(limit)) // whatever it is
		return nil, nil
	}
	if reply.ContentLength > int64(limit) {
		return nil, fmt.Errorf("%d bytes, at most %d: %w", reply.ContentLength, limit, errTooLarge)
	}
	if reply.ContentLength >= 0 {
		body := make([]byte, reply.ContentLength)
		if _, err := io.ReadFull(reply.Body, body); err != nil {
			return nil, fmt.Errorf("read reply: %w", err)
		}
		return body, nil
	}
	body, err := io.ReadAll(io.LimitReader(reply.Body, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("read reply: %w", err)
	}
	if len(body) > limit {
		return nil, fmt.Errorf("at most %d bytes: %w", limit, errTooLarge)
	}
	return body, nil
}

// judge turns a complete reply into a response or an error.
func (a *attempt) judge(reply *http.Response, body []byte) (Response, *Error) {
	if reply.StatusCode/100 == 2 {
		if a.call.Decode != nil {
			if err := a.call.Decode(body); err != nil {
				err = fmt.Errorf("bad reply: %w", err)
				return Response{}, &Error{Kind: KindBadReply, Status: reply.StatusCode, Sent: true, Err: err}
			}
		}
		return Response{Status: reply.StatusCode, Body: body}, nil
	}
	failure := &Error{
		Kind: KindBadReply, Status: reply.StatusCode, Sent: true, RetryAfter: retryAfter(reply.Header),
		Err: fmt.Errorf("replied %s", reply.Status),
	}
	switch reply.StatusCode / 100 {
	case 4:
		failure.Kind = KindStatus4xx
	case 5:
		failure.Kind = KindStatus5xx
	}
	return Response{}, failure // anything else, a redirect say, would need a second request
}

// retryAfter reads the header's form in seconds; a date would need the dependency's clock.
func retryAfter(header http.Header) time.Duration {
	seconds, err := strconv.ParseUint(header.Get("Retry-After"), 10, 32)
	if err != nil {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, maxRetryAfter)
}
