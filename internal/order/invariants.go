package order

import "example.com/holdfast/internal/invariant"

// Invariants lists what always holds about orders, their lines, events, reservations, payments and
// wake-ups. The hot tables have no foreign keys, so these checks also stand in for them.
func Invariants() []invariant.Invariant {
	return []invariant.Invariant{
		{
			Name: "order_events_complete", SQL: eventsCompleteSQL,
			Doc: "An order's events are numbered 1 to its version, each begins where the one before ended, " +
				"and the last one ends in the order's state.",
		},
		{
			Name: "order_moves_legal", SQL: movesLegalSQL,
			Doc: "An order begins pending, and every later event is a move of the table.",
		},
		{
			Name: "order_ends_once", SQL: endsOnceSQL,
			Doc: "An order has at most one event that ends it.",
		},
		{
			Name: "order_promise_kept", SQL: promiseKeptSQL,
			Doc: "No order is open for more than five seconds past its promise.",
		},
		{
			Name: "order_end_has_reason", SQL: endHasReasonSQL,
			Doc: "A canceled order says why, and no other has a reason.",
		},
		{
			Name: "order_reference_once", SQL: referenceOnceSQL,
			Doc: "A client_reference names one order of a tenant.",
		},
		{
			Name: "order_total_agrees", SQL: totalAgreesSQL,
			Doc: "An order has lines, and its total is what they cost.",
		},
		{
			Name: "order_reservations_agree", SQL: reservationsAgreeSQL,
			Doc: "A reserved order has every line actively reserved, a confirmed one every line consumed, " +
				"at its own location; no other order has anything.",
		},
		{
			Name: "order_slot_agrees", SQL: slotAgreesSQL,
			Doc: "A reserved order has a place in its slot, a confirmed one keeps it; no other has one.",
		},
		{
			Name: "order_completion_integrity", SQL: completionSQL,
			Doc: "A confirmed order has one settled payment of its total, from its customer to its merchant.",
		},
		{
			Name: "order_payment_goes_back", SQL: goesBackSQL,
			Doc: "A settled payment of a canceled order goes back: it is reversed as a whole, or will be.",
		},
		{
			Name: "order_never_forgotten", SQL: neverForgottenSQL,
			Doc: "Whatever has been due for more than ten seconds is named by a live job.",
		},
		{
			Name: "order_woken_while_open", SQL: wokenSQL,
			Doc: "wake_at is set exactly while there is something to do.",
		},
	}
}

const eventsCompleteSQL = `
SELECT format('order %s: %s at version %s, but %s events up to %s end in %s and %s do not follow',
              coalesce(o.id, e.aggregate_id), coalesce(o.state, 'missing'), coalesce(o.version, 0),
              coalesce(e.n, 0), coalesce(e.last, 0), coalesce(e.ends, 'nothing'),
              coalesce(e.broken, 0)) AS what
  FROM orders o
  FULL JOIN (SELECT s.tenant_id, s.aggregate_id, count(*) AS n, max(s.seq) AS last,
                    (array_agg(s.to_state ORDER BY s.seq DESC))[1] AS ends,
                    count(*) FILTER (WHERE s.from_state IS DISTINCT FROM s.was
                                        OR s.type <> 'order.' || s.to_state) AS broken
               FROM (SELECT v.*, lag(v.to_state) OVER (PARTITION BY v.tenant_id, v.aggregate_id
                                                       ORDER BY v.seq) AS was
                       FROM events v
                      WHERE v.type LIKE 'order.%') s
              GROUP BY s.tenant_id, s.aggregate_id) e
    ON e.tenant_id = o.tenant_id AND e.aggregate_id = o.id
 WHERE (o.version, o.version, o.state, 0) IS DISTINCT FROM (e.n, e.last, e.ends, e.broken)`

const movesLegalSQL = `
SELECT format('order %s: event %s goes from %s to %s', e.aggregate_id, e.seq,
              coalesce(e.from_state, 'nothing'), e.to_state) AS what
  FROM events e
  LEFT JOIN order_transitions l ON l.from_state = e.from_state AND l.to_state = e.to_state
 WHERE e.type LIKE 'order.%'
   AND CASE WHEN e.seq = 1 THEN e.from_state IS NOT NULL OR e.to_state <> 'pending'
            ELSE l.event IS NULL END`

const endsOnceSQL = `
SELECT format('order %s: ended %s times', e.aggregate_id, count(*)) AS what
  FROM events e
 WHERE e.type IN ('order.confirmed', 'order.canceled')
 GROUP BY e.tenant_id, e.aggregate_id
HAVING count(*) > 1`

const promiseKeptSQL = `
SELECT format('order %s: still %s, promised for %s', o.id, o.state, o.promise_at) AS what
  FROM orders o
 WHERE o.wake_at IS NOT NULL AND o.state IN ('pending', 'reserved')
   AND o.promise_at < now() - interval '5 seconds'`

const endHasReasonSQL = `
SELECT format('order %s: %s, reason %s', o.id, o.state, coalesce(o.reason, 'not set')) AS what
  FROM orders o
 WHERE (o.state = 'canceled') <> (o.reason IS NOT NULL)`

const referenceOnceSQL = `
SELECT format('tenant %s: client_reference %s names %s orders', o.tenant_id, o.client_reference,
              count(*)) AS what
  FROM orders o
 WHERE o.client_reference IS NOT NULL
 GROUP BY o.tenant_id, o.client_reference
HAVING count(*) > 1`

