-- ReadReservations reads what orders have. Under the locks of their stock nothing can change it.
-- name: ReadReservations :many
SELECT r.*
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@orders::uuid[]) AS order_id) AS u
  JOIN reservations r ON r.tenant_id = u.tenant_id AND r.order_id = u.order_id;

-- InsertReservations stores what orders take. One that the order has already is a unique violation.
-- name: InsertReservations :exec
INSERT INTO reservations (tenant_id, order_id, sku_id, id, location, quantity, status, expires_at,
                          created_at, updated_at)
SELECT u.tenant_id, u.order_id, u.sku_id, u.id, u.location, u.quantity, u.status, u.expires_at,
       @now::timestamptz, @now::timestamptz
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@orders::uuid[]) AS order_id,
               unnest(@skus::uuid[]) AS sku_id, unnest(@ids::uuid[]) AS id,
               unnest(@locations::text[]) AS location, unnest(@quantities::bigint[]) AS quantity,
               unnest(@statuses::text[]) AS status, unnest(@expires_at::timestamptz[]) AS expires_at) AS u;

-- MoveReservations writes what became of reservations. One that is not any more what the decision saw
-- stops the whole transaction: reserved would lose what it does not have.
-- name: MoveReservations :exec
WITH moved AS (
    UPDATE reservations r
       SET status = u.to_status, expires_at = u.expires_at, updated_at = @now::timestamptz
      FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@orders::uuid[]) AS order_id,
                   unnest(@skus::uuid[]) AS sku_id, unnest(@quantities::bigint[]) AS quantity,
                   unnest(@from_statuses::text[]) AS from_status,
                   unnest(@to_statuses::text[]) AS to_status,
                   unnest(@expires_at::timestamptz[]) AS expires_at) AS u
     WHERE r.tenant_id = u.tenant_id AND r.order_id = u.order_id AND r.sku_id = u.sku_id
       AND r.status = u.from_status AND r.quantity = u.quantity
    RETURNING 1
)
SELECT assert_rows(count(*), cardinality(@orders::uuid[]), 'reservations') AS reached FROM moved;
