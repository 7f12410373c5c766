package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/tenancy"
)

const (
	// bodyMaxBytes bounds every body.
	bodyMaxBytes = 64 << 10
	// bodyReadMax is how long a body may take to arrive.
	bodyReadMax = 5 * time.Second
	// timeoutMaxMS bounds what Request-Timeout may say, in milliseconds: a day.
	timeoutMaxMS = 86_400_000
)

// signIn finds out who holds a key and whether it may do this.
type signIn func(ctx context.Context, c *call, plain string) error

// step is one check in front of an operation.
type step func(ctx context.Context, c *call, w http.ResponseWriter, r *http.Request) error

// guard puts the steps in front of an operation, and its budget around all of it.
func (s *shared) guard(rt *route, next http.HandlerFunc) http.HandlerFunc {
	steps := s.steps(rt)
	return func(w http.ResponseWriter, r *http.Request) {
		c := callOf(r.Context())
		c.route = rt
		ctx, cancel := context.WithTimeout(c.trace(r.Context()), c.budget())
		defer cancel()
		defer c.done()
		for _, step := range steps {
			if err := step(ctx, c, w, r); err != nil {
				s.fail(w, c, err)
				return
			}
		}
		if !rt.has(body) {
			if err := c.late(); err != nil {
				s.fail(w, c, err)
				return
			}
		}
		next(w, r.WithContext(ctx))
	}
}

// steps are those of a route, in their order.
func (s *shared) steps(rt *route) []step {
	steps := []step{s.length}
	if rt.access != open {
		steps = append(steps, s.identify)
	}
	if rt.access != open && s.limits != nil {
		steps = append(steps, s.rate)
	}
	if rt.class == streams {
		steps = append(steps, s.openStream)
	} else if s.room != nil && (rt.access != open || rt.has(body)) {
		steps = append(steps, s.makeRoom)
	}
	if rt.class.creation() != "" {
		steps = append(steps, s.admit)
	}
	steps = append(steps, s.query, s.ids)
	if rt.has(sender) {
		steps = append(steps, s.sender)
	}
	if rt.has(body) {
		steps = append(steps, s.mediaType, s.readBody)
	}
	if rt.has(key) {
		steps = append(steps, s.key)
	}
	return steps
}

// budget is how long the request may take: what the client says, at most what the route allows.
func (c *call) budget() time.Duration {
	for _, name := range []string{"Request-Timeout", "X-Envoy-Expected-Rq-Timeout-Ms"} {
		text := c.header.Get(name)
		if text == "" {
			continue
		}
		ms, err := strconv.Atoi(text)
		if err != nil || ms < 1 || ms > timeoutMaxMS || text[0] == '+' {
			c.invalid = append(c.invalid, problem.Field{
				Pointer: name, Detail: fmt.Sprintf("has to be milliseconds, 1 to %d", timeoutMaxMS),
			})
			continue
		}
		return min(time.Duration(ms)*time.Millisecond, c.route.budget)
	}
	return c.route.budget
}

func (s *shared) length(_ context.Context, _ *call, _ http.ResponseWriter, r *http.Request) error {
	if r.ContentLength > bodyMaxBytes {
		return tooLarge()
	}
	return nil
}

func tooLarge() error {
	return problem.New(problem.BodyTooLarge, "The body is larger than %d bytes.", bodyMaxBytes)
}

func (s *shared) identify(ctx context.Context, c *call, _ http.ResponseWriter, r *http.Request) error {
	scheme, plain, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return problem.New(problem.Unauthenticated, "The request has no Authorization: Bearer header.")
	}
	return s.signIn(ctx, c, strings.TrimSpace(plain))
}

// byAPIKey signs a tenant in.
func (s *shared) byAPIKey(ctx context.Context, c *call, plain string) error {
	p, err := s.cfg.Keys.Authenticate(ctx, plain)
	if err != nil {
		return err
	}
	c.tenantID, c.keyID, c.actor, c.class = p.TenantID, p.KeyID, "api:"+p.KeyID, string(p.Class)
	if !p.May(tenancy.Scope(c.route.access)) {
		return problem.New(problem.Forbidden, "The key lacks the scope %s.", c.route.access)
	}
	return nil
}

// byAdminKey signs an operator in.
func (s *shared) byAdminKey(ctx context.Context, c *call, plain string) error {
	a, err := s.cfg.Keys.AuthenticateAdmin(ctx, plain)
	if err != nil {
		return err
	}
	c.keyID, c.actor = a.KeyID, "operator:"+a.Name
	if !a.May(tenancy.Role(c.route.access)) {
		return problem.New(problem.Forbidden, "The key's role is %s; this needs %s.", a.Role, c.route.access)
	}
	return nil
}

func (s *shared) rate(_ context.Context, c *call, w http.ResponseWriter, _ *http.Request) error {
	left, wait := s.limits.take(c.tenantID, c.started)
	s.limits.tell(w.Header(), left)
	if wait == 0 {
		return nil
	}
	p := problem.New(problem.RateLimited, "More than %d requests in a second.", s.limits.perSecond)
	p.RetryAfter = wait
	s.cfg.Metrics.Shed("rate")
	return p
}

