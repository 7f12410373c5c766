package pgtx_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/tracing"
)

func TestATransactionIsASpanOfItsName(t *testing.T) {
	t.Parallel()
	b := setup(t)
	exporter := tracetest.NewInMemoryExporter()
	ctx := tracing.With(t.Context(), sdk.NewTracerProvider(sdk.WithSyncer(exporter)))
	require.NoError(t, pgtx.Run(ctx, b.pool, "first", add("first", nil)))
	require.Empty(t, exporter.GetSpans(), "outside a span there is none")

	ctx, step := tracing.Follow(ctx, tracing.Internal, "step",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	defer step.End(nil)
	require.NoError(t, pgtx.Run(ctx, b.pool, "run", func(ctx context.Context, tx pgx.Tx) error {
		require.NotEqual(t, step.Parent(), tracing.Parent(ctx), "what it does is a part of it")
		return add("run", nil)(ctx, tx)
	}))
	require.NoError(t, pgtx.Pipeline(ctx, b.pool, "pipeline", nothing, pipe("pipeline", nil)))
	require.Error(t, pgtx.Run(ctx, b.pool, "doubled", add("run", nil)))
	require.Error(t, pgtx.Pipeline(ctx, b.pool, "stopped", nothing, pipe("stopped", errOops)))
	spans := exporter.GetSpans()
	require.Len(t, spans, 4)
	for i, want := range []struct {
		name, code string
		status     codes.Code
	}{
		{"run", "", codes.Unset},
		{"pipeline", "", codes.Unset},
		{"doubled", "23505", codes.Error},
		{"stopped", "", codes.Error},
	} {
		require.Equal(t, want.name, spans[i].Name)
		require.Equal(t, want.status, spans[i].Status.Code)
		require.Equal(t, step.ID(), spans[i].SpanContext.TraceID().String())
		said := map[string]string{}
		for _, a := range spans[i].Attributes {
			said[string(a.Key)] = a.Value.AsString()
		}
		require.Equal(t, "postgresql", said["db.system.name"])
		require.Equal(t, want.code, said["db.response.status_code"])
	}
}
