package outbound_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"example.com/holdfast/internal/outbound"
	"example.com/holdfast/internal/tracing"
)

const sampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// traced is a context within a span, and what ends within it.
func traced(t *testing.T) (context.Context, *tracetest.InMemoryExporter) {
	t.Helper()
	exporter := tracetest.NewInMemoryExporter()
	ctx := tracing.With(t.Context(), sdk.NewTracerProvider(sdk.WithSyncer(exporter)))
	ctx, span := tracing.Follow(ctx, tracing.Internal, "step", sampled)
	t.Cleanup(func() { span.End(nil) })
	return ctx, exporter
}

func about(span tracetest.SpanStub) map[string]string {
	all := map[string]string{}
	for _, a := range span.Attributes {
		all[string(a.Key)] = a.Value.String()
	}
	return all
}

func TestADependencyIsToldInWhichTraceItIsCalled(t *testing.T) {
	t.Parallel()
	told := make(chan string, 1)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		told <- r.Header.Get("Traceparent")
		w.WriteHeader(http.StatusOK)
	})
	b := setup(t, url, nil)
	ctx, exporter := traced(t)
	call := outbound.Call{Operation: "screen", Method: http.MethodPost, Path: "/"}
	_, err := b.Do(outbound.As(ctx, outbound.Caller{Lane: 2, Repeat: true}), call)
	require.NoError(t, err)
	span := exporter.GetSpans()[0]
	require.Equal(t, "risk_api screen", span.Name)
	require.Equal(t, tracing.Client, span.SpanKind)
	require.Equal(t, "00-"+span.SpanContext.TraceID().String()+"-"+span.SpanContext.SpanID().String()+"-01",
		<-told)
	said := about(span)
	delete(said, "holdfast.wait_us")
	require.Equal(t, map[string]string{
		"peer.service": "risk_api", "server.address": url, "holdfast.kind": "ok", "holdfast.lane": "2",
		"http.response.status_code": "200", "holdfast.repeat": "true",
	}, said)
	require.Equal(t, codes.Unset, span.Status.Code)

	_, err = b.Do(t.Context(), call)
	require.NoError(t, err)
	require.Empty(t, <-told, "outside a trace nothing is told")
	require.Len(t, exporter.GetSpans(), 1)
}

// What is not traced costs a call nothing.
//
//nolint:paralleltest // AllocsPerRun counts the allocations of the whole process
func TestACallWithoutATraceAllocatesNoMore(t *testing.T) {
	b := setup(t, "http://risk.invalid", nil)
	allocs := func(ctx context.Context) float64 {
		return testing.AllocsPerRun(200, func() { b.Trace(ctx, "screen") })
	}
	require.Zero(t, allocs(t.Context()))
	ctx, _ := traced(t)
	require.NotZero(t, allocs(ctx), "so the test can see a difference")
}

func TestACallThatFailsOrIsRefusedSaysSoInItsSpan(t *testing.T) {
	t.Parallel()
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	ctx, exporter := traced(t)
	b := setup(t, url, nil)
	_, err := b.Do(ctx, outbound.Call{Operation: "screen", Method: http.MethodPost, Path: "/"})
	require.Error(t, err)
	b.Bulkhead().SetLimit(0, epoch())
	_, err = b.Do(ctx, outbound.Call{Operation: "screen", Method: http.MethodPost, Path: "/"})
	require.Error(t, err)
	failed, refused := exporter.GetSpans()[0], exporter.GetSpans()[1]
	require.Equal(t, "503", about(failed)["http.response.status_code"])
	require.Equal(t, string(outbound.KindStatus5xx), about(failed)["holdfast.kind"])
	require.NotContains(t, about(refused), "http.response.status_code")
	require.Equal(t, string(outbound.KindFull), about(refused)["holdfast.kind"])
	require.Equal(t, codes.Error, failed.Status.Code)
	require.Equal(t, codes.Error, refused.Status.Code)
}
