package app

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/inventory"
	"example.com/holdfast/internal/problem"
)

// The demo catalogue: three SKUs in stock, and delivery slots tomorrow.
const (
	demoLocation  = "main"
	demoStock     = 10_000
	demoCapacity  = 100
	demoSlotHours = 3
)

// demoSKUs are the codes of the catalogue with their prices in minor units.
func demoSKUs() []inventory.NewSKU {
	return []inventory.NewSKU{
		{Code: "apples-1kg", Name: "Apples, 1 kg", Price: 2_49, Currency: demoCurrency},
		{Code: "bread-500g", Name: "Bread, 500 g", Price: 3_20, Currency: demoCurrency},
		{Code: "coffee-250g", Name: "Coffee, 250 g", Price: 6_95, Currency: demoCurrency},
	}
}

// catalogue makes sure that the demo tenant has something to sell and slots to deliver in.
type catalogue struct {
	tenantID uuid.UUID
	stock    *inventory.Service
}

// seed returns the SKUs and tomorrow's slots.
func (c catalogue) seed(ctx context.Context, now time.Time) ([]uuid.UUID, []uuid.UUID, error) {
	skus, err := c.skus(ctx)
	if err != nil {
		return nil, nil, err
	}
	slots, err := c.slots(ctx, now)
	return skus, slots, err
}

func (c catalogue) skus(ctx context.Context) ([]uuid.UUID, error) {
	found, err := c.stock.SKUs(ctx, c.tenantID, uuid.Nil, len(demoSKUs()))
	if err != nil {
		return nil, err
	}
	var ids []uuid.UUID
	if len(found) == len(demoSKUs()) {
		for _, k := range found {
			ids = append(ids, k.ID)
		}
		return ids, nil
	}
	for _, n := range demoSKUs() { // keyed, so what an earlier start made is found again
		id, err := c.sku(ctx, n)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func (c catalogue) sku(ctx context.Context, n inventory.NewSKU) (uuid.UUID, error) {
	response, err := c.stock.CreateSKU(ctx, c.key("sku "+n.Code), n,
		func(k inventory.SKU) idempotency.Response {
			return named(k.ID)
		})
	if err != nil {
		return uuid.Nil, err
	}
	id, err := uuid.ParseBytes(response.Body)
	if err != nil {
		return uuid.Nil, fmt.Errorf("create SKU %s: %s", n.Code, response.Body)
	}
	_, err = c.stock.ChangeStock(ctx, c.key("stock "+n.Code), inventory.Change{
		SKU: id, Location: demoLocation, Kind: inventory.Restock, Quantity: demoStock,
		Reason: "opening stock",
	}, func(inventory.Stock) idempotency.Response { return named(id) })
	return id, err
}

// slots opens those of tomorrow, each once.
func (c catalogue) slots(ctx context.Context, now time.Time) ([]uuid.UUID, error) {
	tomorrow := now.UTC().Truncate(24*time.Hour).AddDate(0, 0, 1)
	var ids []uuid.UUID
	for hour := 9; hour < 18; hour += demoSlotHours {
		begins := tomorrow.Add(time.Duration(hour) * time.Hour)
		n := inventory.NewSlot{
			Location: demoLocation, StartsAt: begins, EndsAt: begins.Add(demoSlotHours * time.Hour),
			Capacity: demoCapacity,
		}
		response, err := c.stock.CreateSlot(ctx, c.key("slot "+begins.Format(time.RFC3339)), n,
			func(d inventory.Slot) idempotency.Response { return named(d.ID) })
		if err != nil {
			return nil, err
		}
		id, err := uuid.ParseBytes(response.Body)
		if err != nil {
			return nil, fmt.Errorf("create slot at %s: %s", begins, response.Body)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// key has a space, so no client can have it.
func (c catalogue) key(what string) idempotency.Keyed {
	key := "seed " + what
	return idempotency.Keyed{
		Key: idempotency.Key{TenantID: c.tenantID, Key: key, Hash: idempotency.Hash("", "seed", "1",
			[]byte(key))},
		Refuse: func(e *problem.Error) idempotency.Response {
			return idempotency.Response{Status: problem.MeaningOf(e.Code).Status, Body: []byte(e.Detail)}
		},
	}
}

func named(id uuid.UUID) idempotency.Response {
	return idempotency.Response{Status: http.StatusCreated, Body: []byte(id.String())}
}
