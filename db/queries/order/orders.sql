-- InsertOrders stores placed orders with their first wake-up.
-- name: InsertOrders :exec
INSERT INTO orders (tenant_id, id, customer_account, merchant_account, location, slot_id, currency, total,
                    state, version, client_reference, metadata, lane, wake_at, promise_at, created_at, updated_at)
SELECT u.tenant_id, u.id, u.customer_account, u.merchant_account, u.location,
       nullif(u.slot_id, '00000000-0000-0000-0000-000000000000'), u.currency, u.total, 'pending', 1,
       nullif(u.client_reference, ''), u.metadata, u.lane, @now::timestamptz, u.promise_at,
       @now::timestamptz, @now::timestamptz
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@ids::uuid[]) AS id,
               unnest(@customers::uuid[]) AS customer_account,
               unnest(@merchants::uuid[]) AS merchant_account, unnest(@locations::text[]) AS location,
               unnest(@slots::uuid[]) AS slot_id, unnest(@currencies::text[]) AS currency,
               unnest(@totals::bigint[]) AS total,
               unnest(@client_references::text[]) AS client_reference,
               unnest(@metadata::json[]) AS metadata, unnest(@lanes::smallint[]) AS lane,
               unnest(@promises_at::timestamptz[]) AS promise_at) AS u;

-- InsertLines stores the lines of placed orders, one per SKU.
-- name: InsertLines :exec
INSERT INTO order_lines (tenant_id, order_id, sku_id, quantity, unit_price)
SELECT u.tenant_id, u.order_id, u.sku_id, u.quantity, u.unit_price
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@orders::uuid[]) AS order_id,
               unnest(@skus::uuid[]) AS sku_id, unnest(@quantities::bigint[]) AS quantity,
               unnest(@unit_prices::bigint[]) AS unit_price) AS u;

-- LockOrders locks orders in id order and reads them. It comes after the locks of slots and stock.
-- name: LockOrders :many
SELECT o.*
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@ids::uuid[]) AS id) AS u
  JOIN orders o ON o.tenant_id = u.tenant_id AND o.id = u.id
 ORDER BY o.tenant_id, o.id
   FOR NO KEY UPDATE OF o;

-- ReadOrders reads orders by id.
-- name: ReadOrders :many
SELECT o.*
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@ids::uuid[]) AS id) AS u
  JOIN orders o ON o.tenant_id = u.tenant_id AND o.id = u.id;

-- ReadLines reads the lines of orders. They never change.
-- name: ReadLines :many
SELECT l.*
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@ids::uuid[]) AS id) AS u
  JOIN order_lines l ON l.tenant_id = u.tenant_id AND l.order_id = u.id
 ORDER BY l.tenant_id, l.order_id, l.sku_id;

-- MoveOrders writes what was decided, if the row still is what the decision saw. A row that is not
-- stops the whole transaction: the batch is decided again on what is there then. Arrays
-- come without NULL: an empty text, a nil uuid and Go's zero time stand for it.
-- name: MoveOrders :exec
WITH moved AS (
    UPDATE orders o
       SET state = u.to_state, version = u.to_version, reason = nullif(u.reason, ''),
           payment_state = u.payment_state,
           payment_transfer_id = nullif(u.payment_transfer_id, '00000000-0000-0000-0000-000000000000'),
           reservation_expires_at = nullif(u.reservation_expires_at, '0001-01-01 00:00:00+00'),
           attempts = u.to_attempts, failures = u.to_failures, wake_at = nullif(u.wake_at, '0001-01-01 00:00:00+00'),
           promise_at = u.promise_at, updated_at = @now::timestamptz
      FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@ids::uuid[]) AS id,
                   unnest(@from_states::text[]) AS from_state,
                   unnest(@from_versions::integer[]) AS from_version,
                   unnest(@from_attempts::integer[]) AS from_attempts,
                   unnest(@to_states::text[]) AS to_state, unnest(@to_versions::integer[]) AS to_version,
                   unnest(@reasons::text[]) AS reason, unnest(@payment_states::text[]) AS payment_state,
                   unnest(@payment_transfers::uuid[]) AS payment_transfer_id,
                   unnest(@reservations_expire_at::timestamptz[]) AS reservation_expires_at,
                   unnest(@to_attempts::integer[]) AS to_attempts,
                   unnest(@to_failures::integer[]) AS to_failures,
                   unnest(@wakes_at::timestamptz[]) AS wake_at,
                   unnest(@promises_at::timestamptz[]) AS promise_at) AS u
     WHERE o.tenant_id = u.tenant_id AND o.id = u.id
       AND o.state = u.from_state AND o.version = u.from_version AND o.attempts = u.from_attempts
    RETURNING 1
)
SELECT assert_rows(count(*), cardinality(@ids::uuid[]), 'orders') AS reached FROM moved;

-- FindReferences says which client references are taken.
-- name: FindReferences :many
SELECT o.tenant_id, o.client_reference
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id,
               unnest(@client_references::text[]) AS client_reference) AS u
  JOIN orders o ON o.tenant_id = u.tenant_id AND o.client_reference = u.client_reference;

