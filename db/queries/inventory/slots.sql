-- InsertSlot opens a delivery slot.
-- name: InsertSlot :exec
INSERT INTO delivery_slots (tenant_id, id, location, starts_at, ends_at, capacity, created_at)
VALUES (@tenant_id, @id, @location, @starts_at, @ends_at, @capacity, @created_at);

-- LockSlots locks slots in id order and reads what decisions about them need.
-- name: LockSlots :many
SELECT d.*
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@ids::uuid[]) AS id) AS u
  JOIN delivery_slots d ON d.tenant_id = u.tenant_id AND d.id = u.id
 ORDER BY d.tenant_id, d.id
   FOR NO KEY UPDATE OF d;

-- ReadSlots reads the same without a lock: enough to refuse a wrong slot early.
-- name: ReadSlots :many
SELECT d.*
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@ids::uuid[]) AS id) AS u
  JOIN delivery_slots d ON d.tenant_id = u.tenant_id AND d.id = u.id;

-- WriteSlots writes what was decided on locked rows; every row has to be there.
-- name: WriteSlots :exec
WITH written AS (
    UPDATE delivery_slots d SET booked = u.booked, status = u.status
      FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@ids::uuid[]) AS id,
                   unnest(@booked::bigint[]) AS booked, unnest(@statuses::text[]) AS status) AS u
     WHERE d.tenant_id = u.tenant_id AND d.id = u.id
    RETURNING 1
)
SELECT assert_rows(count(*), cardinality(@ids::uuid[]), 'slots') AS reached FROM written;

-- GetSlot reads one slot of a tenant.
-- name: GetSlot :one
SELECT d.* FROM delivery_slots d WHERE d.tenant_id = @tenant_id AND d.id = @id;

-- ListSlots pages through a tenant's slots by id, oldest first.
-- name: ListSlots :many
SELECT d.* FROM delivery_slots d
 WHERE d.tenant_id = @tenant_id AND d.id > @after
 ORDER BY d.id
 LIMIT @page_size;

-- ListSlotsAt pages through the slots of one location.
-- name: ListSlotsAt :many
SELECT d.* FROM delivery_slots d
 WHERE d.tenant_id = @tenant_id AND d.location = @location AND d.id > @after
 ORDER BY d.id
 LIMIT @page_size;

-- ReadBookings reads the places that orders have. Under the locks of their slots nothing can change them.
-- name: ReadBookings :many
SELECT b.*
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@orders::uuid[]) AS order_id) AS u
  JOIN slot_bookings b ON b.tenant_id = u.tenant_id AND b.order_id = u.order_id;

-- InsertBookings stores the places that orders take. One that the order has already is a unique violation.
-- name: InsertBookings :exec
INSERT INTO slot_bookings (tenant_id, order_id, slot_id, status, expires_at, created_at, updated_at)
SELECT u.tenant_id, u.order_id, u.slot_id, u.status, u.expires_at, @now::timestamptz, @now::timestamptz
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@orders::uuid[]) AS order_id,
               unnest(@slots::uuid[]) AS slot_id, unnest(@statuses::text[]) AS status,
               unnest(@expires_at::timestamptz[]) AS expires_at) AS u;

-- MoveBookings writes what became of bookings. One that is not any more what the decision saw stops the
-- whole transaction: booked would lose what it does not have.
-- name: MoveBookings :exec
WITH moved AS (
    UPDATE slot_bookings b
       SET status = u.to_status, expires_at = u.expires_at, updated_at = @now::timestamptz
      FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@orders::uuid[]) AS order_id,
                   unnest(@slots::uuid[]) AS slot_id, unnest(@from_statuses::text[]) AS from_status,
                   unnest(@to_statuses::text[]) AS to_status,
                   unnest(@expires_at::timestamptz[]) AS expires_at) AS u
     WHERE b.tenant_id = u.tenant_id AND b.order_id = u.order_id AND b.slot_id = u.slot_id
       AND b.status = u.from_status
    RETURNING 1
)
SELECT assert_rows(count(*), cardinality(@orders::uuid[]), 'bookings') AS reached FROM moved;
