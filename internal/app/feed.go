package app

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/config"
	"example.com/holdfast/internal/mode"
	"example.com/holdfast/internal/outbox"
)

// feed is the log of events as an API reads it to those who follow it. Its connections are its own: who
// follows events keeps no transfer waiting.
type feed struct {
	*outbox.Doorbells

	pool  *pgxpool.Pool
	bells *pgxpool.Pool
	bell  *outbox.Bell
}

func newFeed(ctx context.Context, cfg config.Config, env Env) (*feed, error) {
	f := &feed{}
	var errs [2]error
	f.pool, errs[0] = eventsPool(ctx, cfg)
	f.bells, errs[1] = bellPool(ctx, cfg)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	f.bell = &outbox.Bell{Pool: f.bells, Log: env.Log, Further: []string{mode.Channel}}
	f.Doorbells = &outbox.Doorbells{Bell: f.bell, Pool: f.pool, Log: env.Log}
	return f, nil
}

func (f *feed) start(ctx context.Context) {
	f.bell.Start(ctx)
	f.Start(ctx)
}

func (f *feed) stop() {
	f.Stop()
	f.bell.Stop()
	f.bells.Close()
	f.pool.Close()
}

// Read reads a tenant's events behind a place.
func (f *feed) Read(
	ctx context.Context, tenantID uuid.UUID, after int64, limit int,
) ([]outbox.Logged, error) {
	return outbox.ReadLog(ctx, f.pool, tenantID, after, limit)
}

// Extent says which places the log has.
func (f *feed) Extent(ctx context.Context) (outbox.Extent, error) {
	return outbox.ReadExtent(ctx, f.pool)
}
