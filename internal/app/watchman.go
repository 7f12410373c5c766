package app

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"example.com/holdfast/internal/httpapi"
)

const (
	// watchEvery is how often it is looked at how work fares, and watchMax bounds a look.
	watchEvery = time.Second
	watchMax   = 2 * time.Second
)

// watchman looks at how work fares again and again, has it judged, and sees that the log tells what began and
// what ended.
type watchman struct {
	env    Env
	read   func(context.Context) (look, error)
	judge  *judge
	cancel context.CancelFunc
	group  sync.WaitGroup
}

// newWatchman makes one whose judgement is on the board.
func newWatchman(env Env, read func(context.Context) (look, error)) *watchman {
	w := &watchman{env: env, read: read, judge: newJudge(env.Now())}
	env.board.add(w.judge.active)
	return w
}

func (w *watchman) start(ctx context.Context) {
	ctx, w.cancel = context.WithCancel(context.WithoutCancel(ctx))
	w.group.Go(func() {
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				w.round(ctx)
			}
		}
	})
}

// stop waits until nobody looks any more. What held stays on the board.
func (w *watchman) stop() {
	w.cancel()
	w.group.Wait()
}

func (w *watchman) round(ctx context.Context) {
	once, cancel := context.WithTimeout(ctx, watchMax)
	seen, err := w.read(once)
	cancel()
	switch now := w.env.Now(); {
	case err == nil:
		w.judge.see(seen, now)
	case ctx.Err() == nil:
		w.judge.blind(now)
		w.env.Log.DebugContext(ctx, "work not seen", slog.Any("error", err))
	}
	w.env.board.tell(ctx, w.env.Log, w.env.Now())
}

// selfOf is what a listener tells of its process.
func selfOf(env Env) httpapi.Self {
	return httpapi.Self{Instance: env.Instance, Version: env.Version, Conditions: env.board.active}
}
