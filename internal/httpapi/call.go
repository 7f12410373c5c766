package httpapi

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/tracing"
)

// call is what the steps in front of an operation learned of its request, and what the log line says
// of it afterwards. Only the goroutine of the request touches it: a Render, which may run in another
// one and after the request has left, gets copies.
type call struct {
	route     *route
	requestID string
	// span is none where the request is not traced.
	span    tracing.Span
	started time.Time
	header  http.Header
	url     *url.URL
	// strict is how bodies are decoded.
	strict jsonv2.Options

	tenantID uuid.UUID
	// actor says who calls, as events name it; keyID is the id of the key.
	actor string
	keyID string
	class string
	// aside says that the request is no longer one of those in flight.
	aside bool
	// leave gives the request's place in the room back, if it has one.
	leave func()

	body []byte
	key  string
	// keyErr and invalid are found early and answered late, where the table of problems has them.
	keyErr  error
	invalid []problem.Field

	replayed bool
	code     problem.Code
	err      error
}

type callKey struct{}

func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// done ends what lasts as long as the request.
func (c *call) done() {
	if c.leave != nil {
		c.leave()
	}
}

// late answers what was found before the body was looked at but counts less than its form.
func (c *call) late() error {
	if c.keyErr != nil {
		return c.keyErr
	}
	return invalid(c.invalid)
}

// invalid is a validation problem with the fields, or nil without any.
func invalid(fields []problem.Field) error {
	if len(fields) == 0 {
		return nil
	}
	return &problem.Error{
		Code: problem.ValidationFailed, Detail: "The request is not valid.", Fields: slices.Clone(fields),
	}
}

// origin says which request a refusal is of.
type origin struct{ requestID, traceID string }

func (c *call) origin() origin { return origin{c.requestID, c.span.ID()} }

func (c *call) cause() string { return "request:" + c.requestID }

// keyed names the request for idempotency: hash is what decode made of it.
func (s *shared) keyed(c *call, hash hash) idempotency.Keyed {
	from := c.origin()
	return idempotency.Keyed{
		Key:    idempotency.Key{TenantID: c.tenantID, Key: c.key, Hash: hash},
		Refuse: func(p *problem.Error) idempotency.Response { return s.refusal(p, from) },
	}
}
