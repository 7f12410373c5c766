package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
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
	// Further are channels of others who may wait on the same connection, each for its own; see On.
	Further []string

	mu     sync.Mutex
	next   map[string]chan struct{}
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
func (b *Bell) Next() <-chan struct{} { return b.On(logChannel) }

// On is Next for one of the further channels.
func (b *Bell) On(channel string) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == nil {
		b.next = map[string]chan struct{}{}
	}
	if b.next[channel] == nil {
		b.next[channel] = make(chan struct{})
	}
	return b.next[channel]
}

// ring wakes everybody who waits on a channel.
func (b *Bell) ring(channel string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if next := b.next[channel]; next != nil {
		close(next)
		delete(b.next, channel)
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
	channels := append([]string{logChannel}, b.Further...)
	for _, channel := range channels {
		_, err := c.Exec(ctx, "LISTEN "+pgx.Identifier{schema + "." + channel}.Sanitize())
		if err != nil {
			return fmt.Errorf("listen to the log: %w", err)
		}
	}
	for _, channel := range channels {
		b.ring(channel) // for what came before we listened
	}
	for {
		n, err := c.WaitForNotification(ctx)
		if err != nil {
			return fmt.Errorf("wait for the log: %w", err)
		}
		b.ring(strings.TrimPrefix(n.Channel, schema+"."))
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
