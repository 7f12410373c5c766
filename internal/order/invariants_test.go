package order_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/invariant"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/order/ordertest"
)

func invariantNamed(t *testing.T, name string) invariant.Invariant {
	t.Helper()
	for _, i := range ordertest.Invariants() {
		if i.Name == name {
			return i
		}
	}
	t.Fatalf("no invariant is called %s", name)
	return invariant.Invariant{}
}

// bugs are statements that break one invariant each, on a world with a confirmed order with a slot, one
// that pays, one that was canceled after its payment, one that was canceled before it, and one that is
// pending. Guards of the schema are taken away first.
//
//nolint:lll // a table reads by lines
func bugs() map[string][]string {
	event := func(columns string) string {
		return "INSERT INTO events (tenant_id, aggregate_id, seq, type, from_state, to_state, actor, at) SELECT " +
			"tenant_id, id, version + 1, " + columns + ", 'bug', now() FROM orders WHERE "
	}
	return map[string][]string{
		"order_events_complete": {
			"DELETE FROM events WHERE to_state = 'reserved'",
			"DELETE FROM events WHERE type = 'order.confirmed'",
			"UPDATE events SET from_state = 'pending' WHERE to_state = 'confirmed'",
			"UPDATE events SET type = 'order.canceled' WHERE to_state = 'confirmed'",
			"UPDATE orders SET version = version + 1 WHERE state = 'pending'",
			"DELETE FROM orders WHERE state = 'canceled'",
		},
		"order_moves_legal": {
			event("'order.confirmed', 'pending', 'confirmed'") + "state = 'pending'",
			event("'order.canceled', 'confirmed', 'canceled'") + "state = 'confirmed'",
			"UPDATE events SET to_state = 'reserved' WHERE seq = 1 AND type LIKE 'order.%'",
		},
		"order_ends_once": {event("'order.canceled', 'confirmed', 'canceled'") + "state = 'confirmed'"},
		"order_promise_kept": {
			"UPDATE orders SET promise_at = now() - interval '6 seconds' WHERE state = 'reserved'",
		},
		"order_end_has_reason": {
			"UPDATE orders SET reason = NULL WHERE state = 'canceled'",
			"UPDATE orders SET reason = 'client' WHERE state = 'confirmed'",
		},
		"order_reference_once": {"UPDATE orders SET client_reference = 'twice'"},
		"order_total_agrees": {
			"UPDATE orders SET total = total + 1 WHERE state = 'pending'",
			"DELETE FROM order_lines",
			"UPDATE order_lines SET quantity = quantity + 1",
		},
		"order_reservations_agree": {
			"DELETE FROM reservations WHERE status = 'consumed'",
			"UPDATE reservations SET status = 'active' WHERE status = 'consumed'",
			"UPDATE reservations SET status = 'active' WHERE status = 'released'",
			"UPDATE reservations SET status = 'released' WHERE status = 'active'",
			"UPDATE reservations SET quantity = quantity + 1 WHERE status = 'active'",
			"UPDATE reservations SET location = 'elsewhere' WHERE status = 'consumed'",
			"UPDATE orders SET state = 'confirmed' WHERE state = 'pending'",
			"DELETE FROM orders WHERE state = 'confirmed'",
		},
		"order_slot_agrees": {
			"DELETE FROM slot_bookings WHERE status = 'consumed'",
			"UPDATE slot_bookings SET status = 'active' WHERE status = 'released'",
			"UPDATE slot_bookings SET slot_id = gen_random_uuid() WHERE status = 'consumed'",
			"UPDATE orders SET slot_id = gen_random_uuid() WHERE state = 'reserved'",
		},
		"order_completion_integrity": {
			"UPDATE orders SET payment_transfer_id = gen_random_uuid() WHERE state = 'confirmed'",
			"UPDATE transfers SET state = 'approved' WHERE id IN (SELECT payment_transfer_id FROM orders WHERE state = 'confirmed')",
			"UPDATE orders SET total = total + 1 WHERE state = 'confirmed'",
			"UPDATE orders SET payment_state = 'pending' WHERE state = 'confirmed'",
			"UPDATE transfers SET to_account = gen_random_uuid()",
		},
		"order_payment_goes_back": {
			"UPDATE transfers SET reversed = reversed - 1 WHERE reversed > 0",
		},
		"order_never_forgotten": {
			"UPDATE orders SET wake_at = now() - interval '11 seconds' WHERE state = 'pending'; DELETE FROM river_job",
		},
		"order_woken_while_open": {
			"UPDATE orders SET wake_at = NULL WHERE state = 'pending'",
			"UPDATE orders SET wake_at = now() WHERE state = 'confirmed'",
			"UPDATE orders SET payment_state = 'reversing' WHERE payment_state = 'reversed'",
		},
		"stock_never_oversold": {
			"UPDATE stock SET reserved = -1",
			"UPDATE stock SET reserved = on_hand + 1",
			"UPDATE stock_entries SET on_hand_after = -1",
		},
		"stock_equals_entries": {
			"UPDATE stock SET on_hand = on_hand + 1", "UPDATE stock SET version = version + 1",
			"DELETE FROM stock_entries WHERE kind = 'consume'", "DELETE FROM stock",
		},
		"stock_history_unbroken": {
			"UPDATE stock_entries SET on_hand_after = on_hand_after + 1 WHERE kind = 'consume'",
			"UPDATE stock_entries SET stock_version = 9 WHERE stock_version = 2",
			"UPDATE stock_entries SET at = at + interval '1 hour' WHERE stock_version = 1",
		},
		"reserved_equals_reservations": {
			"UPDATE stock SET reserved = reserved + 1", "DELETE FROM reservations", "DELETE FROM stock",
		},
		"consumed_equals_entries": {
			"DELETE FROM reservations WHERE status = 'consumed'",
			"DELETE FROM stock_entries WHERE kind = 'consume'",
			"UPDATE stock_entries SET quantity = quantity - 1 WHERE kind = 'consume'",
			"UPDATE stock_entries SET reference = 'another' WHERE kind = 'consume'",
		},
		"booked_equals_bookings": {
			"UPDATE delivery_slots SET booked = booked + 1", "DELETE FROM slot_bookings",
			"DELETE FROM delivery_slots",
			"UPDATE delivery_slots SET capacity = 0",
		},
		"inventory_complete": {
			"DELETE FROM stock", "DELETE FROM skus", "DELETE FROM delivery_slots",
		},
		"delivery_once": {
			"INSERT INTO deliveries SELECT consumer, tenant_id, aggregate_id, seq, 't', 'r', now(), now() FROM inbox",
			"INSERT INTO inbox SELECT consumer, tenant_id, aggregate_id, 99, now() FROM inbox",
		},
		"delivery_never_forgotten": {
			"INSERT INTO deliveries SELECT consumer, tenant_id, aggregate_id, seq, 't', 'r', now() - interval '11 seconds', now() FROM inbox; DELETE FROM river_job",
		},
	}
}

