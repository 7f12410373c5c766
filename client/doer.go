package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/internal/budget"
)

// problemMaxBytes bounds what is read of a refusal.
const problemMaxBytes = 64 << 10

// doer sends a request, and sends it again with the same key while that may help.
type doer struct {
	http     *http.Client
	key      string
	attempts int
	now      func() time.Time
	sleep    func(context.Context, time.Duration) error
}

func newDoer(key string) *doer {
	return &doer{
		http: &http.Client{}, key: key, attempts: attemptsDefault,
		now:   time.Now, //nolint:forbidigo // the default of a clock that WithClock replaces
		sleep: sleep,
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Do sends a request. Its error is a *Problem when the server refused.
func (d *doer) Do(r *http.Request) (*http.Response, error) {
	r.Header.Set("Authorization", "Bearer "+d.key)
	if r.Method != http.MethodGet && r.Header.Get(headerKey) == "" {
		key, err := uuid.NewV7()
		if err != nil {
			return nil, fmt.Errorf("make idempotency key: %w", err)
		}
		r.Header.Set(headerKey, key.String())
	}
	for attempt := 1; ; attempt++ {
		response, err := d.once(r)
		if err == nil || attempt >= d.attempts {
			return response, err
		}
		wait, again := d.pause(err, attempt)
		if left, limited := budget.Remaining(r.Context(), d.now()); limited && !budget.Fits(left, wait) {
			again = false
		}
		if !again || d.sleep(r.Context(), wait) != nil {
			return nil, err
		}
	}
}

// pause says whether an error is worth another try, and after how long: what the server asks for and
// full jitter on top, so that many callers do not come back at once.
func (d *doer) pause(err error, attempt int) (time.Duration, bool) {
	var refused *refusal
	wait := budget.Backoff(attempt, rand.Float64)
	switch {
	case errors.As(err, &refused):
		return refused.after + wait, refused.problem.Retryable
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return 0, false
	}
	return wait, true // nobody answered: the key makes it safe to ask again
}

// once sends a request a single time, with what is left of the caller's time.
func (d *doer) once(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	if left, ok := budget.Remaining(ctx, d.now()); ok {
		ms := budget.HandOn(left).Milliseconds()
		if ms < 1 {
			return nil, fmt.Errorf("%s %s: %w", r.Method, r.URL.Path, context.DeadlineExceeded)
		}
		r.Header.Set(headerTimeout, strconv.FormatInt(ms, 10))
	}
	try := r.Clone(ctx)
	if r.GetBody != nil {
		body, err := r.GetBody()
		if err != nil {
			return nil, fmt.Errorf("rewind body: %w", err)
		}
		try.Body = body
	}
	response, err := d.http.Do(try)
	if err != nil {
		return nil, err
	}
	if response.StatusCode < http.StatusBadRequest {
		return response, nil
	}
	return nil, refused(response)
}

// refusal is a problem with the wait that came with it.
type refusal struct {
	problem *Problem
	after   time.Duration
}

// Error is the problem's.
func (r *refusal) Error() string { return r.problem.Error() }

// Unwrap gives the problem.
func (r *refusal) Unwrap() error { return r.problem }

// refused reads a refusal. What is no problem of the contract, for example a proxy's page, becomes
// one that says so; a proxy's 502, 503 and 504 may pass.
func refused(response *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(response.Body, problemMaxBytes))
	err = errors.Join(err, response.Body.Close())
	out := &refusal{problem: &Problem{}}
	if err != nil || json.Unmarshal(text, out.problem) != nil || out.problem.Code == "" {
		out.problem = &Problem{
			Type: "about:blank", Title: http.StatusText(response.StatusCode), Code: "unknown",
			Status: int32(response.StatusCode), //nolint:gosec // three digits
			Detail: "The answer is no problem of this API.",
			Retryable: response.StatusCode == http.StatusBadGateway ||
				response.StatusCode == http.StatusServiceUnavailable ||
				response.StatusCode == http.StatusGatewayTimeout,
		}
	}
	if s, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && s > 0 {
		out.after = time.Duration(s) * time.Second
	}
	return out
}
