package tracing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// lastSpansMax bounds how long a process that ends waits for its last spans to leave.
const lastSpansMax = 2 * time.Second

// Process says whose traces they are.
type Process struct {
	// Service is the name that OTEL_SERVICE_NAME takes the place of.
	Service, Version, Instance string
	Log                        *slog.Logger
}

// Traces makes spans and sends them to a collector, between Open and Stop. The zero value is switched off.
type Traces struct {
	provider *sdk.TracerProvider
	log      *slog.Logger
}

// Open makes traces as the OTEL_ variables of the environment say; without any of them they are off. It waits
// for no collector. Spans wait in a bounded queue for their export, and those that find it full are dropped.
//
// What is not read here (headers, certificates, compression, the size of the queue) the exporter reads from
// the environment of the process itself.
func Open(ctx context.Context, p Process, environ []string) (*Traces, error) {
	set, err := readSettings(environ)
	if err != nil {
		return nil, fmt.Errorf("read settings of traces: %w", err)
	}
	if !set.on {
		return &Traces{}, nil
	}
	var options []otlptracehttp.Option
	if set.endpoint != "" {
		options = append(options, otlptracehttp.WithEndpointURL(set.endpoint))
	}
	exporter, err := otlptracehttp.New(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("open exporter of traces: %w", err)
	}
	about, err := describe(ctx, p, set.service)
	if err != nil {
		return nil, err
	}
	provider := sdk.NewTracerProvider(sdk.WithResource(about), sdk.WithSampler(set.sampler),
		sdk.WithBatcher(&quiet{SpanExporter: exporter, log: p.Log}))
	return &Traces{provider, p.Log}, nil
}

// describe is what all spans of the process have in common.
func describe(ctx context.Context, p Process, service string) (*resource.Resource, error) {
	const name = attribute.Key("service.name")
	options := []resource.Option{
		resource.WithTelemetrySDK(),
		resource.WithAttributes(name.String(p.Service), attribute.String("service.version", p.Version),
			attribute.String("service.instance.id", p.Instance)),
		resource.WithFromEnv(),
	}
	if service != "" {
		options = append(options, resource.WithAttributes(name.String(service)))
	}
	about, err := resource.New(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("read OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	return about, nil
}

// Into is the context that services are started with, so that they are traced.
func (t *Traces) Into(ctx context.Context) context.Context {
	if t.provider == nil {
		return ctx
	}
	return With(ctx, t.provider)
}

// Start has nothing to start.
func (*Traces) Start(context.Context) error { return nil }

// Stop sends what is left, if that takes no longer than lastSpansMax. It never fails: nobody's work hangs on
// a span.
func (t *Traces) Stop(ctx context.Context) error {
	if t.provider == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lastSpansMax)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		t.log.WarnContext(ctx, "last spans not sent", slog.Any("error", err))
	}
	return nil
}

// quiet logs the first of the exports in a row that fail, and nothing reaches the default handler of
// OpenTelemetry, which writes every error to stderr.
type quiet struct {
	sdk.SpanExporter

	log  *slog.Logger
	lost atomic.Int64
}

// ExportSpans sends spans, or gives them up.
func (q *quiet) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := q.SpanExporter.ExportSpans(ctx, spans)
	switch {
	case err == nil:
		if lost := q.lost.Swap(0); lost > 0 {
			q.log.InfoContext(ctx, "spans are sent again", slog.Int64("lost", lost))
		}
	case q.lost.Add(int64(len(spans))) == int64(len(spans)) && !errors.Is(err, context.Canceled):
		q.log.WarnContext(ctx, "spans not sent, and lost until they are", slog.Any("error", err))
	}
	return nil
}
