package app

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"example.com/holdfast/internal/condition"
	"example.com/holdfast/internal/httpapi"
	"example.com/holdfast/internal/mode"
)

// watchman has every look of a process judged, and sees that the log tells what began and what ended.
type watchman struct {
	env     Env
	givenUp func(context.Context) (map[string]time.Time, error)
	bench   *judge
}

// newWatchman makes one whose judgement is on the board. It asks givenUp at every look when something of each
// kind was given up last.
func newWatchman(env Env, givenUp func(context.Context) (map[string]time.Time, error)) *watchman {
	w := &watchman{env: env, givenUp: givenUp, bench: newJudge(env.Now())}
	env.board.add(w.bench.active)
	return w
}

// judge takes a look, or nil where nothing was seen.
func (w *watchman) judge(ctx context.Context, seen *look) {
	if f, ok := w.figures(ctx, seen); ok {
		w.bench.see(f, w.env.Now())
	} else {
		w.bench.blind(w.env.Now())
	}
	w.env.board.tell(ctx, w.env.Log, w.env.Now())
}

func (w *watchman) figures(ctx context.Context, seen *look) (figures, bool) {
	if seen == nil {
		return figures{}, false
	}
	ctx, cancel := context.WithTimeout(ctx, lookMax)
	defer cancel()
	givenUp, err := w.givenUp(ctx)
	if err != nil {
		w.env.Log.WarnContext(ctx, "what was given up was not seen", slog.Any("error", err))
		return figures{}, false
	}
	return figuresOf(seen, givenUp), true
}

// lastGivenUp reads when something of each kind was given up last.
func (o *Operations) lastGivenUp(ctx context.Context) (map[string]time.Time, error) {
	last := map[string]time.Time{}
	for _, read := range o.graveyards() {
		found, err := read(ctx, 1)
		if err != nil {
			return nil, err
		}
		for _, letter := range found {
			last[letter.Kind] = letter.At
		}
	}
	return last, nil
}

// Wrong says what the database shows to be wrong at this moment. Without earlier looks nothing is known of
// since when, and what only processes see (breakers, saturation, the broker) is not in it.
func (o *Operations) Wrong(ctx context.Context, now time.Time) ([]condition.Active, error) {
	seen, err := lookAt(ctx, o.pool)
	if err != nil {
		return nil, err
	}
	givenUp, err := o.lastGivenUp(ctx)
	if err != nil {
		return nil, err
	}
	state, err := mode.Read(ctx, o.pool)
	if err != nil {
		return nil, err
	}
	all := modeConditions(state)
	for _, v := range conditionsOf(figuresOf(&seen, givenUp), now) {
		all = append(all, condition.Active{Condition: v.condition, Subject: v.subject})
	}
	slices.SortStableFunc(all, condition.Active.Compare)
	return all, nil
}

// selfOf is what a listener tells of its process.
func selfOf(env Env) httpapi.Self {
	return httpapi.Self{
		Instance: env.Instance, Version: env.Version, Conditions: env.board.active,
		Mode: func() mode.Mode { return env.mode.State().Mode },
	}
}
