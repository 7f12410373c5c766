-- SystemInsertSample keeps what was seen at a sample, and what was decided on it.
-- name: SystemInsertSample :exec
INSERT INTO mode_samples (at, level, mode, signals) VALUES (@at, @level, @mode, @signals)
ON CONFLICT (at) DO NOTHING;

-- SystemListSamples reads samples after a time, in their order.
-- name: SystemListSamples :many
SELECT s.* FROM mode_samples s WHERE s.at > @after ORDER BY s.at LIMIT @page_size;

-- SystemGetSample reads the sample of a time, if it is still there.
-- name: SystemGetSample :many
SELECT s.* FROM mode_samples s WHERE s.at = @at;

-- SystemSampleTime is so long ago, by Postgres's clock.
-- name: SystemSampleTime :one
SELECT (clock_timestamp() - @back::interval)::timestamptz AS at;

-- SystemDeleteSamples removes one batch of old samples.
-- name: SystemDeleteSamples :execrows
DELETE FROM mode_samples s
 WHERE s.at IN (SELECT old.at FROM mode_samples old WHERE old.at < clock_timestamp() - @keep::interval
                 ORDER BY old.at LIMIT @batch_size);
