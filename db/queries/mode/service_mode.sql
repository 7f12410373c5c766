-- SystemReadMode reads what is in force, with how long it has been and whether an override has run out, by
-- Postgres's clock.
-- name: SystemReadMode :one
SELECT sqlc.embed(m), clock_timestamp()::timestamptz AS now FROM service_mode m WHERE m.only_one;

-- SystemLockMode is for somebody who waits for his turn to change it.
-- name: SystemLockMode :one
SELECT sqlc.embed(m), clock_timestamp()::timestamptz AS now FROM service_mode m WHERE m.only_one FOR UPDATE;

-- SystemTryMode is for a process that would judge, and returns nothing while somebody else does.
-- name: SystemTryMode :many
SELECT sqlc.embed(m), clock_timestamp()::timestamptz AS now FROM service_mode m
 WHERE m.only_one FOR UPDATE SKIP LOCKED;

-- SystemSaveMode writes what was decided under the lock.
-- name: SystemSaveMode :exec
UPDATE service_mode
   SET version = @version, mode = @mode, before = @before, since = @since, level = @level,
       level_since = @level_since, control = @control, actor = @actor, reason = @reason,
       expires_at = @expires_at, above = @above, below = @below, judged_at = @judged_at,
       judged_by = @judged_by, policy = @policy
 WHERE only_one;

-- SystemAnnounceMode tells all processes at the end of the transaction that the mode has changed.
-- name: SystemAnnounceMode :exec
SELECT pg_notify(current_schema() || '.' || @channel::text, '');
