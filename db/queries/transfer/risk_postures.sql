-- CurrentPosture reads the posture of a tenant in a currency that is in force.
-- name: CurrentPosture :one
SELECT p.* FROM risk_postures p
 WHERE p.tenant_id = @tenant_id AND p.currency = @currency
 ORDER BY p.version DESC
 LIMIT 1;

-- InsertPosture adds the next version of a posture. Two at once collide on its number.
-- name: InsertPosture :one
INSERT INTO risk_postures (tenant_id, currency, version, open_up_to, actor, reason, set_at)
SELECT @tenant_id, @currency, coalesce(max(p.version), 0) + 1, @open_up_to, @actor, @reason, clock_timestamp()
  FROM risk_postures p
 WHERE p.tenant_id = @tenant_id AND p.currency = @currency
RETURNING *;

-- ListPostures reads all versions of a tenant's postures, the latest first.
-- name: ListPostures :many
SELECT p.* FROM risk_postures p
 WHERE p.tenant_id = @tenant_id
 ORDER BY p.currency, p.version DESC
 LIMIT @page_size;
