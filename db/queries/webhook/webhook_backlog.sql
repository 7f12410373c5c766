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

-- DueBacklog reads what is due of an endpoint, the longest first: the first of an aggregate only. With @early what
-- is due later counts too.
-- name: DueBacklog :many
SELECT b.aggregate_id, b.seq, b.place, b.attempts, b.first_failed_at
  FROM webhook_backlog b
 WHERE b.endpoint_id = @endpoint_id AND b.tenant_id = @tenant_id AND b.due_at <= CASE WHEN @early::boolean THEN 'infinity' ELSE now() END
 ORDER BY b.due_at LIMIT @page_size;

-- BlockedAggregates says which of some aggregates have anything in the backlog of an endpoint.
-- name: BlockedAggregates :many
SELECT DISTINCT b.aggregate_id FROM webhook_backlog b
 WHERE b.endpoint_id = @endpoint_id AND b.tenant_id = @tenant_id
   AND b.aggregate_id = ANY (@aggregates::uuid[]);

-- HeldBack says which of some events are in the backlog of an endpoint.
-- name: HeldBack :many
SELECT b.aggregate_id, b.seq
  FROM (SELECT unnest(@aggregates::uuid[]) AS aggregate_id, unnest(@seqs::integer[]) AS seq) u
  JOIN webhook_backlog b ON b.endpoint_id = @endpoint_id AND b.tenant_id = @tenant_id
   AND b.aggregate_id = u.aggregate_id AND b.seq = u.seq;

-- InsertBacklog keeps events that failed, with the time of their next try, and events that wait behind them,
-- without one. PromoteBacklog comes after it.
-- name: InsertBacklog :exec
INSERT INTO webhook_backlog (endpoint_id, tenant_id, aggregate_id, seq, type, place, attempts, due_at,
                             first_failed_at, last_status, last_error)
SELECT @endpoint_id, @tenant_id, u.aggregate_id, u.seq, u.type, u.place, u.failed::integer,
       CASE WHEN u.failed THEN u.due_at END, CASE WHEN u.failed THEN @now::timestamptz END, u.last_status,
       u.last_error
  FROM (SELECT unnest(@aggregates::uuid[]) AS aggregate_id, unnest(@seqs::integer[]) AS seq,
               unnest(@types::text[]) AS type, unnest(@places::bigint[]) AS place,
               unnest(@failed::boolean[]) AS failed, unnest(@due::timestamptz[]) AS due_at,
               unnest(@statuses::integer[]) AS last_status, unnest(@errors::text[]) AS last_error) AS u;

-- FailBacklog counts a try that failed: the event is due again, or dead from now on.
-- name: FailBacklog :exec
UPDATE webhook_backlog b
   SET attempts = b.attempts + 1, first_failed_at = coalesce(b.first_failed_at, @now::timestamptz),
       due_at = CASE WHEN NOT u.dead THEN u.due_at END, dead_at = CASE WHEN u.dead THEN @now::timestamptz END,
       last_status = u.last_status, last_error = u.last_error
  FROM (SELECT unnest(@aggregates::uuid[]) AS aggregate_id, unnest(@seqs::integer[]) AS seq,
               unnest(@dead::boolean[]) AS dead, unnest(@due::timestamptz[]) AS due_at,
               unnest(@statuses::integer[]) AS last_status, unnest(@errors::text[]) AS last_error) AS u
 WHERE b.endpoint_id = @endpoint_id AND b.tenant_id = @tenant_id
   AND b.aggregate_id = u.aggregate_id AND b.seq = u.seq;

-- DeleteBacklog deletes what was delivered. PromoteBacklog comes after it.
-- name: DeleteBacklog :exec
DELETE FROM webhook_backlog b
 USING (SELECT unnest(@aggregates::uuid[]) AS aggregate_id, unnest(@seqs::integer[]) AS seq) AS u
 WHERE b.endpoint_id = @endpoint_id AND b.tenant_id = @tenant_id
   AND b.aggregate_id = u.aggregate_id AND b.seq = u.seq;

-- PromoteBacklog makes the first event of each aggregate due that is neither due nor dead.
-- name: PromoteBacklog :exec
UPDATE webhook_backlog b SET due_at = @now::timestamptz
  FROM (SELECT unnest(@aggregates::uuid[]) AS aggregate_id) AS u
 CROSS JOIN LATERAL (SELECT f.seq FROM webhook_backlog f
                      WHERE f.endpoint_id = @endpoint_id AND f.aggregate_id = u.aggregate_id
                      ORDER BY f.seq LIMIT 1) AS first
 WHERE b.endpoint_id = @endpoint_id AND b.tenant_id = @tenant_id AND b.aggregate_id = u.aggregate_id
   AND b.seq = first.seq AND b.due_at IS NULL AND b.dead_at IS NULL;
