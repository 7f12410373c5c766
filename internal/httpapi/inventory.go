package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/internal/httpapi/internal/publicapi"
	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/inventory"
	"example.com/holdfast/internal/problem"
)

const (
	// locationMaxBytes bounds the name of a location.
	locationMaxBytes = 64
	// slotPrecision is how exact a time is kept: finer ones would change between the answer and the row.
	slotPrecision = time.Microsecond
)

// CreateSKU adds something that can be ordered.
func (s *publicServer) CreateSKU(
	ctx context.Context, _ publicapi.CreateSKURequestObject,
) (publicapi.CreateSKUResponseObject, error) {
	c := callOf(ctx)
	var in publicapi.NewSKU
	hash, err := decode(c, uuid.Nil, &in)
	if err != nil {
		return nil, err
	}
	render := func(k inventory.SKU) idempotency.Response {
		return idempotency.Response{
			Status: http.StatusCreated, Location: skus + "/" + k.ID.String(), Body: marshal(renderSKU(k)),
		}
	}
	n := inventory.NewSKU{Code: in.Code, Name: in.Name, Price: in.Price.Value, Currency: in.Price.Currency}
	response, err := s.cfg.Inventory.CreateSKU(ctx, s.keyed(c, hash), n, render)
	return stored{response, c}, err
}

// GetSKU reads an SKU.
func (s *publicServer) GetSKU(
	ctx context.Context, in publicapi.GetSKURequestObject,
) (publicapi.GetSKUResponseObject, error) {
	k, err := s.cfg.Inventory.SKU(ctx, inventory.Ref{TenantID: callOf(ctx).tenantID, ID: in.ID})
	if err != nil {
		return nil, err
	}
	return publicapi.GetSKU200JSONResponse(renderSKU(k)), nil
}

func renderSKU(k inventory.SKU) publicapi.SKU {
	return publicapi.SKU{
		ID: k.ID, Code: k.Code, Name: k.Name,
		Price: publicapi.Amount{Value: k.Price, Currency: k.Currency}, CreatedAt: k.CreatedAt.UTC(),
	}
}

// GetStock reads how much of an SKU is where.
func (s *publicServer) GetStock(
	ctx context.Context, in publicapi.GetStockRequestObject,
) (publicapi.GetStockResponseObject, error) {
	levels, err := s.cfg.Inventory.Stock(ctx, inventory.Ref{TenantID: callOf(ctx).tenantID, ID: in.ID})
	if err != nil {
		return nil, err
	}
	out := publicapi.GetStock200JSONResponse{Stock: make([]publicapi.Stock, len(levels))}
	for i, level := range levels {
		out.Stock[i] = renderStock(level)
	}
	return out, nil
}

// ChangeStock restocks or adjusts.
func (s *publicServer) ChangeStock(
	ctx context.Context, in publicapi.ChangeStockRequestObject,
) (publicapi.ChangeStockResponseObject, error) {
	c := callOf(ctx)
	var request publicapi.StockChange
	hash, err := decode(c, in.ID, &request)
	if err != nil {
		return nil, err
	}
	render := func(level inventory.Stock) idempotency.Response {
		return idempotency.Response{Status: http.StatusOK, Body: marshal(renderStock(level))}
	}
	change := inventory.Change{
		SKU: in.ID, Location: request.Location, Kind: inventory.Kind(request.Kind),
		Quantity: request.Quantity, Reason: request.Reason,
	}
	response, err := s.cfg.Inventory.ChangeStock(ctx, s.keyed(c, hash), change, render)
	return stored{response, c}, err
}

func renderStock(level inventory.Stock) publicapi.Stock {
	return publicapi.Stock{
		SKU: level.SKU, Location: level.Location, OnHand: level.OnHand, Reserved: level.Reserved,
		Available: level.Available(), Version: level.Version,
	}
}

// CreateSlot opens a delivery slot.
func (s *publicServer) CreateSlot(
	ctx context.Context, _ publicapi.CreateSlotRequestObject,
) (publicapi.CreateSlotResponseObject, error) {
	c := callOf(ctx)
	var in publicapi.NewSlot
	hash, err := decode(c, uuid.Nil, &in)
	if err != nil {
		return nil, err
	}
	if in.StartsAt.IsZero() {
		return nil, problem.Invalid("/starts_at", "has to be a time like 2026-11-22T12:00:00Z")
	}
	n := inventory.NewSlot{
		Location: in.Location, StartsAt: in.StartsAt.UTC().Truncate(slotPrecision),
		EndsAt: in.EndsAt.UTC().Truncate(slotPrecision), Capacity: in.Capacity,
	}
	response, err := s.cfg.Inventory.CreateSlot(ctx, s.keyed(c, hash), n, slotWith(http.StatusCreated))
	return stored{response, c}, err
}

// CloseSlot closes a delivery slot for new orders.
func (s *publicServer) CloseSlot(
	ctx context.Context, in publicapi.CloseSlotRequestObject,
) (publicapi.CloseSlotResponseObject, error) {
	c := callOf(ctx)
	var nothing struct{}
	hash, err := decode(c, in.ID, &nothing)
	if err != nil {
		return nil, err
	}
	response, err := s.cfg.Inventory.CloseSlot(ctx, s.keyed(c, hash), in.ID, slotWith(http.StatusOK))
	return stored{response, c}, err
}

func slotWith(status int) func(inventory.Slot) idempotency.Response {
	return func(d inventory.Slot) idempotency.Response {
		return idempotency.Response{Status: status, Body: marshal(renderSlot(d))}
	}
}

func renderSlot(d inventory.Slot) publicapi.Slot {
	return publicapi.Slot{
		ID: d.ID, Location: d.Location, StartsAt: d.StartsAt.UTC(), EndsAt: d.EndsAt.UTC(),
		Capacity: d.Capacity, Booked: d.Booked, Status: publicapi.SlotStatus(d.Status),
	}
}
