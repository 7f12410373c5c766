package tracing_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"example.com/holdfast/internal/tracing"
)

const (
	traceA  = "4bf92f3577b34da6a3ce929d0e0e4736"
	traceB  = "5bf92f3577b34da6a3ce929d0e0e4736"
	span1   = "00f067aa0ba902b7"
	parentA = "00-" + traceA + "-" + span1 + "-01"
	parentB = "00-" + traceB + "-" + span1 + "-01"
)

// setup is a context whose spans are seen by the test. Only what others have sampled is.
func setup(t *testing.T) (context.Context, *tracetest.InMemoryExporter) {
	t.Helper()
	exporter := tracetest.NewInMemoryExporter()
	return tracing.With(t.Context(), sdk.NewTracerProvider(sdk.WithSyncer(exporter),
		sdk.WithSampler(sdk.ParentBased(sdk.NeverSample())))), exporter
}

func traceOf(traceparent string) string {
	parts := strings.Split(traceparent, "-")
	if len(parts) != 4 {
		return ""
	}
	return parts[1]
}

func TestWorkThatGoesOnElsewhereIsOneTrace(t *testing.T) {
	t.Parallel()
	ctx, exporter := setup(t)
	request, server := tracing.Serve(ctx, "GET /", parentA)
	step, part := tracing.Start(request, tracing.Internal, "part")
	_, elsewhere := tracing.Follow(ctx, tracing.Producer, "elsewhere", tracing.Parent(step))
	for _, span := range []tracing.Span{elsewhere, part, server} {
		require.True(t, span.On())
		require.Equal(t, traceA, span.ID())
		span.End(nil)
		require.Empty(t, span.ID(), "what has ended is nobody's parent any more")
		require.Empty(t, span.Parent())
	}
	seen := exporter.GetSpans()
	require.Len(t, seen, 3)
	require.Equal(t, seen[1].SpanContext.SpanID(), seen[0].Parent.SpanID())
	require.Equal(t, seen[2].SpanContext.SpanID(), seen[1].Parent.SpanID())
	require.Equal(t, span1, seen[2].Parent.SpanID().String())
	require.True(t, seen[0].Parent.IsRemote())
	require.Equal(t, []tracing.Kind{tracing.Producer, tracing.Internal, tracing.Server},
		[]tracing.Kind{seen[0].SpanKind, seen[1].SpanKind, seen[2].SpanKind})
}

func TestWhatIsNotSampledLeavesNothing(t *testing.T) {
	t.Parallel()
	ctx, exporter := setup(t)
	notSampled := strings.TrimSuffix(parentA, "1") + "0"
	for name, begin := range map[string]func() (context.Context, tracing.Span){
		"a request": func() (context.Context, tracing.Span) { return tracing.Serve(ctx, "GET /", "") },
		"a request of a client that has not": func() (context.Context, tracing.Span) {
			return tracing.Serve(ctx, "GET /", notSampled)
		},
		"a part of nothing": func() (context.Context, tracing.Span) {
			return tracing.Start(ctx, tracing.Internal, "part")
		},
		"work without a trace": func() (context.Context, tracing.Span) {
			return tracing.Follow(ctx, tracing.Internal, "step", "")
		},
		"work whose trace is unreadable": func() (context.Context, tracing.Span) {
			return tracing.Follow(ctx, tracing.Internal, "step", "00-x")
		},
		"what nobody shares": func() (context.Context, tracing.Span) {
			return tracing.Share(ctx, tracing.Internal, "batch", nil)
		},
		"what nobody shares who can be read": func() (context.Context, tracing.Span) {
			return tracing.Share(ctx, tracing.Internal, "batch", []string{"x"})
		},
		"what those share who have not": func() (context.Context, tracing.Span) {
			return tracing.Share(ctx, tracing.Internal, "batch", []string{notSampled})
		},
	} {
		within, span := begin()
		require.False(t, span.On(), name)
		require.Empty(t, tracing.Parent(within), name)
		require.Empty(t, tracing.ID(within), name)
		_, part := tracing.Start(within, tracing.Client, "call")
		require.False(t, part.On(), "%s has no parts", name)
	}
	require.Empty(t, exporter.GetSpans())
}

