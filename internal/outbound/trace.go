package outbound

import (
	"context"

	"example.com/holdfast/internal/tracing"
)

// begin begins the span of a call that is traced: it has the waits in it.
func (c *Client) begin(ctx context.Context, operation string) (context.Context, tracing.Span) {
	if !tracing.On(ctx) {
		return ctx, tracing.Span{}
	}
	return tracing.Start(ctx, tracing.Client, c.name+" "+operation)
}

// end says of a call what its observer is told.
func (c *Client) end(span tracing.Span, seen Observation, failure *Error) {
	if !span.On() {
		return
	}
	span.Text("peer.service", c.name)
	span.Text("server.address", c.base)
	span.Text("holdfast.kind", string(seen.Kind))
	span.Int("holdfast.lane", seen.Lane)
	span.Int("holdfast.wait_us", int(seen.Wait.Microseconds()))
	if seen.Status != 0 {
		span.Int("http.response.status_code", seen.Status)
	}
	if seen.Repeat {
		span.Text("holdfast.repeat", "true")
	}
	if failure == nil {
		span.End(nil)
		return
	}
	span.End(failure)
}
