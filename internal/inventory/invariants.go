package inventory

import "example.com/holdfast/internal/invariant"

// Invariants lists what always holds about stock, entries, reservations, slots and bookings. The hot
// tables have no foreign keys, so these checks also stand in for them.
func Invariants() []invariant.Invariant {
	return []invariant.Invariant{
		{
			Name: "stock_never_oversold", SQL: neverOversoldSQL,
			Doc: "What is reserved is neither negative nor more than is on hand, which never was negative.",
		},
		{
			Name: "stock_equals_entries", SQL: stockEqualsEntriesSQL,
			Doc: "What is on hand is the sum of the entries, and version is their number.",
		},
		{
			Name: "stock_history_unbroken", SQL: stockHistorySQL,
			Doc: "Versions have no gap, each entry carries what is on hand after it, time never runs back.",
		},
		{
			Name: "reserved_equals_reservations", SQL: reservedSQL,
			Doc: "What is reserved of stock is the sum of its active reservations.",
		},
		{
			Name: "consumed_equals_entries", SQL: consumedSQL,
			Doc: "A reservation is consumed exactly if an entry of its order took its quantity away.",
		},
		{
			Name: "booked_equals_bookings", SQL: bookedSQL,
			Doc: "The booked places of a slot are its active and consumed bookings, no more than it has.",
		},
		{
			Name: "inventory_complete", SQL: inventoryCompleteSQL,
			Doc: "Stock has its SKU, a reservation its stock, a booking its slot.",
		},
	}
}

const neverOversoldSQL = `
SELECT format('SKU %s at %s: %s of %s reserved', s.sku_id, s.location, s.reserved, s.on_hand) AS what
  FROM stock s
 WHERE s.reserved < 0 OR s.reserved > s.on_hand
UNION ALL
SELECT format('SKU %s at %s: %s on hand at version %s', e.sku_id, e.location, e.on_hand_after,
              e.stock_version)
  FROM stock_entries e
 WHERE e.on_hand_after < 0`

const stockEqualsEntriesSQL = `
SELECT format('SKU %s at %s: %s on hand at version %s, %s entries up to %s sum to %s',
              coalesce(s.sku_id, e.sku_id), coalesce(s.location, e.location), s.on_hand, s.version,
              coalesce(e.n, 0), coalesce(e.last, 0), coalesce(e.total, 0)) AS what
  FROM stock s
  FULL JOIN (SELECT h.tenant_id, h.sku_id, h.location, count(*) AS n, max(h.stock_version) AS last,
                    sum(h.quantity) AS total
               FROM stock_entries h
              GROUP BY h.tenant_id, h.sku_id, h.location) e
    ON e.tenant_id = s.tenant_id AND e.sku_id = s.sku_id AND e.location = s.location
 WHERE (s.on_hand, s.version, s.version) IS DISTINCT FROM
       (coalesce(e.total, 0), coalesce(e.last, 0), coalesce(e.n, 0))`

const stockHistorySQL = `
SELECT format('SKU %s at %s: entry %s is number %s, says %s for %s, at %s after %s', r.sku_id, r.location,
              r.stock_version, r.n, r.on_hand_after, r.on_hand, r.at, r.before) AS what
  FROM (SELECT e.sku_id, e.location, e.stock_version, e.on_hand_after, e.at,
               row_number() OVER history AS n, sum(e.quantity) OVER history AS on_hand,
               lag(e.at) OVER history AS before
          FROM stock_entries e
        WINDOW history AS (PARTITION BY e.tenant_id, e.sku_id, e.location ORDER BY e.stock_version)) r
 WHERE r.stock_version <> r.n OR r.on_hand_after <> r.on_hand OR r.at < r.before`

const reservedSQL = `
SELECT format('SKU %s at %s: %s reserved, active reservations %s', coalesce(s.sku_id, r.sku_id),
              coalesce(s.location, r.location), s.reserved, coalesce(r.total, 0)) AS what
  FROM stock s
  FULL JOIN (SELECT a.tenant_id, a.sku_id, a.location, sum(a.quantity) AS total
               FROM reservations a
              WHERE a.status = 'active'
              GROUP BY a.tenant_id, a.sku_id, a.location) r
    ON r.tenant_id = s.tenant_id AND r.sku_id = s.sku_id AND r.location = s.location
 WHERE s.reserved IS DISTINCT FROM coalesce(r.total, 0)`

const consumedSQL = `
SELECT format('order %s: %s of SKU %s consumed, its entries took %s', coalesce(r.order_id::text, e.reference),
              coalesce(r.quantity, 0), coalesce(r.sku_id, e.sku_id), coalesce(e.total, 0)) AS what
  FROM (SELECT c.* FROM reservations c WHERE c.status = 'consumed') r
  FULL JOIN (SELECT t.tenant_id, t.sku_id, t.location, t.reference, -sum(t.quantity) AS total
               FROM stock_entries t
              WHERE t.kind = 'consume'
              GROUP BY t.tenant_id, t.sku_id, t.location, t.reference) e
    ON e.tenant_id = r.tenant_id AND e.sku_id = r.sku_id AND e.location = r.location
   AND e.reference = r.order_id::text
 WHERE r.quantity IS DISTINCT FROM e.total`

const bookedSQL = `
SELECT format('slot %s: %s of %s booked, bookings %s', coalesce(d.id, b.slot_id), d.booked, d.capacity,
              coalesce(b.n, 0)) AS what
  FROM delivery_slots d
  FULL JOIN (SELECT k.tenant_id, k.slot_id, count(*) AS n
               FROM slot_bookings k
              WHERE k.status IN ('active', 'consumed')
              GROUP BY k.tenant_id, k.slot_id) b
    ON b.tenant_id = d.tenant_id AND b.slot_id = d.id
 WHERE d.booked IS DISTINCT FROM coalesce(b.n, 0) OR d.booked > d.capacity`

const inventoryCompleteSQL = `
SELECT format('order %s: reservation of SKU %s at %s without stock', r.order_id, r.sku_id, r.location) AS what
  FROM reservations r
  LEFT JOIN stock s ON s.tenant_id = r.tenant_id AND s.sku_id = r.sku_id AND s.location = r.location
 WHERE s.sku_id IS NULL
UNION ALL
SELECT format('stock of SKU %s at %s without the SKU', s.sku_id, s.location)
  FROM stock s
  LEFT JOIN skus k ON k.tenant_id = s.tenant_id AND k.id = s.sku_id
 WHERE k.id IS NULL
UNION ALL
SELECT format('order %s: booking of slot %s, which is at %s', b.order_id, b.slot_id,
              coalesce(d.location, 'no location'))
  FROM slot_bookings b
  LEFT JOIN delivery_slots d ON d.tenant_id = b.tenant_id AND d.id = b.slot_id
 WHERE d.id IS NULL`
