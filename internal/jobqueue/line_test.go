package jobqueue_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/jobqueue"
	"example.com/holdfast/internal/pgtest"
)

// book is a log that a test reads.
type book struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write adds lines.
func (b *book) Write(text []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(text)
}

// line is the line of a job.
type line struct {
	Message    string         `json:"msg"`
	Level      string         `json:"level"`
	Kind       string         `json:"kind"`
	Queue      string         `json:"queue"`
	Job        int64          `json:"job"`
	Attempt    int            `json:"attempt"`
	Lane       int            `json:"lane"`
	Rows       int            `json:"rows"`
	DurationUS int64          `json:"duration_us"`
	WaitUS     int64          `json:"wait_us"`
	Outcomes   map[string]int `json:"outcomes"`
	Error      string         `json:"error"`
}

// lines are those of jobs so far, and how many others there are.
func (b *book) lines(t *testing.T) ([]line, int) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	var jobs []line
	others := 0
	for text := range strings.Lines(b.text.String()) {
		var l line
		require.NoError(t, json.Unmarshal([]byte(text), &l), text)
		if l.Message == "job done" {
			jobs = append(jobs, l)
		} else {
			others++
		}
	}
	return jobs, others
}

// waitLines waits for the lines of so many jobs.
func (b *book) waitLines(t *testing.T, n int) []line {
	t.Helper()
	var found []line
	require.Eventually(t, func() bool {
		found, _ = b.lines(t)
		return len(found) >= n
	}, waitMax, time.Millisecond)
	require.Len(t, found, n)
	return found
}

// logged starts a worker of QueueRisk whose log the test reads. Its clock goes on by a second with every
// look.
func logged(
	t *testing.T, pool *pgxpool.Pool, level slog.Level, work func(context.Context, *river.Job[ping]) error,
) *book {
	t.Helper()
	workers, b := river.NewWorkers(), &book{}
	river.AddWorker(workers, &scriptedWorker{work: work})
	var mu sync.Mutex
	at := time.UnixMilli(0)
	client, err := jobqueue.NewClient(jobqueue.Config{
		Pool: pool, ID: "me", InHand: map[string]int{jobqueue.QueueRisk: 1}, Workers: workers,
		Log: slog.New(slog.NewJSONHandler(b, &slog.HandlerOptions{Level: level})),
		Now: func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			at = at.Add(time.Second)
			return at
		},
	})
	require.NoError(t, err)
	start(t, client)
	return b
}

func TestAJobHasOneLineWithAllThatItCameTo(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	enqueue(t, pool, inLane(job(jobqueue.QueueRisk, 1, now(t, pool).Add(-time.Minute)), 3))
	var id int64
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT id FROM river_job").Scan(&id))
	b := logged(t, pool, slog.LevelInfo, func(ctx context.Context, _ *river.Job[ping]) error {
		jobqueue.Rows(ctx, 7)
		var group sync.WaitGroup
		for range 5 {
			group.Go(func() { jobqueue.Count(ctx, "settled", 1) })
		}
		group.Wait()
		jobqueue.Count(ctx, jobqueue.OutcomeHandedBack, 2)
		return nil
	})
	got := b.waitLines(t, 1)[0]
	require.GreaterOrEqual(t, got.WaitUS, time.Minute.Microseconds(), "by Postgres's clock, not by ours")
	require.Less(t, got.WaitUS, 2*time.Minute.Microseconds())
	got.WaitUS = 0
	require.Equal(t, line{
		Message: "job done", Level: "INFO", Kind: "ping", Queue: jobqueue.QueueRisk, Job: id, Attempt: 1,
		Lane: 3, Rows: 7, DurationUS: time.Second.Microseconds(),
		Outcomes: map[string]int{"settled": 5, "handed_back": 2},
	}, got)
	_, others := b.lines(t)
	require.Zero(t, others, "of River we hear warnings only")
}

func TestTheLineOfAJobThatFailsOrPanicsSaysWhy(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	enqueue(t, pool, job(jobqueue.QueueRisk, failing, now(t, pool)))
	b := logged(t, pool, slog.LevelInfo, workOrFail(nil))
	lines := b.waitLines(t, jobqueue.MaxAttempts)
	for i, l := range lines {
		require.Equal(t, errUnable.Error(), l.Error)
		require.Equal(t, i+1, l.Attempt)
		require.Empty(t, l.Outcomes)
	}
	enqueue(t, pool, job(jobqueue.QueueRisk, panicking, now(t, pool)))
	lines = b.waitLines(t, 2*jobqueue.MaxAttempts)
	require.Contains(t, lines[jobqueue.MaxAttempts].Error, "panic: nul")
}

func TestWhereNobodyReadsTheLinesJobsAreWorkedWithoutThem(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	enqueue(t, pool, job(jobqueue.QueueRisk, 1, now(t, pool)), job(jobqueue.QueueRisk, failing, now(t, pool)))
	worked := make(chan *river.Job[ping], 1)
	b := logged(t, pool, slog.LevelWarn, workOrFail(worked))
	receive(t, worked)
	waitFor(t, pool, 1, "SELECT count(*) FROM river_job WHERE state = 'discarded'")
	require.Eventually(t, func() bool {
		_, others := b.lines(t)
		return others == jobqueue.MaxAttempts // that it failed is an error
	}, waitMax, time.Millisecond)
	jobs, _ := b.lines(t)
	require.Empty(t, jobs)
}

//nolint:paralleltest // allocations of others would be counted
func TestCountingCostsNothingWhereNobodyReads(t *testing.T) {
	ctx := t.Context()
	require.Zero(t, testing.AllocsPerRun(1_000, func() {
		jobqueue.Rows(ctx, 7)
		jobqueue.Count(ctx, jobqueue.OutcomeAgain, 1)
	}))
}

func TestOfRiverWeHearWarningsOnly(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	log := slog.New(jobqueue.Warnings(slog.NewTextHandler(&text, nil)))
	for _, l := range []*slog.Logger{log, log.With(slog.Int("a", 1)), log.WithGroup("g")} {
		require.False(t, l.Enabled(t.Context(), slog.LevelInfo))
		require.True(t, l.Enabled(t.Context(), slog.LevelWarn))
	}
	none := slog.New(jobqueue.Warnings(slog.DiscardHandler))
	require.False(t, none.Enabled(t.Context(), slog.LevelError))
}