// admit refuses what would create work, but not what was answered before: that creates nothing. Who is
// refused before this step, for its rate or for what is in flight, is not asked about: that would cost what
// the refusal saves.
func (s *shared) admit(ctx context.Context, c *call, _ http.ResponseWriter, r *http.Request) error {
	err := s.cfg.Admit(Admission{TenantID: c.tenantID, Class: c.class, Creates: c.route.class.creation()})
	if err == nil || s.repeats(ctx, c, r) {
		return nil
	}
	s.cfg.Metrics.Shed("admission")
	return err
}

// repeats says whether there is an answer under the key of a request, whatever it is.
func (s *shared) repeats(ctx context.Context, c *call, r *http.Request) bool {
	given := r.Header.Values("Idempotency-Key")
	if s.cfg.Known == nil || !c.route.has(key) || len(given) != 1 {
		return false
	}
	name, err := idempotency.ParseKey(given[0])
	return err == nil && s.cfg.Known(ctx, c.tenantID, name)
}

// query finds parameters that the route does not have, or that are there twice or empty: a filter with
// a typing error must not look like no filter.
func (s *shared) query(_ context.Context, c *call, _ http.ResponseWriter, r *http.Request) error {
	if r.URL.RawQuery == "" {
		return nil
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		c.invalid = append(c.invalid, problem.Field{Pointer: "query", Detail: "cannot be read"})
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		given := values[name]
		switch {
		case !slices.Contains(c.route.query, name):
			c.invalid = append(c.invalid, problem.Field{Pointer: name, Detail: "is not known here"})
		case len(given) > 1:
			c.invalid = append(c.invalid, problem.Field{Pointer: name, Detail: "is there twice"})
		case given[0] == "":
			c.invalid = append(c.invalid, problem.Field{Pointer: name, Detail: "is empty"})
		case (name == "account" || name == "sku") && len(given[0]) != idChars:
			c.invalid = append(c.invalid, problem.Field{Pointer: name, Detail: "has to be a UUID"})
		}
	}
	return nil
}

// ids refuses ids in the path that have another form than ours, as ids that do not exist.
func (s *shared) ids(_ context.Context, _ *call, _ http.ResponseWriter, r *http.Request) error {
	params := chi.RouteContext(r.Context()).URLParams //nolint:contextcheck // it only reads the context
	for i, name := range params.Keys {
		if (name == "id" || name == "tenant_id") && len(params.Values[i]) != idChars {
			return noSuchID()
		}
	}
	return nil
}

// sender refuses what is about webhooks where there are none.
func (s *shared) sender(context.Context, *call, http.ResponseWriter, *http.Request) error {
	if s.cfg.Webhooks == nil {
		return problem.New(problem.Unavailable, "This instance has no webhooks.")
	}
	return nil
}

func noSuchID() error { return problem.New(problem.NotFound, "The id in the path does not exist.") }

func (s *shared) mediaType(_ context.Context, c *call, _ http.ResponseWriter, r *http.Request) error {
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return problem.New(problem.UnsupportedMediaType, "The body must not be compressed.")
	}
	given := r.Header.Get("Content-Type")
	if given == typeJSON || given == "" && r.ContentLength == 0 && c.route.has(optional) {
		return nil
	}
	name, params, err := mime.ParseMediaType(given)
	charset := params["charset"]
	if err != nil || name != typeJSON || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return problem.New(problem.UnsupportedMediaType, "The body has to be application/json in UTF-8.")
	}
	return nil
}

// readBody reads the body within its bounds of size and time.
func (s *shared) readBody(_ context.Context, c *call, w http.ResponseWriter, r *http.Request) error {
	conn := http.NewResponseController(w)
	// Where the connection has no deadlines (a test without a server) there is nothing to wait for.
	_ = conn.SetReadDeadline(s.cfg.Now().Add(bodyReadMax))
	text, err := readAll(r)
	if err == nil {
		// Left in place, the deadline would end the request's context while the operation runs.
		_ = conn.SetReadDeadline(time.Time{})
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		detail := "The body did not arrive in " + bodyReadMax.String() + "."
		return problem.Wrap(problem.RequestTimeout, err, detail)
	case err != nil:
		return problem.Wrap(problem.MalformedRequest, err, "The body could not be read to its end.")
	case len(text) > bodyMaxBytes:
		return tooLarge()
	}
	c.body = text
	return nil
}

// readAll reads at most one byte more than is allowed, without guessing when the length is known.
func readAll(r *http.Request) ([]byte, error) {
	if n := r.ContentLength; n >= 0 {
		text := make([]byte, n)
		_, err := io.ReadFull(r.Body, text)
		return text, err
	}
	return io.ReadAll(io.LimitReader(r.Body, bodyMaxBytes+1))
}

func (s *shared) key(_ context.Context, c *call, _ http.ResponseWriter, r *http.Request) error {
	given := r.Header.Values("Idempotency-Key")
	switch len(given) {
	case 0:
		_, c.keyErr = idempotency.ParseKey("")
	case 1:
		c.key, c.keyErr = idempotency.ParseKey(given[0])
	default:
		c.keyErr = problem.New(problem.KeyInvalid, "The request has more than one Idempotency-Key.")
	}
	return nil
}