func TestWithoutATracerNothingIsFollowed(t *testing.T) {
	t.Parallel()
	for _, begin := range []func() (context.Context, tracing.Span){
		func() (context.Context, tracing.Span) { return tracing.Serve(t.Context(), "GET /", parentA) },
		func() (context.Context, tracing.Span) {
			return tracing.Follow(t.Context(), tracing.Internal, "step", parentA)
		},
		func() (context.Context, tracing.Span) {
			return tracing.Share(t.Context(), tracing.Internal, "batch", []string{parentA})
		},
	} {
		ctx, span := begin()
		require.False(t, span.On())
		require.Equal(t, t.Context(), ctx)
		// The methods of no span do nothing.
		span.Text("key", "value")
		span.Int("key", 1)
		span.Link(parentB)
		span.Fail("why")
		span.End(errors.New("why"))
		tracing.Fail(ctx, errors.New("why"))
		require.Empty(t, span.ID()+span.Parent())
	}
}

func TestWhatManyShareIsInTheTraceOfTheFirstAndNamesAll(t *testing.T) {
	t.Parallel()
	ctx, exporter := setup(t)
	within, shared := tracing.Share(ctx, tracing.Internal, "batch", []string{"x", parentB, parentA})
	require.Equal(t, traceB, shared.ID())
	_, part := tracing.Start(within, tracing.Client, "tx")
	part.End(nil)
	shared.End(nil)
	batch := exporter.GetSpans()[1]
	require.Len(t, batch.Links, 2)
	require.Equal(t, traceB, batch.Links[0].SpanContext.TraceID().String())
	require.Equal(t, traceA, batch.Links[1].SpanContext.TraceID().String())
	require.Equal(t, traceB, exporter.GetSpans()[0].SpanContext.TraceID().String())
}

func TestTheLinksOfWhatManyShareAreBounded(t *testing.T) {
	t.Parallel()
	ctx, exporter := setup(t)
	_, shared := tracing.Share(ctx, tracing.Internal, "batch", slices.Repeat([]string{parentA}, 100))
	shared.End(nil)
	batch := exporter.GetSpans()[0]
	require.Len(t, batch.Links, 32)
	require.Equal(t, int64(100), batch.Attributes[0].Value.AsInt64(), "it tells how many there were")
}

// Within a job of many rows each step is its own row's.
func TestWorkOfOthersWithinWhatIsSharedIsTheirOwn(t *testing.T) {
	t.Parallel()
	ctx, exporter := setup(t)
	within, job := tracing.Share(ctx, tracing.Consumer, "job", []string{parentA, parentB})
	_, own := tracing.Follow(within, tracing.Internal, "own", parentA)
	_, other := tracing.Follow(within, tracing.Internal, "other", parentB)
	none, nobody := tracing.Follow(within, tracing.Internal, "none", "")
	require.False(t, nobody.On())
	require.Empty(t, tracing.Parent(none), "a row without a trace does not get into that of its neighbour")
	require.Equal(t, []string{traceA, traceB}, []string{own.ID(), other.ID()})
	for _, span := range []tracing.Span{own, other, job} {
		span.End(nil)
	}
	seen := exporter.GetSpans()
	require.Equal(t, seen[2].SpanContext.SpanID(), seen[0].Parent.SpanID(), "a part of the job")
	require.Equal(t, span1, seen[1].Parent.SpanID().String(), "it goes on where its row was")
	require.Equal(t, seen[2].SpanContext.SpanID(), seen[1].Links[0].SpanContext.SpanID(), "and names the job")
	require.Empty(t, seen[0].Links)
}

