package outbox

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/internal/outbox/internal/outboxdb"
	"example.com/holdfast/internal/pgtx"
)

const (
	// findBefore is how much earlier than an event its place may have been given: a relay's transaction may
	// have begun before the event's.
	findBefore = 5 * time.Second
	// findMaxRows bounds a look for an event: it is in one of the tenant's next rows, where it waited for its
	// relay.
	findMaxRows = 10_000
	// rowMaxEvents is how many events a row of the log has at most.
	rowMaxEvents = 64
)

// Tenants says whose events are in the next rows of the log behind a place, and behind which place to look
// on.
func Tenants(ctx context.Context, db outboxdb.DBTX, after int64, rows int) ([]uuid.UUID, int64, error) {
	row, err := outboxdb.New().SystemTenantsOfLog(ctx, db, outboxdb.SystemTenantsOfLogParams{
		After: after, PageSize: logPage(rows),
	})
	if err != nil {
		return nil, 0, fmt.Errorf("read tenants of the log after %d: %w", after, err)
	}
	return row.Tenants, row.Last, nil
}

// PlaceAt finds the last place that was given before a time; places that the log has forgotten count as given
// before.
func PlaceAt(ctx context.Context, db outboxdb.DBTX, at time.Time) (int64, error) {
	place, err := outboxdb.New().SystemPlaceAt(ctx, db, at)
	if err != nil {
		return 0, fmt.Errorf("find place at %s: %w", at, err)
	}
	return place, nil
}

// FindPlace finds the place of an event, false if it has none yet or none any more.
func FindPlace(ctx context.Context, db outboxdb.DBTX, e Event) (int64, bool, error) {
	after, err := PlaceAt(ctx, db, e.At.Add(-findBefore))
	if err != nil {
		return 0, false, err
	}
	places, err := outboxdb.New().FindPlace(ctx, db, outboxdb.FindPlaceParams{
		TenantID: e.TenantID, After: after, MaxRows: findMaxRows, AggregateID: e.AggregateID, Seq: e.Seq,
	})
	if err != nil {
		return 0, false, fmt.Errorf("find event %d of %s: %w", e.Seq, e.AggregateID, err)
	}
	if len(places) == 0 {
		return 0, false, nil
	}
	return places[0], true, nil
}

// CountLog counts a tenant's events in an extent of the log. It looks at so many rows of the log at most,
// each of which has 1 to 64 events.
func CountLog(
	ctx context.Context, db outboxdb.DBTX, tenantID uuid.UUID, places Extent, rows int32,
) (int64, error) {
	n, err := outboxdb.New().CountLog(ctx, db, outboxdb.CountLogParams{
		TenantID: tenantID, After: places.Forgotten, UpTo: places.Last,
		RowsBefore: places.Last + rowMaxEvents, MaxRows: rows,
	})
	if err != nil {
		return 0, fmt.Errorf("count log of tenant %s after %d: %w", tenantID, places.Forgotten, err)
	}
	return n, nil
}

// Ref names an event of a tenant.
type Ref struct {
	AggregateID uuid.UUID
	Seq         int32
}

// Read reads events of a tenant, those that exist.
func Read(ctx context.Context, db outboxdb.DBTX, tenantID uuid.UUID, refs []Ref) (map[Ref]Event, error) {
	p := outboxdb.ReadEventsParams{TenantID: tenantID}
	for _, r := range refs {
		p.Aggregates, p.Seqs = append(p.Aggregates, r.AggregateID), append(p.Seqs, r.Seq)
	}
	rows, err := outboxdb.New().ReadEvents(ctx, db, p)
	if err != nil {
		return nil, fmt.Errorf("read %d events of tenant %s: %w", len(refs), tenantID, err)
	}
	events := make(map[Ref]Event, len(rows))
	for _, r := range rows {
		events[Ref{r.AggregateID, r.Seq}] = Event{
			TenantID: tenantID, AggregateID: r.AggregateID, Seq: r.Seq, Type: r.Type,
			From: pgtx.OrZero(r.FromState), To: r.ToState, Reason: pgtx.OrZero(r.Reason),
			Actor: r.Actor, Cause: pgtx.OrZero(r.Cause), Trace: pgtx.OrZero(r.Trace), Data: r.Data, At: r.At,
		}
	}
	return events, nil
}
