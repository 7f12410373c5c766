-- SystemBeat says that an instance lives, by Postgres's clock.
-- name: SystemBeat :exec
INSERT INTO instances (id, hostname, version) VALUES (@id, @hostname, @version)
ON CONFLICT (id) DO UPDATE SET heartbeat_at = clock_timestamp();

-- SystemLeave takes an instance off the list at its own wish.
-- name: SystemLeave :exec
DELETE FROM instances WHERE id = @id;

-- SystemForgetDead removes and returns the instances whose heartbeat stopped.
-- name: SystemForgetDead :many
DELETE FROM instances WHERE heartbeat_at < clock_timestamp() - @silence::interval RETURNING id;

-- SystemSilent lists the instances whose heartbeat stopped and that are not forgotten yet.
-- name: SystemSilent :many
SELECT i.id FROM instances i WHERE i.heartbeat_at < clock_timestamp() - @silence::interval ORDER BY i.id;
