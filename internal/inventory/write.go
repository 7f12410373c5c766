package inventory

import (
	"bytes"
	"cmp"
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/holdfast/internal/inventory/internal/inventorydb"
	"example.com/holdfast/internal/pgtx"
)

// Write queues everything that the book decided.
func (b *Book) Write(ctx context.Context, write *pgx.Batch) error {
	db, q := pgtx.Into(write), inventorydb.New()
	for _, queue := range []func() error{
		func() error { return b.writeSlots(ctx, q, db) },
		func() error { return b.writeStock(ctx, q, db) },
		func() error { return b.writeEntries(ctx, q, db) },
		func() error { return b.writeReservations(ctx, q, db) },
		func() error { return b.writeBookings(ctx, q, db) },
	} {
		if err := queue(); err != nil {
			return err
		}
	}
	return nil
}

func (b *Book) writeSlots(ctx context.Context, q *inventorydb.Queries, db pgtx.Writer) error {
	var p inventorydb.WriteSlotsParams
	for _, ref := range sortedKeys(b.slots, compareRefs) {
		if s := b.slots[ref]; s.dirty {
			p.Tenants, p.Ids = append(p.Tenants, ref.TenantID), append(p.Ids, ref.ID)
			p.Booked, p.Statuses = append(p.Booked, s.Booked), append(p.Statuses, s.Status)
		}
	}
	if len(p.Ids) == 0 {
		return nil
	}
	return q.WriteSlots(ctx, db, p)
}

func (b *Book) writeStock(ctx context.Context, q *inventorydb.Queries, db pgtx.Writer) error {
	var p inventorydb.WriteStockParams
	for _, at := range sortedKeys(b.stock, comparePlaces) {
		if s := b.stock[at]; s.dirty {
			p.Tenants, p.Skus = append(p.Tenants, at.tenantID), append(p.Skus, at.sku)
			p.Locations, p.OnHand = append(p.Locations, at.location), append(p.OnHand, s.onHand)
			p.Reserved, p.Versions = append(p.Reserved, s.reserved), append(p.Versions, s.version)
		}
	}
	if len(p.Skus) == 0 {
		return nil
	}
	return q.WriteStock(ctx, db, p)
}

func (b *Book) writeEntries(ctx context.Context, q *inventorydb.Queries, db pgtx.Writer) error {
	if len(b.entries) == 0 {
		return nil
	}
	p := inventorydb.InsertEntriesParams{Now: b.now}
	for _, e := range b.entries {
		p.Tenants, p.Skus = append(p.Tenants, e.place.tenantID), append(p.Skus, e.place.sku)
		p.Locations, p.Versions = append(p.Locations, e.place.location), append(p.Versions, e.version)
		p.Kinds, p.Quantities = append(p.Kinds, string(e.kind)), append(p.Quantities, e.quantity)
		p.OnHandAfter, p.Refs = append(p.OnHandAfter, e.after), append(p.Refs, e.reference)
	}
	return q.InsertEntries(ctx, db, p)
}

// writeReservations inserts those that have no row yet and moves the others from what their row says.
func (b *Book) writeReservations(ctx context.Context, q *inventorydb.Queries, db pgtx.Writer) error {
	added, moved := inventorydb.InsertReservationsParams{Now: b.now}, inventorydb.MoveReservationsParams{Now: b.now}
	for _, key := range sortedKeys(b.reservations, compareTaken) {
		r := b.reservations[key]
		switch {
		case r.was == "":
			id, err := uuid.NewV7()
			if err != nil {
				return fmt.Errorf("make reservation id: %w", err)
			}
			added.Tenants, added.Orders = append(added.Tenants, key.owner.TenantID), append(added.Orders, key.owner.ID)
			added.Skus, added.Ids = append(added.Skus, key.sku), append(added.Ids, id)
			added.Locations, added.Quantities = append(added.Locations, r.location), append(added.Quantities, r.quantity)
			added.Statuses, added.ExpiresAt = append(added.Statuses, r.status), append(added.ExpiresAt, r.expires)
		case r.dirty() || !r.expires.Equal(r.expired):
			moved.Tenants, moved.Orders = append(moved.Tenants, key.owner.TenantID), append(moved.Orders, key.owner.ID)
			moved.Skus, moved.Quantities = append(moved.Skus, key.sku), append(moved.Quantities, r.quantity)
			moved.FromStatuses, moved.ToStatuses = append(moved.FromStatuses, r.was), append(moved.ToStatuses, r.status)
			moved.ExpiresAt = append(moved.ExpiresAt, r.expires)
		}
	}
	if len(added.Orders) > 0 {
		if err := q.InsertReservations(ctx, db, added); err != nil {
			return err
		}
	}
	if len(moved.Orders) == 0 {
		return nil
	}
	return q.MoveReservations(ctx, db, moved)
}

func compareTaken(a, b taken) int {
	return cmp.Or(compareRefs(a.owner, b.owner), bytes.Compare(a.sku[:], b.sku[:]))
}

func (b *Book) writeBookings(ctx context.Context, q *inventorydb.Queries, db pgtx.Writer) error {
	added, moved := inventorydb.InsertBookingsParams{Now: b.now}, inventorydb.MoveBookingsParams{Now: b.now}
	for _, owner := range sortedKeys(b.bookings, compareRefs) {
		k := b.bookings[owner]
		switch {
		case k.was == "":
			added.Tenants, added.Orders = append(added.Tenants, owner.TenantID), append(added.Orders, owner.ID)
			added.Slots, added.Statuses = append(added.Slots, k.slot), append(added.Statuses, k.status)
			added.ExpiresAt = append(added.ExpiresAt, k.expires)
		case k.dirty() || !k.expires.Equal(k.expired):
			moved.Tenants, moved.Orders = append(moved.Tenants, owner.TenantID), append(moved.Orders, owner.ID)
			moved.Slots, moved.FromStatuses = append(moved.Slots, k.slot), append(moved.FromStatuses, k.was)
			moved.ToStatuses, moved.ExpiresAt = append(moved.ToStatuses, k.status), append(moved.ExpiresAt, k.expires)
		}
	}
	if len(added.Orders) > 0 {
		if err := q.InsertBookings(ctx, db, added); err != nil {
			return err
		}
	}
	if len(moved.Orders) == 0 {
		return nil
	}
	return q.MoveBookings(ctx, db, moved)
}
