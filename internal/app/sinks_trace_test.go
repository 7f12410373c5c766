package app

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"example.com/holdfast/internal/cloudevent"
	"example.com/holdfast/internal/config"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/tracing"
)

func TestAPageForTheBrokerNamesTheTracesInIt(t *testing.T) {
	t.Parallel()
	const first = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	const second = "00-5bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	exporter := tracetest.NewInMemoryExporter()
	ctx := tracing.With(t.Context(), sdk.NewTracerProvider(sdk.WithSyncer(exporter)))
	p := &publisher{ // whose broker is away
		cfg: config.Config{NATSURL: "nats://127.0.0.1:1", NATSStream: "HOLDFAST_EVENTS"},
		env: Env{Now: time.Now, Log: slog.New(slog.DiscardHandler)}, encoder: &cloudevent.Encoder{},
	}
	defer p.close()
	event := func(trace string) outbox.Logged {
		return outbox.Logged{Event: outbox.Event{
			TenantID: uuid.New(), AggregateID: uuid.New(), Seq: 1, Type: "thing.moved", Trace: trace,
		}}
	}
	require.Error(t, p.publish(ctx, []outbox.Logged{event("")}))
	require.Empty(t, exporter.GetSpans())
	require.Error(t, p.publish(ctx, []outbox.Logged{event(""), event(first), event(second)}))
	require.Len(t, exporter.GetSpans(), 1)
	page := exporter.GetSpans()[0]
	require.Equal(t, "publish events", page.Name)
	require.Equal(t, codes.Error, page.Status.Code)
	require.Len(t, page.Links, 2)
	require.Equal(t, tracing.Producer, page.SpanKind)
}
