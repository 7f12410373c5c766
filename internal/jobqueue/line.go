package jobqueue

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/riverqueue/river/rivertype"
)

// What became of a row that a job names, beside the state that it reached.
const (
	// OutcomeNotDue is that of a row with nothing to do: it is done, or somebody set a later time.
	OutcomeNotDue = "not_due"
	// OutcomeAgain is that of a row whose step gave no answer, and is tried again.
	OutcomeAgain = "again"
	// OutcomeStale is that of a row that somebody else had moved meanwhile.
	OutcomeStale = "stale"
	// OutcomeHandedBack is that of a row that goes on elsewhere: there was no place for it, or the process
	// stops.
	OutcomeHandedBack = "handed_back"
)

// lineMaxAttrs is the most that the line of a job holds.
const lineMaxAttrs = 10

// tally counts what became of the rows of one job. Its steps go side by side.
type tally struct {
	mu       sync.Mutex
	rows     int
	outcomes map[string]int
}

type tallyKey struct{}

// Rows notes how many rows the job of a context names. Where nobody reads the line of the job it does
// nothing.
func Rows(ctx context.Context, n int) {
	if t, counts := ctx.Value(tallyKey{}).(*tally); counts {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.rows = n
	}
}

// Count notes what became of some of the rows, in a word of a bounded set. Where nobody reads the line of the
// job it does nothing.
func Count(ctx context.Context, outcome string, rows int) {
	if t, counts := ctx.Value(tallyKey{}).(*tally); counts {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.outcomes[outcome] += rows
	}
}

// lines tells of each job in one line of the log when it is done.
type lines struct {
	log *slog.Logger
	now func() time.Time
}

// around works a job and tells of it. If nobody reads lines, it only works.
func (l lines) around(
	ctx context.Context, job *rivertype.JobRow, work func(context.Context) error,
) error {
	if !l.log.Enabled(ctx, slog.LevelInfo) {
		return recovered(ctx, work)
	}
	t := &tally{outcomes: map[string]int{}}
	began := l.now()
	err := recovered(context.WithValue(ctx, tallyKey{}, t), work)
	l.log.LogAttrs(ctx, slog.LevelInfo, "job done", lineOf(job, t, l.now().Sub(began), err)...)
	return err
}

// lineOf is what the line of a job tells. How long the job waited is by Postgres's clock alone, how long it
// took by ours.
func lineOf(job *rivertype.JobRow, t *tally, took time.Duration, err error) []slog.Attr {
	t.mu.Lock()
	defer t.mu.Unlock()
	attrs := make([]slog.Attr, 0, lineMaxAttrs)
	attrs = append(attrs, slog.String("kind", job.Kind), slog.String("queue", job.Queue),
		slog.Int64("job", job.ID), slog.Int("attempt", job.Attempt), slog.Int("lane", job.Priority),
		slog.Int("rows", t.rows), slog.Int64("duration_us", took.Microseconds()))
	if job.AttemptedAt != nil {
		wait := max(0, job.AttemptedAt.Sub(job.ScheduledAt))
		attrs = append(attrs, slog.Int64("wait_us", wait.Microseconds()))
	}
	counted := make([]slog.Attr, 0, len(t.outcomes))
	for _, outcome := range slices.Sorted(maps.Keys(t.outcomes)) {
		counted = append(counted, slog.Int(outcome, t.outcomes[outcome]))
	}
	attrs = append(attrs, slog.Attr{Key: "outcomes", Value: slog.GroupValue(counted...)})
	if err != nil {
		attrs = append(attrs, slog.Any("error", err))
	}
	return attrs
}

// warnings keeps to itself what is less than a warning.
type warnings struct{ slog.Handler }

// Enabled says whether it is a warning at least, and somebody reads it.
func (w warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && w.Handler.Enabled(ctx, level)
}

// WithAttrs keeps to itself as much.
func (w warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{w.Handler.WithAttrs(attrs)}
}

// WithGroup keeps to itself as much.
func (w warnings) WithGroup(name string) slog.Handler { return warnings{w.Handler.WithGroup(name)} }
