// Package tracing follows a piece of work across processes: from the request over the batches that it shares,
// its jobs and its calls, to the event that leaves. It is OpenTelemetry behind a small door of our own.
//
// What is not sampled leaves nothing: no span, no header, no byte in a row. So a context that carries no span
// is the usual one, and finding that out allocates nothing. Where work goes on is a traceparent of W3C
// Trace Context, the text that headers, jobs and events carry; "" is that of work that is not sampled.
//
// The tracer travels in the context that services are started with. Where it is missing, tracing is off.
//
// The package refuses globals, baggage and tracestate, and to let an exporter keep anybody waiting.
//
// Invariant: what many share (a batch, a job, a page for the broker) is one span in the trace of its first
// sampled member, with links to the others. It is never the parent of work that belongs to another trace.
package tracing

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

const (
	// scope names the program's own spans.
	scope = "example.com/holdfast"
	// linksMax bounds the members that a shared span names.
	linksMax = 32
	// Header is the name of the header and of the CloudEvents extension that carry a traceparent.
	Header = "traceparent"
)

// Kind says on which side of a conversation a span is.
type Kind = trace.SpanKind

// The kinds of spans.
const (
	Internal = trace.SpanKindInternal
	Server   = trace.SpanKindServer
	Client   = trace.SpanKindClient
	Producer = trace.SpanKindProducer
	Consumer = trace.SpanKindConsumer
)

type tracerKey struct{}

// With is a context in which provider's spans are made.
func With(ctx context.Context, provider trace.TracerProvider) context.Context {
	return context.WithValue(ctx, tracerKey{}, provider.Tracer(scope))
}

func tracerOf(ctx context.Context) trace.Tracer {
	tracer, _ := ctx.Value(tracerKey{}).(trace.Tracer)
	return tracer
}

// Known says that there is a tracer: what others have sampled may be followed.
func Known(ctx context.Context) bool { return tracerOf(ctx) != nil }

// On says that the context belongs to a span that is recorded. Who has to build a name or an attribute asks
// first.
func On(ctx context.Context) bool { return trace.SpanFromContext(ctx).IsRecording() }

// Start begins a part of what the context belongs to. Outside a span it does nothing.
func Start(ctx context.Context, kind Kind, name string) (context.Context, Span) {
	if !On(ctx) || !Known(ctx) {
		return ctx, Span{}
	}
	return begin(ctx, name, trace.WithSpanKind(kind))
}

// Serve begins the work of a request. Its traceparent, if it has one, says where it belongs; otherwise, and
// where it cannot be read, the request begins a trace.
func Serve(ctx context.Context, name, traceparent string) (context.Context, Span) {
	if !Known(ctx) {
		return ctx, Span{}
	}
	if parent := read(traceparent); parent.IsValid() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, parent)
	}
	return begin(ctx, name, trace.WithSpanKind(Server))
}

// Follow goes on with work that began elsewhere. Without a traceparent it does nothing, and what is done then
// belongs to no span.
func Follow(ctx context.Context, kind Kind, name, traceparent string) (context.Context, Span) {
	if traceparent == "" || !Known(ctx) {
		return Without(ctx), Span{}
	}
	within := trace.SpanContextFromContext(ctx)
	parent := read(traceparent)
	switch {
	case !parent.IsValid():
		return Without(ctx), Span{}
	case within.TraceID() == parent.TraceID():
		return begin(ctx, name, trace.WithSpanKind(kind))
	}
	ctx = trace.ContextWithRemoteSpanContext(ctx, parent)
	if within.IsValid() {
		return begin(ctx, name, trace.WithSpanKind(kind), trace.WithLinks(trace.Link{SpanContext: within}))
	}
	return begin(ctx, name, trace.WithSpanKind(kind))
}

// Share begins what several pieces of work share. Without a sampled one among them it does nothing.
func Share(ctx context.Context, kind Kind, name string, traceparents []string) (context.Context, Span) {
	if len(traceparents) == 0 || !Known(ctx) {
		return ctx, Span{}
	}
	var members []trace.SpanContext
	for _, text := range traceparents {
		if member := read(text); member.IsValid() && len(members) < linksMax {
			members = append(members, member)
		}
	}
	if members == nil {
		return ctx, Span{}
	}
	var links []trace.Link
	for _, member := range members {
		links = append(links, trace.Link{SpanContext: member})
	}
	ctx, span := begin(trace.ContextWithRemoteSpanContext(ctx, members[0]), name,
		trace.WithSpanKind(kind), trace.WithLinks(links...))
	span.Int("holdfast.members", len(traceparents))
	return ctx, span
}

// begin makes a span. One that is not sampled is none.
func begin(ctx context.Context, name string, options ...trace.SpanStartOption) (context.Context, Span) {
	within, span := tracerOf(ctx).Start(ctx, name, options...)
	if !span.IsRecording() || !span.SpanContext().IsSampled() {
		return Without(ctx), Span{}
	}
	return within, Span{span}
}

// Without is the context outside of any span: for work of others that is done within one.
func Without(ctx context.Context) context.Context {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return ctx
	}
	return trace.ContextWithSpan(ctx, nil)
}

// Parent is the traceparent of what the context belongs to, or "".
func Parent(ctx context.Context) string { return traceparent(trace.SpanFromContext(ctx)) }

// ID names the trace that the context belongs to, or is "".
func ID(ctx context.Context) string { return Span{trace.SpanFromContext(ctx)}.ID() }

// Fail says why the work that the context belongs to came to nothing.
func Fail(ctx context.Context, err error) {
	if On(ctx) {
		trace.SpanFromContext(ctx).SetStatus(codes.Error, err.Error())
	}
}

// Span is a piece of work that is recorded. The zero value is none, and all of its methods do nothing.
type Span struct{ span trace.Span }

// On says that there is one.
func (s Span) On() bool { return s.span != nil }

// Parent is the traceparent with which others go on, or "".
func (s Span) Parent() string {
	if s.span == nil {
		return ""
	}
	return traceparent(s.span)
}

// ID names the span's trace, or is "".
func (s Span) ID() string {
	if s.span == nil || !s.span.IsRecording() {
		return ""
	}
	return s.span.SpanContext().TraceID().String()
}

// Text sets an attribute, unless it is empty.
func (s Span) Text(key, value string) {
	if s.span != nil && value != "" {
		s.span.SetAttributes(attribute.String(key, value))
	}
}

// Int sets an attribute.
func (s Span) Int(key string, value int) {
	if s.span != nil {
		s.span.SetAttributes(attribute.Int(key, value))
	}
}

// Link names another span that has to do with this one.
func (s Span) Link(traceparent string) {
	if s.span == nil {
		return
	}
	if other := read(traceparent); other.IsValid() {
		s.span.AddLink(trace.Link{SpanContext: other})
	}
}

// Fail says why the work came to nothing.
func (s Span) Fail(why string) {
	if s.span != nil {
		s.span.SetStatus(codes.Error, why)
	}
}

// End ends the work, with the error that it came to or nil.
func (s Span) End(err error) {
	if s.span == nil {
		return
	}
	if err != nil {
		s.span.SetStatus(codes.Error, err.Error())
	}
	s.span.End()
}
