-- SystemAppendChange keeps a change of the mode. Versions have no gaps: they come from the locked row.
-- name: SystemAppendChange :exec
INSERT INTO service_mode_history (version, at, mode, before, level, control, cause, actor, reason, expires_at,
                                  signals, policy)
VALUES (@version, @at, @mode, @before, @level, @control, @cause, @actor, @reason, @expires_at, @signals, @policy);

-- SystemListChanges reads the latest changes, or those before a version.
-- name: SystemListChanges :many
SELECT h.* FROM service_mode_history h
 WHERE h.version < @before_version ORDER BY h.version DESC LIMIT @page_size;