const totalAgreesSQL = `
SELECT format('order %s: total %s, lines sum to %s', coalesce(o.id, l.order_id), o.total,
              coalesce(l.total, 0)) AS what
  FROM orders o
  FULL JOIN (SELECT n.tenant_id, n.order_id, sum(n.quantity * n.unit_price) AS total
               FROM order_lines n
              GROUP BY n.tenant_id, n.order_id) l
    ON l.tenant_id = o.tenant_id AND l.order_id = o.id
 WHERE o.total IS DISTINCT FROM l.total`

const reservationsAgreeSQL = `
SELECT format('order %s: %s, has %s of SKU %s %s at %s, for a line of %s at %s',
              coalesce(l.order_id, r.order_id), coalesce(l.state, 'missing'), coalesce(r.quantity, 0),
              coalesce(l.sku_id, r.sku_id), coalesce(r.status, 'reserved never'),
              coalesce(r.location, 'no location'), coalesce(l.quantity, 0), l.location) AS what
  FROM (SELECT o.tenant_id, n.order_id, n.sku_id, n.quantity, o.state, o.location
          FROM orders o
          JOIN order_lines n ON n.tenant_id = o.tenant_id AND n.order_id = o.id) l
  FULL JOIN reservations r
    ON r.tenant_id = l.tenant_id AND r.order_id = l.order_id AND r.sku_id = l.sku_id
 WHERE CASE l.state
       WHEN 'reserved' THEN (r.status, r.quantity, r.location) IS DISTINCT FROM
            ('active', l.quantity, l.location)
       WHEN 'confirmed' THEN (r.status, r.quantity, r.location) IS DISTINCT FROM
            ('consumed', l.quantity, l.location)
       WHEN 'canceled' THEN r.status IN ('active', 'consumed')
       ELSE r.status IS NOT NULL END`

const slotAgreesSQL = `
SELECT format('order %s: %s, its slot %s, its place in %s is %s', coalesce(o.id, b.order_id),
              coalesce(o.state, 'missing'), o.slot_id, b.slot_id, coalesce(b.status, 'missing')) AS what
  FROM orders o
  FULL JOIN slot_bookings b ON b.tenant_id = o.tenant_id AND b.order_id = o.id
 WHERE CASE o.state
       WHEN 'reserved' THEN (b.slot_id, b.status) IS DISTINCT FROM
            (o.slot_id, CASE WHEN o.slot_id IS NOT NULL THEN 'active' END)
       WHEN 'confirmed' THEN (b.slot_id, b.status) IS DISTINCT FROM
            (o.slot_id, CASE WHEN o.slot_id IS NOT NULL THEN 'consumed' END)
       WHEN 'canceled' THEN b.status IN ('active', 'consumed')
       ELSE b.status IS NOT NULL END`

const completionSQL = `
SELECT format('order %s: confirmed, its payment %s is %s of %s', o.id, o.payment_transfer_id,
              coalesce(t.state, 'missing'), t.amount) AS what
  FROM orders o
  LEFT JOIN transfers t ON t.tenant_id = o.tenant_id AND t.id = o.payment_transfer_id
 WHERE o.state = 'confirmed'
   AND (t.state, t.amount, t.currency, t.from_account, t.to_account, t.client_reference, o.payment_state)
       IS DISTINCT FROM ('settled', o.total, o.currency, o.customer_account, o.merchant_account,
                         'order:' || o.id, 'settled')`

const goesBackSQL = `
SELECT format('order %s: canceled, payment %s, %s of %s went back by transfer %s', o.id, o.payment_state,
              t.reversed, t.amount, t.id) AS what
  FROM orders o
  JOIN transfers t ON t.tenant_id = o.tenant_id AND t.client_reference = 'order:' || o.id
   AND (t.from_account, t.to_account, t.amount) = (o.customer_account, o.merchant_account, o.total)
 WHERE o.state = 'canceled' AND t.state = 'settled' AND t.reversed < t.amount
   AND o.payment_state <> 'reversing'
   AND NOT EXISTS (SELECT FROM deliveries d
                    WHERE d.tenant_id = o.tenant_id AND d.consumer = 'order'
                      AND d.reference LIKE 'order:' || o.id || '%')`

const neverForgottenSQL = `
WITH named AS (
    SELECT by_tenant.tenant_id::uuid AS tenant_id, id.id::uuid AS id
      FROM river_job j
     CROSS JOIN LATERAL jsonb_each(j.args -> 'orders') AS by_tenant (tenant_id, ids)
     CROSS JOIN LATERAL jsonb_array_elements_text(by_tenant.ids) AS id (id)
     WHERE j.kind IN ('order_reserve', 'order_pay', 'order_reverse')
       AND j.state IN ('available', 'running', 'retryable', 'scheduled', 'pending')
)
SELECT format('order %s: %s, due since %s, and no job names it', o.id, o.state, o.wake_at) AS what
  FROM orders o
  LEFT JOIN named n ON n.tenant_id = o.tenant_id AND n.id = o.id
 WHERE o.wake_at < now() - interval '10 seconds' AND n.id IS NULL`

const wokenSQL = `
SELECT format('order %s: %s, payment %s, wake_at %s', o.id, o.state, o.payment_state,
              coalesce(o.wake_at::text, 'not set')) AS what
  FROM orders o
 WHERE (o.wake_at IS NOT NULL) <> (o.state IN ('pending', 'reserved') OR o.payment_state = 'reversing')`
