-- InsertDeliveries stores what consumers have to handle, with the events that it tells of.
-- name: InsertDeliveries :exec
INSERT INTO deliveries (consumer, tenant_id, aggregate_id, seq, type, reference, lane, wake_at, created_at)
SELECT u.consumer, u.tenant_id, u.aggregate_id, u.seq, u.type, u.reference, u.lane, @now::timestamptz,
       @now::timestamptz
  FROM (SELECT unnest(@consumers::text[]) AS consumer, unnest(@tenants::uuid[]) AS tenant_id,
               unnest(@aggregates::uuid[]) AS aggregate_id, unnest(@seqs::integer[]) AS seq,
               unnest(@types::text[]) AS type, unnest(@refs::text[]) AS reference,
               unnest(@lanes::smallint[]) AS lane) AS u;

-- ReadDeliveries reads deliveries that are still to be handled.
-- name: ReadDeliveries :many
SELECT d.*
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@aggregates::uuid[]) AS aggregate_id,
               unnest(@seqs::integer[]) AS seq) AS u
  JOIN deliveries d ON d.consumer = @consumer AND d.tenant_id = u.tenant_id
   AND d.aggregate_id = u.aggregate_id AND d.seq = u.seq;

-- RetryDeliveries sets the next try of deliveries that are still to be handled. One that somebody else tried
-- or handled meanwhile stays as it is.
-- name: RetryDeliveries :exec
UPDATE deliveries d
   SET attempts = d.attempts + 1, failures = u.failures, wake_at = u.wake_at
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@aggregates::uuid[]) AS aggregate_id,
               unnest(@seqs::integer[]) AS seq, unnest(@from_attempts::integer[]) AS attempts,
               unnest(@failures::integer[]) AS failures, unnest(@wakes_at::timestamptz[]) AS wake_at) AS u
 WHERE d.consumer = @consumer AND d.tenant_id = u.tenant_id AND d.aggregate_id = u.aggregate_id
   AND d.seq = u.seq AND d.attempts = u.attempts;

-- FindHandled says which deliveries a consumer has handled.
-- name: FindHandled :many
SELECT i.tenant_id, i.aggregate_id, i.seq
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@aggregates::uuid[]) AS aggregate_id,
               unnest(@seqs::integer[]) AS seq) AS u
  JOIN inbox i ON i.consumer = @consumer AND i.tenant_id = u.tenant_id
   AND i.aggregate_id = u.aggregate_id AND i.seq = u.seq;

-- InsertHandled says that deliveries are handled. One that another transaction handled meanwhile is a
-- unique violation: the batch is decided again, and finds it.
-- name: InsertHandled :exec
INSERT INTO inbox (consumer, tenant_id, aggregate_id, seq, at)
SELECT @consumer::text, u.tenant_id, u.aggregate_id, u.seq, @now::timestamptz
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@aggregates::uuid[]) AS aggregate_id,
               unnest(@seqs::integer[]) AS seq) AS u
 ORDER BY u.tenant_id, u.aggregate_id, u.seq;

-- DeleteDeliveries removes what is handled.
-- name: DeleteDeliveries :exec
DELETE FROM deliveries d
 USING (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@aggregates::uuid[]) AS aggregate_id,
               unnest(@seqs::integer[]) AS seq) AS u
 WHERE d.consumer = @consumer AND d.tenant_id = u.tenant_id AND d.aggregate_id = u.aggregate_id
   AND d.seq = u.seq;

-- SystemWakeForgottenDeliveries claims deliveries that were due before the horizon and have no live job,
-- and moves their wake-up to one common time; the same transaction enqueues them. A forgotten one counts an
-- attempt: who comes back to it is stale.
-- name: SystemWakeForgottenDeliveries :many
UPDATE deliveries d
   SET wake_at = statement_timestamp(), attempts = d.attempts + 1
  FROM (SELECT f.consumer, f.tenant_id, f.aggregate_id, f.seq FROM deliveries f
         WHERE f.consumer = @consumer AND f.wake_at < @horizon::timestamptz
         ORDER BY f.wake_at
         LIMIT @batch_size
           FOR NO KEY UPDATE SKIP LOCKED) lost
 WHERE d.consumer = lost.consumer AND d.tenant_id = lost.tenant_id AND d.aggregate_id = lost.aggregate_id
   AND d.seq = lost.seq
RETURNING d.*;

-- SystemDeadDeliveries reads what could not be handled again and again, the latest first. The partial index
-- holds nothing else.
-- name: SystemDeadDeliveries :many
SELECT d.* FROM deliveries d
 WHERE d.failures >= 5
 ORDER BY d.created_at DESC
 LIMIT @page_size;

-- SystemUnhandled counts for each consumer and type, of a page, the events that it was told of before the
-- horizon and has not handled. In health there are none.
-- name: SystemUnhandled :many
SELECT u.consumer, u.type, count(*)::integer AS events
  FROM (SELECT d.consumer, d.type FROM deliveries d
         WHERE d.created_at < clock_timestamp() - @grace::interval
         ORDER BY d.consumer, d.wake_at LIMIT @page_size) u
 GROUP BY u.consumer, u.type
 ORDER BY u.consumer, u.type;

-- SystemConsumers says for each consumer since when the oldest event waits that is due for it.
-- name: SystemConsumers :many
SELECT c.consumer::text AS consumer,
       coalesce((SELECT greatest(0, extract(epoch FROM clock_timestamp() - d.wake_at))
                   FROM deliveries d WHERE d.consumer = c.consumer
                  ORDER BY d.wake_at LIMIT 1), 0)::float8 AS seconds
  FROM (SELECT unnest(@consumers::text[]) AS consumer) c;
