package httpapi

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/inventory"
	"example.com/holdfast/internal/money"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/problem"
)

// The real services are what the handlers call.
var (
	_ Orders    = (*order.Service)(nil)
	_ Inventory = (*inventory.Service)(nil)
)

// What there is to order in the world of the fakes.
var (
	tea     = uuid.MustParse("018f2b6e-0000-7000-8000-0000000000c5")
	coffee  = uuid.MustParse("018f2b6e-0000-7000-8000-0000000000c6")
	morning = uuid.MustParse("018f2b6e-0000-7000-8000-0000000000d7")
	evening = uuid.MustParse("018f2b6e-0000-7000-8000-0000000000d8")
)

const goodOrder = `{"customer_account":"018f2b6e-0000-7000-8000-0000000000a1",` +
	`"merchant_account":"018f2b6e-0000-7000-8000-0000000000a2","location":"main",` +
	`"slot":"018f2b6e-0000-7000-8000-0000000000d7",` +
	`"lines":[{"sku":"018f2b6e-0000-7000-8000-0000000000c5","quantity":2}],` +
	`"client_reference":"basket-7","metadata":{"gift":true}}`

const (
	goodSKU   = `{"code":"tea-500","name":"Green tea","price":{"value":1250,"currency":"EUR"}}`
	goodStock = `{"location":"main","kind":"restock","quantity":40,"reason":"delivery 17"}`
	goodSlot  = `{"location":"main","starts_at":"2026-11-23T08:00:00Z","ends_at":"2026-11-23T10:00:00Z",` +
		`"capacity":20}`
)

// fakeOrders is the order side of the world: it knows one order of acme, which is confirmed.
type fakeOrders struct{ *fakeService }

func someOrder(n order.New) order.Order {
	o := order.Order{
		Ref: order.Ref{TenantID: acme, ID: known}, CustomerAccount: n.CustomerAccount,
		MerchantAccount: n.MerchantAccount, Location: n.Location, Slot: n.Slot,
		Total: money.Amount{Value: 2500, Currency: "EUR"}, State: order.Pending, Version: 1,
		ClientReference: n.ClientReference, Metadata: n.Metadata, PaymentState: order.PaymentNone,
		PromiseAt: noon.Add(time.Minute), CreatedAt: noon, UpdatedAt: noon,
	}
	for _, l := range n.Lines {
		l.UnitPrice = 1250
		o.Lines = append(o.Lines, l)
	}
	return o
}

func (f fakeOrders) Create(ctx context.Context, c order.Create) (idempotency.Response, error) {
	if err := f.enter(ctx); err != nil {
		return idempotency.Response{}, err
	}
	if err := f.validate(ctx, c.Items...); err != nil {
		return idempotency.Response{}, err
	}
	return f.once(c.Key, func() (idempotency.Response, error) {
		f.placed = append(f.placed, c)
		return c.Render([]order.Result{{Order: someOrder(c.Items[0]), Refused: f.refuse}}), nil
	})
}

// validate asks the real domain, which looks at nothing outside before it has found a request valid.
func (f fakeOrders) validate(ctx context.Context, items ...order.New) error {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	cfg := order.Config{Now: func() time.Time { return noon }}
	_, err := order.NewService(cfg).Create(ended, order.Create{Items: items})
	if problem.Is(err, problem.ValidationFailed) {
		return err
	}
	return nil
}

func (f fakeOrders) Preview(
	ctx context.Context, _ uuid.UUID, items []order.New,
) ([]order.Result, error) {
	if err := f.enter(ctx); err != nil {
		return nil, err
	}
	results := make([]order.Result, len(items))
	for i, n := range items {
		results[i] = order.Result{Order: someOrder(n), Refused: f.refuse}
		if err := f.validate(ctx, n); err != nil {
			results[i].Refused = problem.Of(err)
		}
	}
	if len(items) == 1 && f.validate(ctx, items[0]) != nil {
		return nil, results[0].Refused
	}
	return results, nil
}

