package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"example.com/holdfast/client"
)

// allScopes are those that a key of a load needs.
const allScopes = "transfers:read,transfers:write,accounts:read,accounts:write,orders:read,orders:write," +
	"inventory:read,inventory:write,events:read"

// probes are requests that tell whether a key has all scopes, and change nothing: a change without an
// Idempotency-Key is refused, but later than a scope that lacks.
func (r *run) probes() []request {
	all := []request{
		{method: http.MethodGet, path: "/v1/transfers?limit=1"},
		{method: http.MethodPost, path: "/v1/transfers", body: []byte("{}")},
		{method: http.MethodGet, path: "/v1/accounts?limit=1"},
		{method: http.MethodGet, path: "/v1/events?limit=1&from=now"},
	}
	if r.mix.orders() {
		all = append(all,
			request{method: http.MethodGet, path: "/v1/orders?limit=1"},
			request{method: http.MethodPost, path: "/v1/orders", body: []byte("{}")},
			request{method: http.MethodGet, path: "/v1/skus?limit=1"},
			request{method: http.MethodPost, path: "/v1/skus", body: []byte("{}")})
	}
	return all
}

// probe finds out in time whether a key may do what the load does.
func (r *run) probe(ctx context.Context, c *caller) error {
	for _, q := range r.probes() {
		ctx, cancel := context.WithTimeout(ctx, requestMax)
		a := r.do(ctx, c, q)
		cancel()
		if a.err != nil {
			return fmt.Errorf("%s %s: %w", q.method, q.path, a.err)
		}
		if a.status == http.StatusForbidden || a.status == http.StatusUnauthorized {
			p := &client.Problem{}
			if err := json.Unmarshal(a.body, p); err != nil {
				return fmt.Errorf("%s %s answers %d: %w", q.method, q.path, a.status, err)
			}
			return p
		}
	}
	return nil
}

// explain says what to do about an answer that only a wrong key gets.
func explain(err error) error {
	var p *client.Problem
	if !errors.As(err, &p) {
		return err
	}
	switch p.Status {
	case http.StatusUnauthorized:
		return fmt.Errorf("the target does not know this key: %w", err)
	case http.StatusForbidden:
		return fmt.Errorf("this key lacks a scope; ctl key create --scopes %s makes one that has all: %w",
			allScopes, err)
	case http.StatusNotFound:
		return fmt.Errorf("is that the public API, and not the admin listener? %w", err)
	}
	return err
}
