-- LockStock locks stock in the order of its key and reads what decisions about it need. Whoever changes
-- stock, or a reservation of it, holds this row until commit.
-- name: LockStock :many
SELECT s.*
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@skus::uuid[]) AS sku_id,
               unnest(@locations::text[]) AS location) AS u
  JOIN stock s ON s.tenant_id = u.tenant_id AND s.sku_id = u.sku_id AND s.location = u.location
 ORDER BY s.tenant_id, s.sku_id, s.location
   FOR NO KEY UPDATE OF s;

-- WriteStock writes what was decided on locked rows; every row has to be there.
-- name: WriteStock :exec
WITH written AS (
    UPDATE stock s
       SET on_hand = u.on_hand, reserved = u.reserved, version = u.version
      FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@skus::uuid[]) AS sku_id,
                   unnest(@locations::text[]) AS location, unnest(@on_hand::bigint[]) AS on_hand,
                   unnest(@reserved::bigint[]) AS reserved, unnest(@versions::bigint[]) AS version) AS u
     WHERE s.tenant_id = u.tenant_id AND s.sku_id = u.sku_id AND s.location = u.location
    RETURNING 1
)
SELECT assert_rows(count(*), cardinality(@skus::uuid[]), 'stock') AS reached FROM written;

-- EnsureStock makes sure that a SKU has a row at a location.
-- name: EnsureStock :exec
INSERT INTO stock (tenant_id, sku_id, location) VALUES (@tenant_id, @sku_id, @location)
ON CONFLICT (tenant_id, sku_id, location) DO NOTHING;

-- ListStock reads the stock of a SKU at all locations.
-- name: ListStock :many
SELECT s.* FROM stock s
 WHERE s.tenant_id = @tenant_id AND s.sku_id = @sku_id
 ORDER BY s.location
 LIMIT @page_size;

-- InsertEntries stores changes of what is on hand. A version that the stock already has is a unique
-- violation, so two writers of one version cannot both commit.
-- name: InsertEntries :exec
INSERT INTO stock_entries (tenant_id, sku_id, location, stock_version, kind, quantity, on_hand_after, reference, at)
SELECT u.tenant_id, u.sku_id, u.location, u.stock_version, u.kind, u.quantity, u.on_hand_after, u.reference,
       @now::timestamptz
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@skus::uuid[]) AS sku_id,
               unnest(@locations::text[]) AS location, unnest(@versions::bigint[]) AS stock_version,
               unnest(@kinds::text[]) AS kind, unnest(@quantities::bigint[]) AS quantity,
               unnest(@on_hand_after::bigint[]) AS on_hand_after,
               unnest(@refs::text[]) AS reference) AS u;

-- SystemNow is the time that goes into rows: Postgres's, read after the locks were taken.
-- name: SystemNow :one
SELECT clock_timestamp()::timestamptz AS now;