func (f fakeOrders) Get(ctx context.Context, ref order.Ref) (order.Order, error) {
	if err := f.enter(ctx); err != nil {
		return order.Order{}, err
	}
	if (ref != order.Ref{TenantID: acme, ID: known}) {
		return order.Order{}, problem.New(problem.NotFound, "Order %s does not exist.", ref.ID)
	}
	o := someOrder(order.New{
		CustomerAccount: cash, MerchantAccount: bank, Location: "main", Slot: morning,
		Lines: []order.Line{{SKU: tea, Quantity: 2}},
	})
	o.State, o.Version, o.PaymentState, o.PaymentTransfer = order.Confirmed, 3, order.PaymentSettled, absent
	o.ReservationExpiresAt = noon.Add(time.Hour)
	return o, nil
}

func (f fakeOrders) Wait(ctx context.Context, ref order.Ref, most time.Duration) (order.Order, error) {
	f.mu.Lock()
	f.waited = append(f.waited, most)
	f.mu.Unlock()
	return f.Get(ctx, ref)
}

func (f fakeOrders) List(ctx context.Context, tenantID uuid.UUID, q order.Filter) (order.Page, error) {
	f.orderFilters = append(f.orderFilters, q)
	o, err := f.Get(ctx, order.Ref{TenantID: tenantID, ID: known})
	if err != nil || q.Before != uuid.Nil {
		return order.Page{}, err
	}
	return order.Page{Orders: []order.Order{o}, Next: known}, nil
}

func (f fakeOrders) Act(ctx context.Context, a order.Action) (idempotency.Response, error) {
	o, err := f.Get(ctx, order.Ref{TenantID: a.Key.TenantID, ID: a.ID})
	if err != nil {
		return idempotency.Response{}, err
	}
	return f.once(a.Key, func() (idempotency.Response, error) {
		f.orderActs = append(f.orderActs, a)
		if p := f.refuse; p != nil {
			return a.Key.Refuse(p), nil
		}
		o.State, o.Reason, o.PaymentState = order.Canceled, order.ReasonClient, order.PaymentNone
		return a.Render(o), nil
	})
}

func (f fakeOrders) Events(ctx context.Context, ref order.Ref, after int32) ([]outbox.Event, error) {
	if _, err := f.Get(ctx, ref); err != nil || after > 0 {
		return nil, err
	}
	return []outbox.Event{{
		Seq: 1, Type: "order.pending", To: "pending", Actor: "api:acme", Cause: "request:1",
		Data: json.RawMessage(`{"a":1}`), At: noon,
	}}, nil
}

// fakeInventory is what there is to order: two SKUs with stock, and two slots.
type fakeInventory struct{ *fakeService }

func someSKU(id uuid.UUID) inventory.SKU {
	return inventory.SKU{
		TenantID: acme, ID: id, Code: "tea-500", Name: "Green tea", Price: 1250, Currency: "EUR",
		CreatedAt: noon,
	}
}

func someSlot(id uuid.UUID) inventory.Slot {
	return inventory.Slot{
		ID: id, Location: "main", StartsAt: noon, EndsAt: noon.Add(time.Hour), Capacity: 20, Booked: 1,
		Status: inventory.SlotOpen,
	}
}

