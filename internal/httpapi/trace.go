package httpapi

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/tracing"
)

// trace begins the span of a request, in the trace that its client names or in one of its own. What is open
// and takes no body, health and documents, is asked by machines all day and is not traced; nor is what was
// refused before it had a route.
func (c *call) trace(ctx context.Context) context.Context {
	if c.route.access == open && !c.route.has(body) {
		return ctx
	}
	if !tracing.Known(ctx) {
		return ctx
	}
	within, span := tracing.Serve(ctx, c.route.label(), c.header.Get(tracing.Header))
	c.span = span
	return within
}

// endTrace says of a request what its log line says. Identifiers are attributes and never names.
func (c *call) endTrace(status int) {
	if !c.span.On() {
		return
	}
	c.span.Text("http.request.method", c.route.method)
	c.span.Text("http.route", c.route.pattern)
	c.span.Text("url.path", c.url.Path)
	c.span.Int("http.response.status_code", status)
	c.span.Text("holdfast.request_id", c.requestID)
	c.span.Text("holdfast.key_id", c.keyID)
	c.span.Text("holdfast.problem", string(c.code))
	if c.tenantID != uuid.Nil {
		c.span.Text("holdfast.tenant_id", c.tenantID.String())
	}
	if c.replayed {
		c.span.Text("holdfast.replayed", "true")
	}
	if c.code != "" && problem.MeaningOf(c.code).Status >= http.StatusInternalServerError {
		c.span.Fail(string(c.code))
	}
	c.span.End(c.err)
}
