-- SystemSetFirstLimit writes the first version, with a row for each slot. If there is one it does nothing:
-- what was set stays.
-- name: SystemSetFirstLimit :exec
WITH added AS (
    INSERT INTO dependency_limits (dependency, version, places, actor, reason)
    VALUES (@dependency, 1, @places, @actor, @reason)
    ON CONFLICT (dependency, version) DO NOTHING
    RETURNING dependency, places
)
INSERT INTO dependency_slots (dependency, slot)
SELECT added.dependency, n FROM added, generate_series(0, added.places - 1) AS n
ON CONFLICT (dependency, slot) DO NOTHING;

-- SystemLockLimit lets changes of one limit come one after the other; it finds nothing for a dependency
-- that has none.
-- name: SystemLockLimit :one
SELECT l.version FROM dependency_limits l WHERE l.dependency = @dependency AND l.version = 1 FOR UPDATE;

-- SystemSetLimit appends a version, and rows for the slots that are new with it. It comes after
-- SystemLockLimit in its transaction.
-- name: SystemSetLimit :one
WITH added AS (
    INSERT INTO dependency_limits (dependency, version, places, actor, reason)
    SELECT l.dependency, l.version + 1, @places, @actor, @reason FROM dependency_limits l
     WHERE l.dependency = @dependency ORDER BY l.version DESC LIMIT 1
    RETURNING dependency, version, places, set_at
), made AS (
    INSERT INTO dependency_slots (dependency, slot)
    SELECT added.dependency, n FROM added, generate_series(0, added.places - 1) AS n
    ON CONFLICT (dependency, slot) DO NOTHING
)
SELECT added.version, added.set_at FROM added;

-- SystemLimits reads the limit in force of every dependency, in order of their names. It probes the index
-- for each: a history may be long.
-- name: SystemLimits :many
WITH RECURSIVE named AS (
    SELECT (SELECT min(first.dependency) FROM dependency_limits first) AS dependency
    UNION ALL
    SELECT (SELECT min(next.dependency) FROM dependency_limits next WHERE next.dependency > named.dependency)
      FROM named WHERE named.dependency IS NOT NULL
)
SELECT l.dependency, l.version, l.places, l.actor, l.reason, l.set_at
  FROM named CROSS JOIN LATERAL (
       SELECT v.dependency, v.version, v.places, v.actor, v.reason, v.set_at FROM dependency_limits v
        WHERE v.dependency = named.dependency ORDER BY v.version DESC LIMIT 1) AS l
 ORDER BY l.dependency;

-- SystemLimitHistory reads the versions of one limit, newest first.
-- name: SystemLimitHistory :many
SELECT l.dependency, l.version, l.places, l.actor, l.reason, l.set_at
  FROM dependency_limits l
 WHERE l.dependency = @dependency ORDER BY l.version DESC LIMIT @max_rows;
