package jobqueue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/stretchr/testify/require"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"example.com/holdfast/internal/jobqueue"
	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/tracing"
)

// traceparent is the n-th trace of a test.
func traceparent(n int) string { return fmt.Sprintf("00-%032x-%016x-01", n, 1) }

func traceID(n int) string { return fmt.Sprintf("%032x", n) }

// row is the n-th row of a test.
func row(n int) uuid.UUID { return uuid.UUID{15: byte(n)} }

// ofRows is a job whose rows are traced.
func ofRows(t *testing.T, pool *pgxpool.Pool, n int) jobqueue.Job {
	t.Helper()
	j := job(jobqueue.QueueDB, 1, now(t, pool))
	for i := 1; i <= n; i++ {
		j.Traces.Add(row(i), traceparent(i))
	}
	return j
}

// tracesIn reads the traces of the jobs of a state.
func tracesIn(t *testing.T, pool *pgxpool.Pool, state string) []jobqueue.Traces {
	t.Helper()
	rows, err := pool.Query(t.Context(), `SELECT metadata FROM river_job WHERE state = $1`, state)
	require.NoError(t, err)
	texts, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	require.NoError(t, err)
	found := make([]jobqueue.Traces, len(texts))
	for i, text := range texts {
		var m struct {
			Traces jobqueue.Traces `json:"traces"`
		}
		require.NoError(t, json.Unmarshal(text, &m))
		found[i] = m.Traces
	}
	return found
}

func TestAJobNamesAFewOfItsTracedRows(t *testing.T) {
	t.Parallel()
	var traces jobqueue.Traces
	traces.Add(row(1), "")
	require.Nil(t, traces, "a row that is not sampled leaves nothing")
	for i := range 40 {
		traces.Add(row(i), traceparent(1))
	}
	require.Len(t, traces, 8)
}

func TestJobsAreStoredWithTheirTracesOrAsTheyWere(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	at := now(t, pool)
	enqueue(t, pool, job(jobqueue.QueueDB, 1, at), ofRows(t, pool, 2), job(jobqueue.QueueDB, 3, at))
	enqueue(t, pool, job(jobqueue.QueueDB, 4, at))
	require.Equal(t, 3, count(t, pool, `SELECT count(*) FROM river_job WHERE metadata = '{}'`))
	require.Contains(t, tracesIn(t, pool, "available"),
		jobqueue.Traces{row(1): traceparent(1), row(2): traceparent(2)})
}

// inHandOf lets an instance have all jobs in hand.
func inHandOf(t *testing.T, pool *pgxpool.Pool, by ...string) {
	t.Helper()
	_, err := pool.Exec(t.Context(), `
UPDATE river_job SET state = 'running', attempt = 1, attempted_by = $1, attempted_at = clock_timestamp()`, by)
	require.NoError(t, err)
}

func TestTheTracesOfAJobGoOnWhereverItDoes(t *testing.T) {
	t.Parallel()
	want := []jobqueue.Traces{{row(1): traceparent(1)}}
	t.Run("given back", func(t *testing.T) {
		t.Parallel()
		pool := pgtest.New(t)
		enqueue(t, pool, ofRows(t, pool, 1))
		inHandOf(t, pool, "w")
		var id int64
		require.NoError(t, pool.QueryRow(t.Context(), "SELECT id FROM river_job").Scan(&id))
		require.NoError(t, jobqueue.HandBack(t.Context(), pool, jobqueue.Returned{ID: id, Args: ping{1}}))
		require.Equal(t, want, tracesIn(t, pool, "available"))
	})
	t.Run("taken over from a killed worker", func(t *testing.T) {
		t.Parallel()
		pool := pgtest.New(t)
		enqueue(t, pool, ofRows(t, pool, 1))
		inHandOf(t, pool, "dead")
		reap(t, pool)
		require.Equal(t, want, tracesIn(t, pool, "available"))
		steps := work(t, pool, stepOf(row(1), nil))
		require.Equal(t, traceID(1), (<-steps).trace, "and whoever has it next follows them")
	})
	t.Run("put back after a failure", func(t *testing.T) {
		t.Parallel()
		pool := pgtest.New(t)
		enqueue(t, pool, ofRows(t, pool, 1))
		steps := work(t, pool, stepOf(row(1), errors.New("broken")))
		for range 3 {
			require.Equal(t, traceID(1), (<-steps).trace)
		}
	})
}

// step is what a worker sees of a row.
type step struct {
	trace, parent string
	known         string
	after         string
}

// stepOf does the step of a row.
func stepOf(id uuid.UUID, err error) func(context.Context) (step, error) {
	return func(ctx context.Context) (step, error) {
		s := step{known: jobqueue.TraceOf(ctx, id)}
		within, span := jobqueue.Step(ctx, id)
		s.trace, s.parent, s.after = tracing.ID(within), tracing.Parent(ctx), tracing.ID(ctx)
		span.End(err)
		return s, err
	}
}

