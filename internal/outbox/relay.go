package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/outbox/internal/outboxdb"
	"example.com/holdfast/internal/pgtx"
)

const (
	// relayEvery is how often the outbox is looked at. Writers announce nothing: a notification in each of
	// their transactions would cost most of their rate, and this look costs a tenth of a millisecond.
	relayEvery = 25 * time.Millisecond
	// relayBatchRows bounds one transaction of a relay; a row names up to 64 events.
	relayBatchRows = 256
	// relayMax bounds one transaction of a relay.
	relayMax = 5 * time.Second
	// relayPauseMax is the longest pause after failures.
	relayPauseMax = 2 * time.Second
)

// Relay gives events their places in the log, between Start and Stop. Any number of relays may run: the one
// that has the lock on the head works, the others find nothing to do.
type Relay struct {
	Pool *pgxpool.Pool
	Log  *slog.Logger

	cancel context.CancelFunc
	group  sync.WaitGroup
}

// Start begins to relay.
func (r *Relay) Start(ctx context.Context) {
	ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	r.group.Go(func() { r.run(ctx) })
}

// Stop ends the transaction in hand and relays nothing more.
func (r *Relay) Stop() {
	r.cancel()
	r.group.Wait()
}

func (r *Relay) run(ctx context.Context) {
	tick := time.NewTicker(relayEvery)
	defer tick.Stop()
	pause := relayEvery
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := r.drain(ctx)
		switch {
		case err == nil && pause != relayEvery:
			pause = relayEvery
			tick.Reset(pause)
		case err != nil && ctx.Err() == nil:
			r.Log.WarnContext(ctx, "relay failed", slog.Any("error", err))
			pause = min(2*pause, relayPauseMax)
			tick.Reset(pause)
		}
	}
}

// drain relays until less than a batch waits.
func (r *Relay) drain(ctx context.Context) error {
	for ctx.Err() == nil {
		more, err := r.relay(ctx)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// relay moves one batch from the outbox into the log, and says whether there is more. A relay that stops
// finishes it.
func (r *Relay) relay(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), relayMax)
	defer cancel()
	if waits, err := outboxdb.New().SystemOutboxWaits(ctx, r.Pool); err != nil || !waits {
		return false, asRelay(err)
	}
	var heads []int64
	var moved int
	err := pgtx.Pipeline(ctx, r.Pool, "relay events",
		func(read *pgx.Batch) {
			pgtx.Read(read, func(h struct{ Last int64 }) { heads = append(heads, h.Last) },
				outboxdb.SystemLockHead)
		},
		func(write *pgx.Batch) error {
			if len(heads) == 0 {
				return nil // another relay is at it
			}
			pgtx.Read(write, func(l outboxdb.SystemLogOutboxRow) { moved = int(l.Moved) },
				outboxdb.SystemLogOutbox, heads[0], relayBatchRows)
			return outboxdb.New().SystemAnnounceLog(ctx, pgtx.Into(write), outboxdb.SystemAnnounceLogParams{
				Channel: logChannel, After: heads[0],
			})
		})
	return moved == relayBatchRows, asRelay(err)
}

func asRelay(err error) error {
	if err != nil {
		return fmt.Errorf("relay events: %w", err)
	}
	return nil
}
