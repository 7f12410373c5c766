package migrations_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/db/migrations"
	"example.com/holdfast/internal/pgtest"
)

// orderEdges is written down once more, by hand: the test holds the trigger, not its table, to the design.
func orderEdges() map[string][]string {
	return map[string][]string{
		"pending": {"reserved", "canceled"}, "reserved": {"confirmed", "canceled"},
		"confirmed": nil, "canceled": nil,
	}
}

// moveOrder sets all that an order in a state has to have.
const moveOrder = `
UPDATE orders SET state = $2, version = version + $3,
       wake_at = CASE WHEN $2 IN ('pending', 'reserved') THEN now() END,
       reason = CASE WHEN $2 = 'canceled' THEN 'client' END, payment_transfer_id = gen_random_uuid(),
       reservation_expires_at = now(),
       payment_state = CASE $2 WHEN 'pending' THEN 'none' WHEN 'reserved' THEN 'pending'
                               WHEN 'confirmed' THEN 'settled' ELSE 'failed' END
 WHERE id = $1`

// anOrder is brought to a state by legal moves.
func anOrder(t *testing.T, pool *pgxpool.Pool, state string) uuid.UUID {
	t.Helper()
	id := uuid.New()
	run(t, pool, `
INSERT INTO orders (tenant_id, id, customer_account, merchant_account, location, currency, total, state,
                    version, wake_at, promise_at, created_at, updated_at)
VALUES ($1, $1, gen_random_uuid(), gen_random_uuid(), 'main', 'EUR', 100, 'pending', 7, now(), now(), now(),
        now())`, id)
	way := map[string][]string{
		"reserved": {"reserved"}, "confirmed": {"reserved", "confirmed"},
		"canceled": {"canceled"},
	}
	for _, next := range way[state] {
		run(t, pool, moveOrder, id, next, 1)
	}
	return id
}

func TestTheTriggerRefusesIllegalMovesOfOrders(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	for from, nexts := range orderEdges() {
		id := anOrder(t, pool, from)
		for to := range orderEdges() {
			for step := -1; step <= 2; step++ {
				legal := step == 0 && from == to
				for _, next := range nexts {
					legal = legal || step == 1 && to == next
				}
				want := codeIllegalMove
				if legal {
					want = ""
				}
				assert.Equal(t, want, attempt(t, pool, moveOrder, id, to, step),
					"%s to %s with version %+d", from, to, step)
			}
		}
	}
	id := anOrder(t, pool, "pending")
	require.Equal(t, codeIllegalMove, attempt(t, pool,
		"UPDATE orders SET id = gen_random_uuid() WHERE id = $1", id),
		"a changed key does not hide the move")
}

//nolint:lll // a table reads by lines
func TestOrderChecks(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	pending, reserved := anOrder(t, pool, "pending"), anOrder(t, pool, "reserved")
	canceled := anOrder(t, pool, "canceled")
	for _, c := range []struct {
		name, set, code string
		id              uuid.UUID
	}{
		{"open and forgotten", "wake_at = NULL", codeCheck, pending},
		{"open with a reason", "reason = 'client'", codeCheck, pending},
		{"canceled for no reason", "reason = NULL", codeCheck, canceled},
		{"canceled for a reason of its own", "reason = 'bored'", codeCheck, canceled},
		{"canceled as poison", "reason = 'poison'", "", canceled},
		{"open as poison", "reason = 'poison'", codeCheck, reserved},
		{"in no lane", "lane = 0", codeCheck, pending},
		{"in the fifth lane", "lane = 5", codeCheck, pending},
		{"ended and woken", "wake_at = now()", codeCheck, canceled},
		{"paying back", "wake_at = now(), payment_state = 'reversing'", "", canceled},
		{"paying back and forgotten", "payment_state = 'reversing'", codeCheck, canceled},
		{"paid before it was reserved", "payment_state = 'settled'", codeCheck, pending},
		{"reserved for ever", "reservation_expires_at = NULL", codeCheck, reserved},
		{"confirmed without a payment", "state = 'confirmed', version = version + 1, wake_at = NULL", codeCheck, reserved},
		{
			"confirmed by nobody's transfer",
			"state = 'confirmed', version = version + 1, wake_at = NULL, payment_state = 'settled', payment_transfer_id = NULL",
			codeCheck, reserved,
		},
		{"for nothing", "total = 0", codeCheck, pending},
		{"to itself", "merchant_account = customer_account", codeCheck, pending},
		{"unknown state", "state = 'lost'", codeCheck, pending},
	} {
		assert.Equal(t, c.code, attempt(t, pool, "UPDATE orders SET "+c.set+" WHERE id = $1", c.id), c.name)
	}
}