func TestTraceparentsAreReadByTheLetter(t *testing.T) {
	t.Parallel()
	ctx, _ := setup(t)
	for text, good := range map[string]bool{
		parentA:                              true,
		"01-" + traceA + "-" + span1 + "-01": true, // a later version begins alike
		"01-" + traceA + "-" + span1 + "-01-more":              true,
		"00-" + traceA + "-" + span1 + "-ff":                   true, // other flags say nothing to us
		"00-" + traceA + "-" + span1 + "-01-more":              false,
		"00-" + traceA + "-" + span1 + "-01more":               false,
		"01-" + traceA + "-" + span1 + "-01more":               false,
		"ff-" + traceA + "-" + span1 + "-01":                   false,
		"0-" + traceA + "-" + span1 + "-01x":                   false,
		"zz-" + traceA + "-" + span1 + "-01":                   false,
		"00-" + strings.Repeat("0", 32) + "-" + span1 + "-01":  false,
		"00-" + traceA + "-" + strings.Repeat("0", 16) + "-01": false,
		"00-" + strings.ToUpper(traceA) + "-" + span1 + "-01":  false,
		"00-" + traceA + "-" + span1 + "-0A":                   false,
		"00-" + traceA + "-" + span1 + "-":                     false,
		"00_" + traceA + "_" + span1 + "_01":                   false,
		" " + parentA:                                          false,
		strings.Repeat("-", 55):                                false,
	} {
		_, span := tracing.Serve(ctx, "GET /", text)
		require.Equal(t, good, span.On(), text)
		if good {
			require.Equal(t, traceA, span.ID())
			require.Equal(t, traceA, traceOf(span.Parent()))
			require.True(t, strings.HasSuffix(span.Parent(), "-01"), "we tell of no flag but the one we know")
		}
	}
}

func TestASpanTellsWhatCameOfItsWork(t *testing.T) {
	t.Parallel()
	ctx, exporter := setup(t)
	_, good := tracing.Serve(ctx, "good", parentA)
	good.Text("empty", "")
	good.Text("text", "value")
	good.Int("number", 7)
	good.Link(parentB)
	good.Link("unreadable")
	good.End(nil)
	_, bad := tracing.Serve(ctx, "bad", parentA)
	bad.End(errors.New("why"))
	within, failed := tracing.Serve(ctx, "failed", parentA)
	tracing.Fail(within, errors.New("a part of it"))
	failed.End(nil)
	_, said := tracing.Serve(ctx, "said", parentA)
	said.Fail("in words")
	said.End(nil)
	seen := exporter.GetSpans()
	require.Len(t, seen[0].Attributes, 2)
	require.Len(t, seen[0].Links, 1)
	require.Equal(t, codes.Unset, seen[0].Status.Code)
	for i, why := range []string{"why", "a part of it", "in words"} {
		require.Equal(t, sdk.Status{Code: codes.Error, Description: why}, seen[i+1].Status)
	}
}

// What the hot paths do where nothing is traced allocates nothing.
//
//nolint:paralleltest // AllocsPerRun counts the allocations of the whole process
func TestOffIsFree(t *testing.T) {
	off := t.Context()
	on, _ := setup(t)
	for name, ctx := range map[string]context.Context{"off": off, "not sampled": on} {
		require.Zero(t, testing.AllocsPerRun(1_000, func() { idle(ctx) }), name)
	}
}

// idle is what a call, a batch, a transaction and a step do, with no trace.
func idle(ctx context.Context) {
	ctx, span := tracing.Start(ctx, tracing.Client, "name")
	_, shared := tracing.Share(ctx, tracing.Internal, "name", nil)
	_, step := tracing.Follow(ctx, tracing.Internal, "name", "")
	if tracing.On(ctx) || tracing.Parent(ctx) != "" || tracing.ID(ctx) != "" || span.Parent() != "" {
		panic("it is traced")
	}
	for _, s := range []tracing.Span{span, shared, step} {
		s.Text("key", "value")
		s.Int("key", 1)
		s.Link("")
		s.End(nil)
	}
}

func BenchmarkOff(b *testing.B) {
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		idle(ctx)
	}
}

func BenchmarkSpan(b *testing.B) {
	ctx := tracing.With(b.Context(), sdk.NewTracerProvider())
	b.ReportAllocs()
	for b.Loop() {
		_, span := tracing.Serve(ctx, "GET /", parentA)
		span.Text("key", "value")
		span.End(nil)
	}
}
