package drill

import (
	"context"
	"fmt"
	"net/http"

	"github.com/google/uuid"

	"example.com/holdfast/loadtest/rig"
)

// stocks makes an SKU of which there are so many units.
func (s *stage) stocks(ctx context.Context, t *traffic, units int) uuid.UUID {
	var sku uuid.UUID
	s.do(func() error {
		made, err := t.post(ctx, "/v1/skus", "rare", map[string]any{
			"code": "rare", "name": "The last ones", "price": amount{Value: rig.PriceMin, Currency: "EUR"},
		})
		if err != nil || made.status != http.StatusCreated {
			return fmt.Errorf("create SKU: status %d %s: %w", made.status, made.code, err)
		}
		sku = made.id
		a, err := t.post(ctx, "/v1/skus/"+sku.String()+"/stock", "rare-stock", map[string]any{
			"location": rig.Location, "kind": "restock", "quantity": units, "reason": "drill",
		})
		if err != nil || a.status >= http.StatusMultipleChoices {
			return fmt.Errorf("restock SKU: status %d %s: %w", a.status, a.code, err)
		}
		return nil
	})
	return sku
}

// buysOne is a stream of orders of one unit each.
func (t *traffic) buysOne(sku uuid.UUID, rate float64) stream {
	return stream{name: orders, rate: rate, send: func(ctx context.Context, n int) (answer, error) {
		a, err := t.post(ctx, "/v1/orders", fmt.Sprintf("buyer-%d", n), newOrder{
			Customer: t.account(n), Merchant: t.tenant.Merchant, Location: rig.Location,
			Lines: []orderLine{{sku, 1}},
		})
		if err == nil && a.status == http.StatusAccepted {
			t.mu.Lock()
			t.orders = append(t.orders, a.id)
			t.mu.Unlock()
		}
		return a, err
	}}
}

// earned is what the merchant has, in minor units.
func (s *stage) earned(ctx context.Context, t *traffic) uint64 {
	return s.count(ctx, "SELECT b.posted FROM balances b WHERE b.tenant_id = $1 AND b.account_id = $2",
		t.tenant.ID, t.tenant.Merchant)
}

// soldOnce claims that each unit was sold to one buyer, and that the others keep their money.
func (s *stage) soldOnce(ctx context.Context, t *traffic, sku uuid.UUID, units int) {
	if s.err != nil {
		return
	}
	wanted := uint64(units) //nolint:gosec // a small count
	buyers := uint64(len(t.orders))
	ordersThat := func(end string) uint64 {
		return s.count(ctx, "SELECT count(*) FROM orders o WHERE o.tenant_id = $1 AND "+end, t.tenant.ID)
	}
	inventory := func(sql string) uint64 { return s.count(ctx, sql, t.tenant.ID, sku) }
	s.claim(
		atLeast("buyers for each unit", float64(buyers)/float64(units), 2),
		equal("orders that were confirmed, one for each unit", ordersThat("o.state = 'confirmed'"), wanted),
		equal("orders that were canceled for want of stock, all others",
			ordersThat("o.state = 'canceled' AND o.reason = 'stock'"), buyers-wanted),
		equal("units consumed", inventory(`
			SELECT coalesce(sum(r.quantity), 0) FROM reservations r
			 WHERE r.tenant_id = $1 AND r.sku_id = $2 AND r.status = 'consumed'`), wanted),
		atMost("units left or reserved", inventory(`
			SELECT sum(abs(k.on_hand) + abs(k.reserved)) FROM stock k
			 WHERE k.tenant_id = $1 AND k.sku_id = $2`), 0),
		atMost("held on accounts, in minor units", s.count(ctx,
			"SELECT sum(b.held) FROM balances b WHERE b.tenant_id = $1", t.tenant.ID), 0),
		atMost("payments of canceled orders", ordersThat(
			"o.state = 'canceled' AND o.payment_transfer_id IS NOT NULL"), 0),
	)
}
