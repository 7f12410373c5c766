-- ListAttempts reads what was sent to an endpoint before an attempt, newest first.
-- name: ListAttempts :many
SELECT a.id, a.event_id, a.event_type, a.kind, a.attempt, a.at, a.outcome, a.status, a.took_us, a.error
  FROM webhook_attempts a
 WHERE a.endpoint_id = @endpoint_id AND a.tenant_id = @tenant_id AND a.id < @before
 ORDER BY a.id DESC LIMIT @page_size;

-- SystemForgetAttempts deletes the oldest attempts that are older than @keep. Ids are given out in the order of
-- time, nearly: it ends at the first one that is young.
-- name: SystemForgetAttempts :execrows
DELETE FROM webhook_attempts a
 WHERE a.id IN (SELECT o.id FROM webhook_attempts o ORDER BY o.id LIMIT @batch_size)
   AND a.at < clock_timestamp() - @keep::interval;

-- InsertAttempts logs what was sent.
-- name: InsertAttempts :exec
INSERT INTO webhook_attempts (tenant_id, endpoint_id, event_id, event_type, kind, attempt, at, outcome, status,
                              took_us, error)
SELECT @tenant_id, @endpoint_id, u.event_id, u.event_type, u.kind, u.attempt, u.at, u.outcome, u.status,
       u.took_us, u.error
  FROM (SELECT unnest(@event_ids::text[]) AS event_id, unnest(@event_types::text[]) AS event_type,
               unnest(@kinds::text[]) AS kind, unnest(@attempts::integer[]) AS attempt,
               unnest(@at::timestamptz[]) AS at, unnest(@outcomes::text[]) AS outcome,
               unnest(@statuses::integer[]) AS status, unnest(@took_us::bigint[]) AS took_us,
               unnest(@errors::text[]) AS error) AS u;
