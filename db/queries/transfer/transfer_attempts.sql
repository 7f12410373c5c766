-- InsertAttempts adds calls that gave no answer to the ledger. A worker that came too late adds its call as
-- well: it was made.
-- name: InsertAttempts :exec
INSERT INTO transfer_attempts (tenant_id, transfer_id, id, step, kind, detail, at)
SELECT u.tenant_id, u.transfer_id, u.id, u.step, u.kind, u.detail, @now::timestamptz
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@transfers::uuid[]) AS transfer_id,
               unnest(@ids::uuid[]) AS id, unnest(@steps::text[]) AS step, unnest(@kinds::text[]) AS kind,
               unnest(@details::text[]) AS detail) AS u;

-- ListAttempts reads the calls of a transfer that gave no answer, in their order.
-- name: ListAttempts :many
SELECT a.* FROM transfer_attempts a
 WHERE a.tenant_id = @tenant_id AND a.transfer_id = @transfer_id
 ORDER BY a.id
 LIMIT @page_size;

-- SystemDeleteOldAttempts removes a batch of what is too old to explain anything.
-- name: SystemDeleteOldAttempts :execrows
DELETE FROM transfer_attempts a
 USING (SELECT o.tenant_id, o.transfer_id, o.id FROM transfer_attempts o
         WHERE o.at < statement_timestamp() - @kept::interval
         ORDER BY o.at
         LIMIT @batch_size) old
 WHERE a.tenant_id = old.tenant_id AND a.transfer_id = old.transfer_id AND a.id = old.id;
