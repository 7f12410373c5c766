-- ListDead reads the dead events of an endpoint after a place, with how many wait behind each.
-- name: ListDead :many
SELECT b.place, b.aggregate_id, b.seq, b.type, b.attempts, b.last_status, b.last_error,
       b.first_failed_at::timestamptz AS first_failed_at, b.dead_at::timestamptz AS dead_at,
       (SELECT count(w.seq) FROM webhook_backlog w
         WHERE w.endpoint_id = b.endpoint_id AND w.aggregate_id = b.aggregate_id
           AND w.seq > b.seq)::integer AS behind
  FROM webhook_backlog b
 WHERE b.endpoint_id = @endpoint_id AND b.tenant_id = @tenant_id AND b.dead_at IS NOT NULL AND b.place > @after
 ORDER BY b.place LIMIT @page_size;

-- SystemListDead reads the dead events of all endpoints, the latest first.
-- name: SystemListDead :many
SELECT b.tenant_id, b.endpoint_id, e.url, b.place, b.aggregate_id, b.seq, b.type, b.attempts, b.last_status,
       b.last_error, b.first_failed_at::timestamptz AS first_failed_at, b.dead_at::timestamptz AS dead_at,
       (SELECT count(w.seq) FROM webhook_backlog w
         WHERE w.endpoint_id = b.endpoint_id AND w.aggregate_id = b.aggregate_id
           AND w.seq > b.seq)::integer AS behind
  FROM webhook_backlog b
  JOIN webhook_endpoints e ON e.id = b.endpoint_id
 WHERE b.dead_at IS NOT NULL
 ORDER BY b.dead_at DESC LIMIT @page_size;

-- RedriveDead makes the dead events of an endpoint due, as if they had never failed. It comes after
-- LockEndpoint in its transaction.
-- name: RedriveDead :execrows
UPDATE webhook_backlog b
   SET dead_at = NULL, due_at = @now::timestamptz, attempts = 0, first_failed_at = NULL, last_status = 0,
       last_error = ''
 WHERE b.endpoint_id = @endpoint_id AND b.tenant_id = @tenant_id AND b.dead_at IS NOT NULL;

-- RecallBacklog makes what is due later due now, since its endpoint is well again. What has failed for long
-- counts as failing since @not_before only, so that it is tried some more before it is dead.
-- name: RecallBacklog :exec
UPDATE webhook_backlog b
   SET due_at = @now::timestamptz,
       first_failed_at = CASE WHEN b.attempts > 0 THEN greatest(b.first_failed_at, @not_before::timestamptz) END
 WHERE b.endpoint_id = @endpoint_id AND b.tenant_id = @tenant_id AND b.due_at > @now::timestamptz;