type stepWorker struct {
	river.WorkerDefaults[ping]
	do    func(context.Context) (step, error)
	steps chan step
}

func (w *stepWorker) Work(ctx context.Context, _ *river.Job[ping]) error {
	s, err := w.do(ctx)
	w.steps <- s
	return err
}

// work starts a client whose spans are sampled where those of the rows are.
func work(t *testing.T, pool *pgxpool.Pool, do func(context.Context) (step, error)) <-chan step {
	t.Helper()
	steps, _ := workSeen(t, pool, do)
	return steps
}

func workSeen(
	t *testing.T, pool *pgxpool.Pool, do func(context.Context) (step, error),
) (<-chan step, *tracetest.InMemoryExporter) {
	t.Helper()
	exporter := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(exporter),
		sdk.WithSampler(sdk.ParentBased(sdk.NeverSample())))
	w := &stepWorker{do: do, steps: make(chan step, 100)}
	workers := river.NewWorkers()
	river.AddWorker(workers, w)
	client := newClient(t, pool, "w", map[string]int{jobqueue.QueueDB: 1}, workers)
	ctx := context.WithoutCancel(tracing.With(t.Context(), provider))
	require.NoError(t, client.Start(ctx))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(ctx, waitMax)
		defer cancel()
		require.NoError(t, client.StopAndCancel(ctx))
	})
	return w.steps, exporter
}

func TestAStepBelongsToItsRowAndTheJobNamesAll(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	steps, exporter := workSeen(t, pool, func(ctx context.Context) (step, error) {
		_, err := stepOf(row(2), nil)(ctx)
		if err != nil {
			return step{}, err
		}
		return stepOf(row(1), nil)(ctx)
	})
	enqueue(t, pool, ofRows(t, pool, 2))
	s := <-steps
	require.Equal(t, step{trace: traceID(1), parent: s.parent, known: traceparent(1), after: traceID(1)}, s)
	require.Eventually(t, func() bool { return len(exporter.GetSpans()) == 3 }, waitMax, time.Millisecond)
	spans := exporter.GetSpans()
	other, own, whole := spans[0], spans[1], spans[2]
	require.Equal(t, []string{"ping", "ping", "job ping"}, []string{other.Name, own.Name, whole.Name})
	require.Equal(t, whole.SpanContext.SpanID(), own.Parent.SpanID())
	require.Equal(t, traceID(2), other.SpanContext.TraceID().String())
	require.Equal(t, whole.SpanContext.SpanID(), other.Links[0].SpanContext.SpanID())
	require.Equal(t, tracing.Consumer, whole.SpanKind)
	var named []string
	for _, link := range whole.Links {
		named = append(named, link.SpanContext.TraceID().String())
	}
	require.Equal(t, []string{traceID(1), traceID(2)}, named)
}

func TestARowWithoutATraceStaysOutOfThoseOfItsNeighbours(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	steps := work(t, pool, stepOf(row(9), nil))
	enqueue(t, pool, ofRows(t, pool, 1))
	s := <-steps
	require.NotEmpty(t, s.parent, "the job is traced")
	require.Empty(t, s.trace+s.known)
}

func TestWhatOthersWroteIntoMetadataIsNoTrace(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	at := now(t, pool)
	for i, text := range []string{`{"traces":7}`, `{"traces":{"x":"y"}}`, `{"output":1}`, `{"traces":{}}`} {
		enqueue(t, pool, job(jobqueue.QueueDB, i, at))
		_, err := pool.Exec(t.Context(), `UPDATE river_job SET metadata = $1 WHERE metadata = '{}'`, text)
		require.NoError(t, err)
	}
	steps, exporter := workSeen(t, pool, stepOf(row(1), nil))
	for range 4 {
		require.Equal(t, step{}, <-steps)
	}
	require.Empty(t, exporter.GetSpans())
}

// A worker that does not trace leaves what it has in hand as it is, for one that does.
func TestWithoutATracerAJobIsWorkedAsEver(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	workers, worked := newWorkers()
	client := newClient(t, pool, "w", map[string]int{jobqueue.QueueDB: 1}, workers)
	start(t, client)
	enqueue(t, pool, ofRows(t, pool, 1))
	require.Contains(t, string(receive(t, worked).Metadata), traceparent(1))
}

// What is not traced costs an enqueue nothing.
//
//nolint:paralleltest // AllocsPerRun counts the allocations of the whole process
func TestEnqueueWithoutTracesAllocatesNoMore(t *testing.T) {
	jobs := make([]jobqueue.Job, 32)
	allocs := func() float64 {
		return testing.AllocsPerRun(200, func() {
			if _, err := jobqueue.EncodeTraces(jobs); err != nil {
				panic(err)
			}
		})
	}
	require.Zero(t, allocs())
	jobs[0].Traces.Add(row(1), traceparent(1))
	require.NotZero(t, allocs(), "so the test can see a difference")
}
