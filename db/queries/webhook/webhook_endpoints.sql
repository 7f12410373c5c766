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

-- SystemFailingEndpoints reads the endpoints of all tenants that have got nothing for a while or are disabled, the
-- longest first. A receiver that is gone may have been well until it said so.
-- name: SystemFailingEndpoints :many
SELECT e.* FROM webhook_endpoints e
 WHERE e.id IN ((SELECT f.id FROM webhook_endpoints f
                  WHERE f.failing_since IS NOT NULL ORDER BY f.failing_since LIMIT @page_size)
                UNION
                (SELECT d.id FROM webhook_endpoints d
                  WHERE d.status = 'disabled' ORDER BY d.updated_at LIMIT @page_size))
 ORDER BY coalesce(e.failing_since, e.updated_at), e.id LIMIT @page_size;

-- SystemCountEndpoints counts those that fail, those that are disabled, and the dead events of all, each up to
-- @most.
-- name: SystemCountEndpoints :one
SELECT (SELECT count(f.id) FROM (SELECT e.id FROM webhook_endpoints e WHERE e.failing_since IS NOT NULL
                                  ORDER BY e.failing_since LIMIT @most) f)::integer AS failing,
       (SELECT count(d.id) FROM (SELECT e.id FROM webhook_endpoints e WHERE e.status = 'disabled'
                                  ORDER BY e.updated_at LIMIT @most) d)::integer AS disabled,
       (SELECT count(x.seq) FROM (SELECT b.seq FROM webhook_backlog b WHERE b.dead_at IS NOT NULL
                                   ORDER BY b.dead_at LIMIT @most) x)::integer AS dead;

-- SystemClaimEndpoints takes endpoints that have work into a holder's hand: events behind their place, or what
-- is due of their backlog or of their tasks. Those that are taken least recently come first, so that none
-- waits for ever. Of those that fail the whole backlog counts, since any of it may be the probe.
--
-- Invariant: what another one holds, by this clock, is not taken; claims counts up, so that its writes find
-- nothing when it comes late.
-- name: SystemClaimEndpoints :many
WITH idle AS (
    SELECT e.id FROM webhook_endpoints e
     WHERE e.status = 'active' AND e.next_at <= now() AND e.held_until <= now()
       AND (e.probes > 0) = @failing::boolean
       AND (EXISTS (SELECT FROM event_log l WHERE l.tenant_id = e.tenant_id AND l.last > e.place)
            OR (SELECT min(b.due_at) FROM webhook_backlog b WHERE b.endpoint_id = e.id)
               <= CASE WHEN e.probes > 0 THEN 'infinity' ELSE now() END
            OR (SELECT min(t.due_at) FROM webhook_tasks t WHERE t.endpoint_id = e.id) <= now())
     ORDER BY e.held_until LIMIT @most FOR UPDATE OF e SKIP LOCKED
)
UPDATE webhook_endpoints e
   SET holder = @holder, claims = e.claims + 1, held_until = clock_timestamp() + @lease::interval
  FROM idle WHERE e.id = idle.id
RETURNING e.*;

-- ClaimEndpoints is SystemClaimEndpoints for the endpoints of some tenants that have new events and do not fail.
-- name: ClaimEndpoints :many
WITH idle AS (
    SELECT e.id FROM webhook_endpoints e
     WHERE e.tenant_id = ANY (@tenants::uuid[])
       AND e.status = 'active' AND e.next_at <= now() AND e.held_until <= now() AND e.probes = 0
       AND EXISTS (SELECT FROM event_log l WHERE l.tenant_id = e.tenant_id AND l.last > e.place)
     ORDER BY e.held_until LIMIT @most FOR UPDATE OF e SKIP LOCKED
)
UPDATE webhook_endpoints e
   SET holder = @holder, claims = e.claims + 1, held_until = clock_timestamp() + @lease::interval
  FROM idle WHERE e.id = idle.id
RETURNING e.*;

-- LockHeld reads an endpoint for the one who holds it, and keeps it until the end of the transaction. It finds
-- nothing if somebody else took it, or if it was deleted.
-- name: LockHeld :many
SELECT * FROM webhook_endpoints e
 WHERE e.tenant_id = @tenant_id AND e.id = @id AND e.claims = @claims FOR UPDATE;

-- AdvanceEndpoint writes what came of a round. It comes after LockHeld in its transaction.
-- name: AdvanceEndpoint :exec
UPDATE webhook_endpoints e
   SET place = @place, backlog = e.backlog + @more::integer, failures = @failures,
       failing_since = sqlc.narg('failing_since'), probes = @probes, last_error = @last_error, status = @status,
       status_reason = @status_reason, next_at = @next_at, held_until = @held_until, updated_at = @updated_at
 WHERE e.tenant_id = @tenant_id AND e.id = @id AND e.claims = @claims AND e.place <= @place;

-- LeaveEndpoint lets others take an endpoint, after a while, when a round could not be done.
-- name: LeaveEndpoint :exec
UPDATE webhook_endpoints e
   SET held_until = clock_timestamp(), next_at = greatest(e.next_at, clock_timestamp() + @pause::interval)
 WHERE e.tenant_id = @tenant_id AND e.id = @id AND e.claims = @claims;

-- SystemMovePlaces looks at the next endpoints behind an id. Those that have nothing behind their place, and
-- whose place is in the older half of the log, are moved to its head: so a place that the log has forgotten
-- had events behind it.
-- name: SystemMovePlaces :many
WITH page AS (
    SELECT e.id, e.tenant_id, e.place FROM webhook_endpoints e WHERE e.id > @after ORDER BY e.id LIMIT @page_size
), moved AS (
    UPDATE webhook_endpoints e SET place = h.last
      FROM page p, event_log_head h
     WHERE e.id = p.id AND e.place = p.place AND e.held_until <= now() AND h.only_one
       AND e.place < (h.forgotten + h.last) / 2
       AND NOT EXISTS (SELECT FROM event_log l WHERE l.tenant_id = p.tenant_id AND l.last > p.place)
    RETURNING e.id
)
SELECT p.id, (m.id IS NOT NULL)::boolean AS moved
  FROM page p LEFT JOIN moved m ON m.id = p.id ORDER BY p.id;

-- SystemReleaseEndpoints lets others take the endpoints of holders that are dead, without waiting for the end of
-- their leases.
-- name: SystemReleaseEndpoints :exec
UPDATE webhook_endpoints e SET held_until = clock_timestamp()
  FROM (SELECT h.id FROM webhook_endpoints h
         WHERE h.status = 'active' AND h.next_at <= now() AND h.holder = ANY (@holders::text[])
           AND h.held_until > clock_timestamp()) dead
 WHERE e.id = dead.id AND e.holder = ANY (@holders::text[]);