// keyed does what every keyed change of the inventory does: judge asks the real service, which looks
// at nothing outside before it has found a request valid.
func (f fakeInventory) keyed(
	ctx context.Context, k idempotency.Keyed, judge func(context.Context, *inventory.Service) error,
	answer func() idempotency.Response,
) (idempotency.Response, error) {
	if err := f.enter(ctx); err != nil {
		return idempotency.Response{}, err
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := judge(ended, inventory.NewService(nowhere())); problem.Is(err, problem.ValidationFailed) {
		return idempotency.Response{}, err
	}
	return f.once(k, func() (idempotency.Response, error) {
		if p := f.refuse; p != nil {
			return k.Refuse(p), nil
		}
		f.kept++
		return answer(), nil
	})
}

func (f fakeInventory) CreateSKU(
	ctx context.Context, k idempotency.Keyed, n inventory.NewSKU,
	render func(inventory.SKU) idempotency.Response,
) (idempotency.Response, error) {
	judge := func(ctx context.Context, s *inventory.Service) error {
		_, err := s.CreateSKU(ctx, k, n, render)
		return err
	}
	return f.keyed(ctx, k, judge, func() idempotency.Response {
		out := someSKU(tea)
		out.Code, out.Name, out.Price, out.Currency = n.Code, n.Name, n.Price, n.Currency
		return render(out)
	})
}

func (f fakeInventory) SKU(ctx context.Context, ref inventory.Ref) (inventory.SKU, error) {
	if err := f.enter(ctx); err != nil {
		return inventory.SKU{}, err
	}
	if (ref != inventory.Ref{TenantID: acme, ID: tea}) {
		return inventory.SKU{}, problem.New(problem.NotFound, "SKU %s does not exist.", ref.ID)
	}
	return someSKU(tea), nil
}

func (f fakeInventory) SKUs(_ context.Context, _, after uuid.UUID, limit int) ([]inventory.SKU, error) {
	all := []inventory.SKU{someSKU(tea), someSKU(coffee)}
	switch after {
	case tea:
		all = all[1:]
	case coffee:
		all = nil
	}
	return all[:min(limit, len(all))], nil
}

func (f fakeInventory) Stock(ctx context.Context, ref inventory.Ref) ([]inventory.Stock, error) {
	if _, err := f.SKU(ctx, ref); err != nil {
		return nil, err
	}
	return []inventory.Stock{{SKU: tea, Location: "main", OnHand: 40, Reserved: 2, Version: 3}}, nil
}

func (f fakeInventory) ChangeStock(
	ctx context.Context, k idempotency.Keyed, c inventory.Change,
	render func(inventory.Stock) idempotency.Response,
) (idempotency.Response, error) {
	judge := func(ctx context.Context, s *inventory.Service) error {
		_, err := s.ChangeStock(ctx, k, c, render)
		return err
	}
	if _, err := f.SKU(ctx, inventory.Ref{TenantID: k.TenantID, ID: c.SKU}); err != nil {
		return idempotency.Response{}, err
	}
	return f.keyed(ctx, k, judge, func() idempotency.Response {
		f.changes = append(f.changes, c)
		return render(inventory.Stock{SKU: c.SKU, Location: c.Location, OnHand: 40 + c.Quantity, Version: 4})
	})
}

func (f fakeInventory) CreateSlot(
	ctx context.Context, k idempotency.Keyed, n inventory.NewSlot,
	render func(inventory.Slot) idempotency.Response,
) (idempotency.Response, error) {
	judge := func(ctx context.Context, s *inventory.Service) error {
		_, err := s.CreateSlot(ctx, k, n, render)
		return err
	}
	return f.keyed(ctx, k, judge, func() idempotency.Response {
		out := someSlot(morning)
		out.Location, out.StartsAt, out.EndsAt, out.Capacity = n.Location, n.StartsAt, n.EndsAt, n.Capacity
		return render(out)
	})
}

func (f fakeInventory) CloseSlot(
	ctx context.Context, k idempotency.Keyed, id uuid.UUID, render func(inventory.Slot) idempotency.Response,
) (idempotency.Response, error) {
	if k.TenantID != acme || id != morning {
		return idempotency.Response{}, problem.New(problem.NotFound, "Slot %s does not exist.", id)
	}
	judge := func(context.Context, *inventory.Service) error { return nil }
	return f.keyed(ctx, k, judge, func() idempotency.Response {
		out := someSlot(id)
		out.Status = inventory.SlotClosed
		return render(out)
	})
}

func (f fakeInventory) Slots(
	_ context.Context, _ uuid.UUID, location string, after uuid.UUID, limit int,
) ([]inventory.Slot, error) {
	all := []inventory.Slot{someSlot(morning), someSlot(evening)}
	switch {
	case location == "elsewhere" || after == evening:
		all = nil
	case after == morning:
		all = all[1:]
	}
	return all[:min(limit, len(all))], nil
}
