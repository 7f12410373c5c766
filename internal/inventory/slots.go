package inventory

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/inventory/internal/inventorydb"
	"example.com/holdfast/internal/problem"
)

func slotFromRow(r inventorydb.DeliverySlots) Slot {
	return Slot{
		ID: r.ID, Location: r.Location, StartsAt: r.StartsAt, EndsAt: r.EndsAt, Capacity: r.Capacity,
		Booked: r.Booked, Status: r.Status,
	}
}

// CreateSlot opens a delivery slot, once per key.
func (s *Service) CreateSlot(
	ctx context.Context, key idempotency.Keyed, n NewSlot, render func(Slot) idempotency.Response,
) (idempotency.Response, error) {
	if err := n.validate(); err != nil {
		return idempotency.Response{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return idempotency.Response{}, fmt.Errorf("make slot id: %w", err)
	}
	d := Slot{
		ID: id, Location: n.Location, StartsAt: n.StartsAt, EndsAt: n.EndsAt, Capacity: n.Capacity,
		Status: SlotOpen,
	}
	work := func(ctx context.Context, tx pgx.Tx, now time.Time) (idempotency.Response, error) {
		err := s.q.InsertSlot(ctx, tx, inventorydb.InsertSlotParams{
			TenantID: key.TenantID, ID: id, Location: n.Location, StartsAt: n.StartsAt, EndsAt: n.EndsAt,
			Capacity: n.Capacity, CreatedAt: now,
		})
		if err != nil {
			return idempotency.Response{}, fmt.Errorf("insert slot %s: %w", id, err)
		}
		return render(d), nil
	}
	return idempotency.Run(ctx, s.pool, "create slot", key, work)
}

// CloseSlot takes a slot off the offer, once per key: nobody books it any more, and who has a place in
// it keeps it.
func (s *Service) CloseSlot(
	ctx context.Context, key idempotency.Keyed, id uuid.UUID, render func(Slot) idempotency.Response,
) (idempotency.Response, error) {
	work := func(ctx context.Context, tx pgx.Tx, _ time.Time) (idempotency.Response, error) {
		book, ref := newBook(), Ref{key.TenantID, id}
		err := book.apply(ctx, tx, func(read *pgx.Batch) { book.lockSlots(read, []Ref{ref}) },
			func() error { return book.closeSlot(ref) })
		if err != nil {
			return idempotency.Response{}, err
		}
		return render(book.slots[ref].Slot), nil
	}
	return idempotency.Run(ctx, s.pool, "close slot", key, work)
}

func (b *Book) closeSlot(ref Ref) error {
	d := b.slots[ref]
	if d == nil {
		return slotMissing(ref.ID)
	}
	d.Status, d.dirty = SlotClosed, true
	return nil
}

func slotMissing(id uuid.UUID) error {
	return problem.New(problem.NotFound, "Slot %s does not exist.", id)
}

// Slot reads a slot.
func (s *Service) Slot(ctx context.Context, ref Ref) (Slot, error) {
	r, err := s.q.GetSlot(ctx, s.pool, inventorydb.GetSlotParams{TenantID: ref.TenantID, ID: ref.ID})
	if errors.Is(err, pgx.ErrNoRows) {
		return Slot{}, slotMissing(ref.ID)
	}
	if err != nil {
		return Slot{}, fmt.Errorf("read slot %s: %w", ref.ID, err)
	}
	return slotFromRow(r), nil
}

// Slots reads up to limit slots of a tenant after an id, in id order; of one location unless that is "".
func (s *Service) Slots(
	ctx context.Context, tenantID uuid.UUID, location string, after uuid.UUID, limit int,
) ([]Slot, error) {
	var rows []inventorydb.DeliverySlots
	var err error
	if location == "" {
		rows, err = s.q.ListSlots(ctx, s.pool, inventorydb.ListSlotsParams{
			TenantID: tenantID, After: after, PageSize: pageSize(limit),
		})
	} else {
		rows, err = s.q.ListSlotsAt(ctx, s.pool, inventorydb.ListSlotsAtParams{
			TenantID: tenantID, Location: location, After: after, PageSize: pageSize(limit),
		})
	}
	if err != nil {
		return nil, fmt.Errorf("list slots of tenant %s: %w", tenantID, err)
	}
	slots := make([]Slot, len(rows))
	for i, r := range rows {
		slots[i] = slotFromRow(r)
	}
	return slots, nil
}
