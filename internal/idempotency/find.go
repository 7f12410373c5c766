package idempotency

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/groupcommit"
	"example.com/holdfast/internal/idempotency/internal/idempotencydb"
)

// The look-ups of a Finder. They are for requests that are refused otherwise, perhaps very many: one
// statement at a time answers for all that came meanwhile, and who would wait for longer is told no at once.
const (
	findBatchMaxKeys = 256
	findQueueMaxKeys = 1_024
	// findWaitMax is how long a look-up may take for its caller.
	findWaitMax = 50 * time.Millisecond
	// findStatementMax bounds the statement itself: a connection is lost where the server does not answer by
	// then.
	findStatementMax = time.Second
)

// Finder says whether a key has an outcome. It works between Start and Stop.
type Finder struct {
	pool    *pgxpool.Pool
	lookups *groupcommit.Combiner[slot, bool]
}

// NewFinder makes a finder that is not started.
func NewFinder(pool *pgxpool.Pool, now func() time.Time) *Finder {
	f := &Finder{pool: pool}
	f.lookups = groupcommit.New(groupcommit.Config{
		Name: "find_keys", BatchMax: findBatchMaxKeys, QueueMax: findQueueMaxKeys, Flights: 1, Attempts: 1,
		WaitMax: findWaitMax, Now: now, Drop: true,
		Again: func(error) bool { return false }, Alone: func(error) bool { return false },
	}, f.flush)
	return f
}

// Start begins to look keys up.
func (f *Finder) Start(ctx context.Context) { f.lookups.Start(ctx) }

// Stop ends the look-up in flight.
func (f *Finder) Stop() { f.lookups.Stop() }

// Known says whether a key has a stored outcome. What cannot be found out within findWaitMax is not known.
func (f *Finder) Known(ctx context.Context, tenantID uuid.UUID, key string) bool {
	ctx, cancel := context.WithTimeout(ctx, findWaitMax)
	defer cancel()
	known, err := f.lookups.Do(ctx, slot{tenantID, key})
	return known && err == nil
}

func (f *Finder) flush(ctx context.Context, slots []slot) ([]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, findStatementMax)
	defer cancel()
	p := idempotencydb.KnownKeysParams{
		Tenants: make([]uuid.UUID, len(slots)), Keys: make([]string, len(slots)),
	}
	for i, s := range slots {
		p.Tenants[i], p.Keys[i] = s.tenantID, s.key
	}
	rows, err := idempotencydb.New().KnownKeys(ctx, f.pool, p)
	if err != nil {
		return nil, fmt.Errorf("find %d keys: %w", len(slots), err)
	}
	found := make(map[slot]bool, len(rows))
	for _, row := range rows {
		found[slot{row.TenantID, row.Key}] = true
	}
	known := make([]bool, len(slots))
	for i, s := range slots {
		known[i] = found[s]
	}
	return known, nil
}