// weaken takes away the guards of the schema, which would refuse the bugs.
const weaken = `
SET session_replication_role = replica;
DO $$ DECLARE c record; BEGIN
    FOR c IN SELECT conrelid::regclass AS t, conname AS n FROM pg_constraint
              WHERE contype IN ('c', 'f') AND connamespace = 'public'::regnamespace
                AND conrelid::regclass::text NOT LIKE 'river%'
    LOOP EXECUTE format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS %I CASCADE', c.t, c.n); END LOOP;
END $$;
DROP INDEX orders_client_reference;`

func TestEachInvariantFindsItsBugs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	item := w.Item(1)
	item.Slot = w.Slot
	confirmed, late, early := w.Place(t, "k1", item), w.Place(t, "k2", item), w.Place(t, "k3", item)
	w.cancel(t, "c3", early)
	release := w.hold(t)
	w.run(t)
	release()
	w.paid(t, confirmed)
	w.paid(t, late)
	w.cancel(t, "c2", late)
	w.run(t)
	w.Bundle.Bundle.WaitQuiet(t)
	w.run(t)
	w.requireState(t, confirmed, order.Confirmed, "", order.PaymentSettled)
	w.requireState(t, late, order.Canceled, order.ReasonClient, order.PaymentReversed)
	open, _ := w.paying(t, "k4", item)
	w.Place(t, "k5", w.Item(1))
	w.requireState(t, open, order.Reserved, "", order.PaymentPending)
	w.CheckInvariants(t)

	planted := bugs()
	for _, i := range append(order.Invariants(), ordertest.Invariants()...) {
		if strings.HasPrefix(i.Name, "order_") {
			require.NotEmpty(t, planted[i.Name], "plant a bug for %s", i.Name)
		}
	}
	for name, statements := range planted {
		i := invariantNamed(t, name)
		for _, bug := range statements {
			require.NotEmpty(t, w.breaksAfter(t, bug, i), "%s does not find: %s", name, bug)
		}
	}
	w.CheckInvariants(t)
	require.NotEqual(t, uuid.Nil, open)
}

// breaksAfter plants a bug, asks the invariant, and takes the bug back.
func (w world) breaksAfter(t *testing.T, bug string, i invariant.Invariant) []string {
	t.Helper()
	conn, err := w.Pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	_, err = conn.Exec(t.Context(), "BEGIN; "+weaken+bug)
	require.NoError(t, err, bug)
	rows, err := conn.Query(t.Context(), i.SQL)
	require.NoError(t, err)
	var breaks []string
	for rows.Next() {
		var what string
		require.NoError(t, rows.Scan(&what))
		breaks = append(breaks, what)
	}
	require.NoError(t, rows.Err())
	_, err = conn.Exec(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	return breaks
}
