-- FindKeys reads the stored outcomes of keys. A key that is missing has none.
-- name: FindKeys :many
SELECT k.tenant_id, k.key, k.request_sha256, k.status, k.location, k.body
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@keys::text[]) AS key) AS u
  JOIN idempotency_keys k ON k.tenant_id = u.tenant_id AND k.key = u.key;

-- KnownKeys says which keys have a stored outcome, without reading it.
-- name: KnownKeys :many
SELECT k.tenant_id, k.key
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@keys::text[]) AS key) AS u
  JOIN idempotency_keys k ON k.tenant_id = u.tenant_id AND k.key = u.key;

-- InsertKeys stores outcomes, in key order so that two batches cannot wait for each other. A key that
-- another transaction stored meanwhile is a unique violation: the batch is decided again, and finds it.
-- name: InsertKeys :exec
INSERT INTO idempotency_keys (tenant_id, key, request_sha256, status, location, body, created_at)
SELECT u.tenant_id, u.key, u.request_sha256, u.status, nullif(u.location, ''), u.body, @now::timestamptz
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@keys::text[]) AS key,
               unnest(@hashes::bytea[]) AS request_sha256, unnest(@statuses::smallint[]) AS status,
               unnest(@locations::text[]) AS location, unnest(@bodies::bytea[]) AS body) AS u
 ORDER BY u.tenant_id, u.key;

-- SystemDeleteExpired removes one batch of keys older than the retention. now() is stable, as the block
-- range index needs it; clock_timestamp() would read the whole table.
-- name: SystemDeleteExpired :execrows
DELETE FROM idempotency_keys d
 USING (SELECT k.tenant_id, k.key FROM idempotency_keys k
         WHERE k.created_at < now() - @retention::interval LIMIT @batch_size) old
 WHERE d.tenant_id = old.tenant_id AND d.key = old.key;
