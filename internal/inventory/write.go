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
	n, m := inventorydb.InsertReservationsParams{Now: b.now}, inventorydb.MoveReservationsParams{Now: b.now}
	for _, key := range sortedKeys(b.reservations, compareTaken) {
		r := b.reservations[key]
		if r.fresh() {
			id, err := uuid.NewV7()
			if err != nil {
				return fmt.Errorf("make reservation id: %w", err)
			}
			n.Tenants, n.Orders = append(n.Tenants, key.owner.TenantID), append(n.Orders, key.owner.ID)
			n.Skus, n.Ids = append(n.Skus, key.sku), append(n.Ids, id)
			n.Locations, n.Quantities = append(n.Locations, r.location), append(n.Quantities, r.quantity)
			n.Statuses, n.ExpiresAt = append(n.Statuses, r.status), append(n.ExpiresAt, r.expires)
		} else if r.changed() {
			m.Tenants, m.Orders = append(m.Tenants, key.owner.TenantID), append(m.Orders, key.owner.ID)
			m.Skus, m.Quantities = append(m.Skus, key.sku), append(m.Quantities, r.quantity)
			m.FromStatuses, m.ToStatuses = append(m.FromStatuses, r.was), append(m.ToStatuses, r.status)
			m.ExpiresAt = append(m.ExpiresAt, r.expires)
		}
	}
	if len(n.Orders) > 0 {
		if err := q.InsertReservations(ctx, db, n); err != nil {
			return err
		}
	}
	if len(m.Orders) == 0 {
		return nil
	}
	return q.MoveReservations(ctx, db, m)
}

func compareTaken(a, b taken) int {
	return cmp.Or(compareRefs(a.owner, b.owner), bytes.Compare(a.sku[:], b.sku[:]))
}

// writeBookings does the same for places in slots.
func (b *Book) writeBookings(ctx context.Context, q *inventorydb.Queries, db pgtx.Writer) error {
	n, m := inventorydb.InsertBookingsParams{Now: b.now}, inventorydb.MoveBookingsParams{Now: b.now}
	for _, owner := range sortedKeys(b.bookings, compareRefs) {
		k := b.bookings[owner]
		if k.fresh() {
			n.Tenants, n.Orders = append(n.Tenants, owner.TenantID), append(n.Orders, owner.ID)
			n.Slots, n.Statuses = append(n.Slots, k.slot), append(n.Statuses, k.status)
			n.ExpiresAt = append(n.ExpiresAt, k.expires)
		} else if k.changed() {
			m.Tenants, m.Orders = append(m.Tenants, owner.TenantID), append(m.Orders, owner.ID)
			m.Slots, m.FromStatuses = append(m.Slots, k.slot), append(m.FromStatuses, k.was)
			m.ToStatuses, m.ExpiresAt = append(m.ToStatuses, k.status), append(m.ExpiresAt, k.expires)
		}
	}
	if len(n.Orders) > 0 {
		if err := q.InsertBookings(ctx, db, n); err != nil {
			return err
		}
	}
	if len(m.Orders) == 0 {
		return nil
	}
	return q.MoveBookings(ctx, db, m)
}
