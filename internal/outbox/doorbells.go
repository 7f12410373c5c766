package outbox

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// doorbellLook is how often the log is looked at without being rung for.
	doorbellLook = time.Second
	// doorbellLookMax bounds one look.
	doorbellLookMax = 2 * time.Second
	// doorbellPagesMax bounds it too.
	doorbellPagesMax = 4
	// doorbellsMax bounds the tenants that are waited for. Those who wait for nothing for long, or have gone,
	// are rung for when there are more.
	doorbellsMax = 10_000
)

// Doorbells ring in this process for each tenant by itself, between Start and Stop: however many wait, an
// event wakes those alone whom it concerns. They are a hint, as a Bell is.
type Doorbells struct {
	Bell *Bell
	Pool *pgxpool.Pool
	Log  *slog.Logger

	mu      sync.Mutex
	waiting map[uuid.UUID]chan struct{}
	cancel  context.CancelFunc
	group   sync.WaitGroup
}

// Start begins to ring.
func (d *Doorbells) Start(ctx context.Context) {
	ctx, d.cancel = context.WithCancel(context.WithoutCancel(ctx))
	d.group.Go(func() { d.run(ctx) })
}

// Stop rings no more. Who waits is not rung for.
func (d *Doorbells) Stop() {
	d.cancel()
	d.group.Wait()
}

// Next is closed when the tenant has new events. Take it before you look at the log: what comes after the
// look then rings.
func (d *Doorbells) Next(tenantID uuid.UUID) <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waiting == nil {
		d.waiting = map[uuid.UUID]chan struct{}{}
	}
	if d.waiting[tenantID] == nil {
		if len(d.waiting) >= doorbellsMax {
			d.ringAll()
		}
		d.waiting[tenantID] = make(chan struct{})
	}
	return d.waiting[tenantID]
}

// run knows with last up to where it has rung. When it does not know, it rings for everybody.
func (d *Doorbells) run(ctx context.Context) {
	last, known := int64(0), false
	for ctx.Err() == nil {
		rung := d.Bell.Next()
		if !d.quiet() {
			var err error
			last, err = d.look(ctx, last, known)
			known = err == nil
			if err != nil && ctx.Err() == nil {
				d.Log.WarnContext(ctx, "doorbells cannot look", slog.Any("error", err))
			}
		}
		Pause(ctx, rung, doorbellLook)
	}
}

// quiet says that nobody waits.
func (d *Doorbells) quiet() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.waiting) == 0
}

// look rings for whose events came after last, and says up to where it looked. Where that is not known, or
// too much has come since, it rings for everybody.
func (d *Doorbells) look(ctx context.Context, last int64, known bool) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, doorbellLookMax)
	defer cancel()
	for pages := 0; known && pages < doorbellPagesMax; pages++ {
		tenants, next, err := Tenants(ctx, d.Pool, last, LogPageMax)
		if err != nil || next == last {
			return last, err
		}
		d.ring(tenants)
		last = next
	}
	extent, err := ReadExtent(ctx, d.Pool)
	if err != nil {
		return last, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ringAll()
	return extent.Last, nil
}

// ring rings for some tenants.
func (d *Doorbells) ring(tenants []uuid.UUID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, tenant := range tenants {
		if rung := d.waiting[tenant]; rung != nil {
			close(rung)
			delete(d.waiting, tenant)
		}
	}
}

// ringAll rings for everybody; the caller holds the lock.
func (d *Doorbells) ringAll() {
	for _, rung := range d.waiting {
		close(rung)
	}
	clear(d.waiting)
}
