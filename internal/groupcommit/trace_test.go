package groupcommit_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"example.com/holdfast/internal/groupcommit"
	"example.com/holdfast/internal/tracing"
)

const (
	waitMax = 10 * time.Second
	tick    = time.Millisecond
)

// traced is a combiner whose flush waits to be let go, and a way to hand in items in traces of their own.
type traced struct {
	*callers
	exporter *tracetest.InMemoryExporter
	provider *sdk.TracerProvider
	inFlush  chan string
	open     chan struct{}
}

func setupTraced(t *testing.T, answer func([]int) ([]string, error)) *traced {
	t.Helper()
	s := &traced{
		exporter: tracetest.NewInMemoryExporter(), inFlush: make(chan string, 100),
		open: make(chan struct{}, 100),
	}
	s.provider = sdk.NewTracerProvider(sdk.WithSyncer(s.exporter))
	s.callers = &callers{got: map[int]outcome{}}
	s.c = groupcommit.New(config(), func(ctx context.Context, items []int) ([]string, error) {
		s.inFlush <- tracing.Parent(ctx)
		<-s.open
		return answer(items)
	})
	s.c.Start(tracing.With(t.Context(), s.provider))
	t.Cleanup(s.c.Stop)
	return s
}

// hand hands an item in, in the trace of that number; 0 is none.
func (s *traced) hand(t *testing.T, item, number int) {
	t.Helper()
	ctx := tracing.With(t.Context(), s.provider)
	ctx, span := tracing.Follow(ctx, tracing.Internal, "request", parentOf(number))
	s.group.Go(func() {
		defer span.End(nil)
		text, err := s.c.Do(ctx, item)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.got[item] = outcome{text, err}
	})
}

func parentOf(number int) string {
	if number == 0 {
		return ""
	}
	return fmt.Sprintf("00-%032x-%016x-01", number, 1)
}

func (s *traced) named(name string) tracetest.SpanStubs {
	return slices.DeleteFunc(s.exporter.GetSpans(),
		func(span tracetest.SpanStub) bool { return span.Name != name })
}

func TestABatchNamesItsCallersAndTheyNameIt(t *testing.T) {
	t.Parallel()
	s := setupTraced(t, func(items []int) ([]string, error) { return echo(items), nil })
	s.hand(t, 1, 0)
	require.Empty(t, <-s.inFlush, "a batch without a traced caller is not traced")
	for item, number := range map[int]int{2: 2, 3: 0, 4: 4} {
		s.hand(t, item, number)
	}
	require.Eventually(t, func() bool { return s.c.Waiting() == 3 }, waitMax, tick)
	s.open <- struct{}{}
	inside := <-s.inFlush
	s.open <- struct{}{}
	s.group.Wait()
	s.requireEchoes(t, 1, 2, 3, 4)

	batches, waits := s.named("commit test"), s.named("wait for test")
	require.Len(t, batches, 1)
	require.Len(t, waits, 2)
	batch := batches[0].SpanContext
	require.Equal(t, "00-"+batch.TraceID().String()+"-"+batch.SpanID().String()+"-01", inside,
		"what the flush does is a part of the batch")
	var named []string
	for _, link := range batches[0].Links {
		named = append(named, link.SpanContext.SpanID().String())
	}
	for _, wait := range waits {
		require.Contains(t, named, wait.SpanContext.SpanID().String())
		require.Len(t, wait.Links, 1)
		require.Equal(t, batch.SpanID(), wait.Links[0].SpanContext.SpanID())
	}
	require.Len(t, named, 2)
	require.Equal(t, named[0], batches[0].Parent.SpanID().String(), "it is a part of the first's wait")
}

func TestABatchThatFailsSaysSoToAllAndItsPartsAreTheirOwn(t *testing.T) {
	t.Parallel()
	s := setupTraced(t, failing(2))
	s.hand(t, 1, 0)
	<-s.inFlush
	s.hand(t, 2, 2)
	s.hand(t, 3, 3)
	require.Eventually(t, func() bool { return s.c.Waiting() == 2 }, waitMax, tick)
	close(s.open)
	s.group.Wait()
	require.ErrorIs(t, s.got[2].err, errAlone)
	s.requireEchoes(t, 3)
	batches := s.named("commit test")
	require.Len(t, batches, 3, "the whole, and each of its parts")
	require.Equal(t, codes.Error, batches[0].Status.Code)
	traces := map[string]codes.Code{}
	for _, part := range batches[1:] {
		require.Len(t, part.Links, 1)
		traces[part.SpanContext.TraceID().String()] = part.Status.Code
	}
	require.Equal(t, map[string]codes.Code{
		fmt.Sprintf("%032x", 2): codes.Error, fmt.Sprintf("%032x", 3): codes.Unset,
	}, traces)
	for _, wait := range s.named("wait for test") {
		require.Len(t, wait.Links, 1, "the batch that its answer is of")
		require.Contains(t, []string{
			batches[1].SpanContext.SpanID().String(), batches[2].SpanContext.SpanID().String(),
		}, wait.Links[0].SpanContext.SpanID().String())
	}
}

func TestACallerWhoIsNotTakenHasNoBatchToName(t *testing.T) {
	t.Parallel()
	s := setupTraced(t, func(items []int) ([]string, error) { return echo(items), nil })
	s.c.Stop()
	s.hand(t, 1, 1)
	s.group.Wait()
	require.ErrorIs(t, s.got[1].err, groupcommit.ErrStopped)
	wait := s.named("wait for test")[0]
	require.Empty(t, wait.Links)
	require.Equal(t, codes.Error, wait.Status.Code)
}
