-- InsertAttempts adds calls that gave no answer to the ledger. A worker that came too late adds its call as
-- well: it was made. One that is there was written by a commit whose reply was lost.
-- name: InsertAttempts :exec
INSERT INTO transfer_attempts (tenant_id, transfer_id, id, step, kind, detail, at)
SELECT u.tenant_id, u.transfer_id, u.id, u.step, u.kind, u.detail, @now::timestamptz
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@transfers::uuid[]) AS transfer_id,
               unnest(@ids::uuid[]) AS id, unnest(@steps::text[]) AS step, unnest(@kinds::text[]) AS kind,
               unnest(@details::text[]) AS detail) AS u
ON CONFLICT (tenant_id, transfer_id, id) DO NOTHING;

-- ListAttempts reads the calls of a transfer that gave no answer, in their order.
-- name: ListAttempts :many
SELECT a.* FROM transfer_attempts a
 WHERE a.tenant_id = @tenant_id AND a.transfer_id = @transfer_id
 ORDER BY a.id
 LIMIT @page_size;

-- LastAttempts reads of each of some transfers the last call that gave no answer, and how many there were, up
-- to a bound. A transfer without one is missing from the result.
-- name: LastAttempts :many
SELECT last.*, counted.times
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@transfers::uuid[]) AS transfer_id) AS u
 CROSS JOIN LATERAL (
       SELECT a.* FROM transfer_attempts a
        WHERE a.tenant_id = u.tenant_id AND a.transfer_id = u.transfer_id
        ORDER BY a.id DESC LIMIT 1) AS last
 CROSS JOIN LATERAL (
       SELECT count(*)::integer AS times
         FROM (SELECT 1 FROM transfer_attempts b
                WHERE b.tenant_id = u.tenant_id AND b.transfer_id = u.transfer_id
                LIMIT @count_max) AS counting) AS counted;

-- SystemDeleteOldAttempts removes a batch of what is too old to explain anything.
-- name: SystemDeleteOldAttempts :execrows
DELETE FROM transfer_attempts a
 USING (SELECT o.tenant_id, o.transfer_id, o.id FROM transfer_attempts o
         WHERE o.at < statement_timestamp() - @kept::interval
         ORDER BY o.at
         LIMIT @batch_size) old
 WHERE a.tenant_id = old.tenant_id AND a.transfer_id = old.transfer_id AND a.id = old.id;
