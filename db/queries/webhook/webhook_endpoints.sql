-- LockTenant lets changes of the number of a tenant's endpoints come one after the other. It does not wait for
-- those who only name the tenant in a row of theirs.
-- name: LockTenant :many
SELECT t.id AS tenant_id FROM tenants t WHERE t.id = @tenant_id FOR NO KEY UPDATE;

-- CountEndpoints comes after LockTenant in its transaction.
-- name: CountEndpoints :one
SELECT count(*)::integer FROM webhook_endpoints e WHERE e.tenant_id = @tenant_id;

-- InsertEndpoint begins at the head of the log: what happened before is not sent.
-- name: InsertEndpoint :one
INSERT INTO webhook_endpoints (id, tenant_id, url, description, types, status, status_reason, secret_version,
                               place, backlog, failures, probes, last_error, next_at, holder, claims,
                               held_until, created_at, updated_at)
SELECT @id, @tenant_id, @url, @description, @types::text[], 'active', '', 1, h.last, 0, 0, 0, '', @now, '', 0,
       @now, @now, @now::timestamptz
  FROM event_log_head h WHERE h.only_one
RETURNING *;

-- GetEndpoint reads one endpoint of a tenant.
-- name: GetEndpoint :one
SELECT * FROM webhook_endpoints e WHERE e.tenant_id = @tenant_id AND e.id = @id;

-- LockEndpoint is GetEndpoint for who changes it.
-- name: LockEndpoint :one
SELECT * FROM webhook_endpoints e WHERE e.tenant_id = @tenant_id AND e.id = @id FOR UPDATE;

-- ListEndpoints reads a tenant's endpoints after an id, in the order of their ids, which is that of their making.
-- name: ListEndpoints :many
SELECT * FROM webhook_endpoints e WHERE e.tenant_id = @tenant_id AND e.id > @after ORDER BY e.id LIMIT @page_size;

-- ChangeEndpoint replaces what a tenant says about an endpoint. Whoever has it in hand sends by the new words
-- after its next commit.
-- name: ChangeEndpoint :one
UPDATE webhook_endpoints e
   SET url = @url, description = @description, types = @types::text[], updated_at = @now
 WHERE e.tenant_id = @tenant_id AND e.id = @id
RETURNING *;

-- SetEndpointStatus pauses or resumes. Whoever resumes is tried at once, and as if it had never failed.
-- name: SetEndpointStatus :one
UPDATE webhook_endpoints e
   SET status = @status, status_reason = '', updated_at = @now, next_at = @now,
       failures = 0, failing_since = NULL, probes = 0, last_error = ''
 WHERE e.tenant_id = @tenant_id AND e.id = @id
RETURNING *;

-- RotateEndpointSecret makes a new secret; the one before it signs as well until @previous_until.
-- name: RotateEndpointSecret :one
UPDATE webhook_endpoints e
   SET secret_version = e.secret_version + 1, previous_until = @previous_until::timestamptz, updated_at = @now
 WHERE e.tenant_id = @tenant_id AND e.id = @id
RETURNING *;

-- WakeEndpoint lets an endpoint be looked at now, though it is left alone for having failed.
-- name: WakeEndpoint :exec
UPDATE webhook_endpoints e SET next_at = least(e.next_at, @now::timestamptz)
 WHERE e.tenant_id = @tenant_id AND e.id = @id;

-- DeleteEndpoint deletes an endpoint, with its backlog and its tasks.
-- name: DeleteEndpoint :exec
DELETE FROM webhook_endpoints e WHERE e.tenant_id = @tenant_id AND e.id = @id;

-- SystemFailingEndpoints reads the endpoints of all tenants that have got nothing for a while, the longest first.
-- name: SystemFailingEndpoints :many
SELECT * FROM webhook_endpoints e WHERE e.failing_since IS NOT NULL ORDER BY e.failing_since LIMIT @page_size;

-- SystemCountEndpoints counts those that fail, those that are disabled, and the dead events of all, each up to
-- @most.
-- name: SystemCountEndpoints :one
SELECT (SELECT count(f.id) FROM (SELECT e.id FROM webhook_endpoints e WHERE e.failing_since IS NOT NULL
                                  ORDER BY e.failing_since LIMIT @most) f)::integer AS failing,
       (SELECT count(d.id) FROM (SELECT e.id FROM webhook_endpoints e WHERE e.status = 'disabled'
                                  ORDER BY e.updated_at LIMIT @most) d)::integer AS disabled,
       (SELECT count(x.seq) FROM (SELECT b.seq FROM webhook_backlog b WHERE b.dead_at IS NOT NULL
                                   ORDER BY b.dead_at LIMIT @most) x)::integer AS dead;