//nolint:lll // a table reads by lines
func TestInventoryChecks(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	id := uuid.New()
	run(t, pool, "INSERT INTO tenants (id, name) VALUES ($1, 'acme')", id)
	run(t, pool, "INSERT INTO skus VALUES ($1, $1, 'code', 'name', 5, 'EUR', now())", id)
	run(t, pool, "INSERT INTO stock VALUES ($1, $1, 'main', 10, 4, 1)", id)
	run(t, pool,
		"INSERT INTO reservations VALUES ($1, $1, $1, $1, 'main', 4, 'active', now(), now(), now())", id)
	run(t, pool,
		`INSERT INTO delivery_slots VALUES ($1, $1, 'main', now(), now() + interval '1 hour', 2, 1, 'open', now())`, id)
	for _, c := range []struct{ name, sql, code string }{
		{"reserve all", "UPDATE stock SET reserved = 10", ""},
		{"oversell", "UPDATE stock SET reserved = 11", codeCheck},
		{"take what is reserved", "UPDATE stock SET on_hand = 3", codeCheck},
		{"reserve less than nothing", "UPDATE stock SET reserved = -1", codeCheck},
		{"stock of nothing", "UPDATE stock SET sku_id = gen_random_uuid()", codeForeignKey},
		{"stock nowhere", "UPDATE stock SET location = ''", codeCheck},
		{"an empty reservation", "UPDATE reservations SET quantity = 0", codeCheck},
		{"a lost reservation", "UPDATE reservations SET status = 'lost'", codeCheck},
		{"a full slot", "UPDATE delivery_slots SET booked = 2", ""},
		{"an overbooked slot", "UPDATE delivery_slots SET booked = 3", codeCheck},
		{"a slot that runs back", "UPDATE delivery_slots SET ends_at = starts_at", codeCheck},
		{"a free SKU", "UPDATE skus SET price = 0", codeCheck},
		{"a code twice", "INSERT INTO skus VALUES ($1, gen_random_uuid(), 'code', 'name', 5, 'EUR', now())", codeUnique},
		{"an entry of nothing", "INSERT INTO stock_entries VALUES ($1, $1, 'main', 1, 'adjust', 0, 5, 'r', now())", codeCheck},
		{"an entry below nothing", "INSERT INTO stock_entries VALUES ($1, $1, 'main', 1, 'adjust', -1, -1, 'r', now())", codeCheck},
		{"an entry of no kind", "INSERT INTO stock_entries VALUES ($1, $1, 'main', 1, 'gift', 1, 1, 'r', now())", codeCheck},
		{"an entry", "INSERT INTO stock_entries VALUES ($1, $1, 'main', 1, 'adjust', 1, 1, 'r', now())", ""},
	} {
		var args []any
		if c.sql[0] == 'I' {
			args = []any{id}
		}
		assert.Equal(t, c.code, attempt(t, pool, c.sql, args...), c.name)
	}
}

func TestTheIndexesOfTheDeadHoldWhatWasGivenUp(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	poison, broken := anOrder(t, pool, "canceled"), anOrder(t, pool, "canceled")
	well := anOrder(t, pool, "reserved")
	run(t, pool, "UPDATE orders SET reason = 'poison' WHERE id = $1", poison)
	run(t, pool, `UPDATE orders SET failures = 5, payment_state = 'reversing', wake_at = now()
	               WHERE id = $1`, broken)
	run(t, pool, "UPDATE orders SET failures = 4 WHERE id = $1", well)
	for id, failures := range map[uuid.UUID]int{broken: 5, well: 4} {
		run(t, pool, `INSERT INTO deliveries VALUES ('order', $1, $1, 1, 't', 'r', now(), now(), 2, 9, $2)`,
			id, failures)
	}
	for _, c := range []struct {
		index, sql string
		rows       float64
	}{
		{"orders_dead", "SELECT FROM orders WHERE failures >= 5 OR reason = 'poison'", 2},
		{"deliveries_dead", "SELECT FROM deliveries WHERE failures >= 5", 1},
	} {
		assert.Contains(t, planOf(t, pool, c.sql), c.index)
		var entries float64
		run(t, pool, "VACUUM ANALYZE orders, deliveries")
		require.NoError(t, pool.QueryRow(t.Context(), "SELECT reltuples FROM pg_class WHERE relname = $1",
			c.index).Scan(&entries))
		assert.InDelta(t, c.rows, entries, 0, c.index)
	}
	assert.Equal(t, codeCheck, attempt(t, pool, "UPDATE deliveries SET lane = 0"))
}

func TestADowngradeKeepsOrdersThatEndedAsPoison(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	require.NoError(t, migrations.Up(t.Context(), db.URL))
	run(t, db.Pool, "UPDATE orders SET reason = 'poison' WHERE id = $1", anOrder(t, db.Pool, "canceled"))
	require.NoError(t, migrations.Down(t.Context(), db.URL))
}

// planOf plans a query as the domain's pools do: by an index, if there is one.
func planOf(t *testing.T, pool *pgxpool.Pool, sql string) string {
	t.Helper()
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	_, err = conn.Exec(t.Context(), "SET enable_seqscan = off")
	require.NoError(t, err)
	rows, err := conn.Query(t.Context(), "EXPLAIN "+sql)
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "RESET enable_seqscan")
	require.NoError(t, err)
	return strings.Join(lines, "\n")
}

func TestWhatHappenedToOrdersIsAppendOnly(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	id := uuid.New()
	run(t, pool, "INSERT INTO stock_entries VALUES ($1, $1, 'main', 1, 'restock', 5, 5, 'r', now())", id)
	run(t, pool, "INSERT INTO order_lines VALUES ($1, $1, $1, 1, 1)", id)
	run(t, pool, "INSERT INTO inbox VALUES ('order', $1, $1, 1, now())", id)
	for _, table := range []string{"stock_entries", "order_lines", "inbox"} {
		for _, sql := range []string{"UPDATE %s SET tenant_id = tenant_id", "DELETE FROM %s", "TRUNCATE %s"} {
			assert.Equal(t, codeAppendOnly, attempt(t, pool, fmt.Sprintf(sql, table)), sql, table)
		}
	}
}
