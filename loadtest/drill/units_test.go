package drill

import (
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/loadtest/rig"
)

// insertOrder puts a row where no service would leave one like it.
func insertOrder(t *testing.T, pool *pgxpool.Pool, tenant uuid.UUID, state string, reason *string) uuid.UUID {
	t.Helper()
	id := uuid.New()
	_, err := pool.Exec(t.Context(), `
		INSERT INTO orders (tenant_id, id, customer_account, merchant_account, location, currency, total,
		                    state, version, reason, payment_state, payment_transfer_id, promise_at,
		                    created_at, updated_at)
		SELECT $1, $2, gen_random_uuid(), gen_random_uuid(), 'main', 'EUR', 200, $3, 1, $4::text,
		       CASE WHEN $3 = 'confirmed' THEN 'settled' ELSE 'none' END,
		       CASE WHEN $3 = 'confirmed' THEN gen_random_uuid() END, now(), now(), now()`,
		tenant, id, state, reason)
	require.NoError(t, err)
	return id
}

func TestAUnitThatIsSoldTwiceFailsTheClaim(t *testing.T) {
	t.Parallel()
	s, pool := looking(t)
	tenant, err := rig.SeedTenant(t.Context(), pool, s.run.o.Now, "seller", 1)
	require.NoError(t, err)
	caller := &traffic{tenant: tenant}
	sku := tenant.SKUs[0]
	_, err = pool.Exec(t.Context(), "UPDATE stock SET on_hand = 0 WHERE tenant_id = $1 AND sku_id = $2",
		tenant.ID, sku)
	require.NoError(t, err)
	sells := func() {
		id := insertOrder(t, pool, tenant.ID, "confirmed", nil)
		caller.orders = append(caller.orders, id)
		_, err := pool.Exec(t.Context(), `
			INSERT INTO reservations (tenant_id, order_id, sku_id, id, location, quantity, status, expires_at,
			                          created_at, updated_at)
			VALUES ($1, $2, $3, gen_random_uuid(), 'main', 1, 'consumed', now(), now(), now())`,
			tenant.ID, id, sku)
		require.NoError(t, err)
	}
	failed := func() []string {
		s.outcome.Claims = nil
		s.soldOnce(t.Context(), caller, sku, 1)
		require.NoError(t, s.err)
		var names []string
		for _, c := range s.outcome.Claims {
			if !c.Holds {
				names = append(names, c.Name)
			}
		}
		return names
	}
	sells()
	stock := "stock"
	caller.orders = append(caller.orders, insertOrder(t, pool, tenant.ID, "canceled", &stock))
	require.Empty(t, failed())

	sells()
	require.ElementsMatch(t, []string{
		"orders that were confirmed, one for each unit", "units consumed",
		"orders that were canceled for want of stock, all others",
	}, failed())
}