-- ReadFacts reads what never changes of orders, with their lines. No query writes these columns but
-- InsertOrders and InsertLines.
-- name: ReadFacts :many
SELECT o.id, o.customer_account, o.merchant_account, o.location, o.slot_id, o.currency, o.total,
       o.client_reference, o.metadata, o.created_at,
       lines.skus::uuid[] AS skus, lines.quantities::bigint[] AS quantities,
       lines.unit_prices::bigint[] AS unit_prices
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@ids::uuid[]) AS id) AS u
  JOIN orders o ON o.tenant_id = u.tenant_id AND o.id = u.id
 CROSS JOIN LATERAL (
       SELECT array_agg(l.sku_id ORDER BY l.sku_id) AS skus,
              array_agg(l.quantity ORDER BY l.sku_id) AS quantities,
              array_agg(l.unit_price ORDER BY l.sku_id) AS unit_prices
         FROM order_lines l
        WHERE l.tenant_id = o.tenant_id AND l.order_id = o.id) AS lines;

-- GetByReference reads one order of a tenant by the client's own reference.
-- name: GetByReference :one
SELECT o.* FROM orders o
 WHERE o.tenant_id = @tenant_id AND o.client_reference = @client_reference;

-- ListOrders pages back through a tenant's orders by id, newest first, down to the id at which the
-- page stops looking (see LastLookedAt). So a page may be short, or empty, and still have a next one: a
-- filter that matches nothing costs no more than one that matches all.
-- name: ListOrders :many
SELECT o.* FROM orders o
 WHERE o.tenant_id = @tenant_id AND o.id < @before AND o.id >= @last_looked_at
   AND (sqlc.narg('state')::text IS NULL OR o.state = sqlc.narg('state'))
   AND (sqlc.narg('account')::uuid IS NULL
        OR sqlc.narg('account') IN (o.customer_account, o.merchant_account))
   AND (sqlc.narg('sku')::uuid IS NULL OR EXISTS (
        SELECT FROM order_lines l
         WHERE l.tenant_id = o.tenant_id AND l.order_id = o.id AND l.sku_id = sqlc.narg('sku')))
   AND (sqlc.narg('created_from')::timestamptz IS NULL OR o.created_at >= sqlc.narg('created_from'))
   AND (sqlc.narg('created_to')::timestamptz IS NULL OR o.created_at < sqlc.narg('created_to'))
 ORDER BY o.id DESC
 LIMIT @page_size;

-- LastLookedAt is the id of the last row that a page of ListOrders looked at; no row if the page
-- looked at all there are.
-- name: LastLookedAt :one
SELECT o.id FROM orders o
 WHERE o.tenant_id = @tenant_id AND o.id < @before
 ORDER BY o.id DESC
OFFSET @last_offset LIMIT 1;

-- SystemWakeForgotten claims rows that were due before the horizon and have no live job, and moves their
-- wake-up to one common time, so that they share jobs; the same transaction enqueues them. A forgotten
-- row counts an attempt: who comes back to it is stale.
-- name: SystemWakeForgotten :many
UPDATE orders o
   SET wake_at = statement_timestamp(), attempts = o.attempts + 1
  FROM (SELECT f.tenant_id, f.id FROM orders f
         WHERE f.wake_at < @horizon::timestamptz
         ORDER BY f.wake_at
         LIMIT @batch_size
           FOR NO KEY UPDATE SKIP LOCKED) lost
 WHERE o.tenant_id = lost.tenant_id AND o.id = lost.id
RETURNING o.*;

-- SystemDeadLetters reads what was given up, the latest first. The partial index holds nothing else.
-- name: SystemDeadLetters :many
SELECT o.* FROM orders o
 WHERE (o.failures >= 5 OR o.reason = 'poison')
 ORDER BY o.updated_at DESC
 LIMIT @page_size;

-- SystemTransitions reads the second copy of the table of legal moves.
-- name: SystemTransitions :many
-- @sqlc-vet-disable no-sequential-scan
SELECT from_state, event, to_state FROM order_transitions ORDER BY from_state, event;

-- SystemPromises says how long ago the order with the most urgent promise was placed, zero without an open one,
-- and how many open ones are past theirs, up to a bound.
-- name: SystemPromises :one
SELECT coalesce((
       SELECT greatest(0, extract(epoch FROM clock_timestamp() - o.created_at))
         FROM orders o
        WHERE o.state IN ('pending', 'reserved')
        ORDER BY o.promise_at LIMIT 1), 0)::float8 AS age_seconds,
       (SELECT count(*)
          FROM (SELECT 1 FROM orders o
                 WHERE o.state IN ('pending', 'reserved') AND o.promise_at < statement_timestamp()
                 ORDER BY o.promise_at LIMIT @overdue_max) AS late)::integer AS overdue;

-- SystemOpenByTenant counts for each tenant, the busiest first, the open orders: the most urgent ones, up to a
-- bound.
-- name: SystemOpenByTenant :many
SELECT open.tenant_id, count(*)::integer AS orders
  FROM (SELECT o.tenant_id FROM orders o
         WHERE o.state IN ('pending', 'reserved')
         ORDER BY o.promise_at LIMIT @look_max) AS open
 GROUP BY open.tenant_id
 ORDER BY orders DESC, open.tenant_id
 LIMIT @page_size;
