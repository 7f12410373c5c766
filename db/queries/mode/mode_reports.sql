-- SystemPutReport writes what a process has measured last, and which version of the mode it follows.
-- name: SystemPutReport :exec
INSERT INTO mode_reports (instance, reported_at, follows, policy, report)
VALUES (@instance, clock_timestamp(), @follows, @policy, @report)
ON CONFLICT (instance) DO UPDATE
   SET reported_at = excluded.reported_at, follows = excluded.follows, policy = excluded.policy,
       report = excluded.report;

-- SystemListReports reads the processes, in order of their names, up to a bound.
-- name: SystemListReports :many
SELECT r.*, extract(epoch FROM clock_timestamp() - r.reported_at)::float8 AS age_seconds
  FROM mode_reports r WHERE r.instance > '' ORDER BY r.instance LIMIT @max_rows;

-- SystemDeleteReports forgets processes that have not been heard of for long.
-- name: SystemDeleteReports :execrows
DELETE FROM mode_reports r
 WHERE r.instance IN (SELECT old.instance FROM mode_reports old WHERE old.instance > ''
                         AND old.reported_at < clock_timestamp() - @keep::interval LIMIT @batch_size);

-- SystemDeleteReport forgets a process that ends.
-- name: SystemDeleteReport :exec
DELETE FROM mode_reports r WHERE r.instance = @instance;
