package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// logChannel is where the growth of the log is announced, after the schema and a dot.
	logChannel = "holdfast_event_log"
	// bellPause is how long a bell that lost its connection waits before it takes another one.
	bellPause = time.Second
)

// Bell rings in this process when the log has grown, between Start and Stop. It is a hint: a notification may
// be lost with its connection, so whoever waits for it looks by itself now and then.
type Bell struct {
	// Pool lends one connection for as long as the bell works; its connections may wait for notifications.
	Pool *pgxpool.Pool
	Log  *slog.Logger

	mu     sync.Mutex
	next   chan struct{}
	cancel context.CancelFunc
	group  sync.WaitGroup
}

// Start begins to listen.
func (b *Bell) Start(ctx context.Context) {
	ctx, b.cancel = context.WithCancel(context.WithoutCancel(ctx))
	b.group.Go(func() {
		for ctx.Err() == nil {
			if err := b.listen(ctx); ctx.Err() == nil {
				b.Log.WarnContext(ctx, "bell of the log lost its connection", slog.Any("error", err))
				Pause(ctx, nil, bellPause)
			}
		}
	})
}

// Stop listens no more. Who waits is not rung for.
func (b *Bell) Stop() {
	b.cancel()
	b.group.Wait()
}

// Next is closed when the bell rings the next time. Take it before you look at the log: what comes after the
// look then rings.
func (b *Bell) Next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == nil {
		b.next = make(chan struct{})
	}
	return b.next
}

// Ring wakes everybody who waits.
func (b *Bell) Ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next != nil {
		close(b.next)
		b.next = nil
	}
}

func (b *Bell) listen(ctx context.Context) error {
	conn, err := b.Pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("listen to the log: %w", err)
	}
	// A connection that has listened is not for others.
	c := conn.Hijack()
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }() // nothing is left to be said on it
	var schema string
	if err := c.QueryRow(ctx, "SELECT current_schema()").Scan(&schema); err != nil {
		return fmt.Errorf("listen to the log: %w", err)
	}
	if _, err := c.Exec(ctx, "LISTEN "+pgx.Identifier{schema + "." + logChannel}.Sanitize()); err != nil {
		return fmt.Errorf("listen to the log: %w", err)
	}
	for {
		b.Ring() // at first for what came before we listened
		if _, err := c.WaitForNotification(ctx); err != nil {
			return fmt.Errorf("wait for the log: %w", err)
		}
	}
}

// Pause waits until the bell has rung, the time is over or the context has ended.
func Pause(ctx context.Context, rung <-chan struct{}, most time.Duration) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-rung:
	case <-timer.C:
	case <-ctx.Done():
	}
}
