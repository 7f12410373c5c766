package app

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"example.com/holdfast/internal/condition"
)

// board is where everything that is wrong in a process is seen together. Whoever judges something is added to
// it while the process is wired; metrics, the admin API and the log all read it.
type board struct {
	mu      sync.Mutex
	sources []func() []condition.Active
	// told are those that the log says have begun.
	told []condition.Active
}

func (b *board) add(source func() []condition.Active) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sources = append(b.sources, source)
}

// active lists what holds, the worst first. What two sources say of the same subject is there once, since the
// earlier of the two.
func (b *board) active() []condition.Active {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []condition.Active
	for _, source := range b.sources {
		all = append(all, source()...)
	}
	slices.SortStableFunc(all, condition.Active.Compare)
	var once []condition.Active
	for _, a := range all {
		if !contains(once, a) {
			once = append(once, a)
		}
	}
	return once
}

// tell logs what began and what ended since it told last, each once.
func (b *board) tell(ctx context.Context, log *slog.Logger, now time.Time) {
	active := b.active()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range active {
		if !contains(b.told, a) {
			log.LogAttrs(ctx, levelOf(a), "condition began", namesOf(a)...)
		}
	}
	for _, a := range b.told {
		if !contains(active, a) {
			lasted := slog.Duration("lasted", now.Sub(a.Since).Round(time.Millisecond))
			log.LogAttrs(ctx, slog.LevelInfo, "condition ended", append(namesOf(a), lasted)...)
		}
	}
	b.told = active
}

// contains says whether a condition is listed for the same subject.
func contains(list []condition.Active, a condition.Active) bool {
	return slices.ContainsFunc(list, func(b condition.Active) bool {
		return a.Condition == b.Condition && a.Subject == b.Subject
	})
}

func namesOf(a condition.Active) []slog.Attr {
	return []slog.Attr{
		slog.String("condition", a.Condition.Name), slog.String("subject", a.Subject),
		slog.String("runbook", a.Condition.Runbook()),
	}
}

func levelOf(a condition.Active) slog.Level {
	switch a.Condition.Severity {
	case condition.Critical:
		return slog.LevelError
	case condition.Warning:
	}
	return slog.LevelWarn
}
