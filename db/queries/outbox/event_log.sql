-- SystemOutboxWaits says whether anything waits in the outbox. It locks and writes nothing, so asking is cheap.
-- name: SystemOutboxWaits :one
SELECT ((SELECT o.id FROM outbox o ORDER BY o.id LIMIT 1) IS NOT NULL)::boolean AS waits;

-- SystemLockHead takes the right to give places, or returns nothing while somebody else has it.
-- name: SystemLockHead :many
SELECT last FROM event_log_head WHERE only_one FOR UPDATE SKIP LOCKED;

-- SystemLogOutbox moves the oldest rows of the outbox into the log, behind @after, which is the head that the
-- transaction has locked. It is a statement of its own, so that it sees everything that was committed before
-- the lock was had; places are given in the order of ids, which is that of each aggregate's seq.
-- name: SystemLogOutbox :one
WITH oldest AS (
    SELECT o.id FROM outbox o ORDER BY o.id LIMIT @batch_size
), taken AS (
    DELETE FROM outbox o USING oldest WHERE o.id = oldest.id
    RETURNING o.id, o.tenant_id, o.aggregates, o.seqs
), placed AS (
    INSERT INTO event_log (last, tenant_id, aggregates, seqs, at)
    SELECT sum(cardinality(t.seqs)) OVER (ORDER BY t.id) + @after::bigint, t.tenant_id, t.aggregates, t.seqs,
           now()
      FROM taken t
    RETURNING last
), moved_head AS (
    UPDATE event_log_head h SET last = p.last
      FROM (SELECT max(placed.last) AS last FROM placed HAVING count(*) > 0) p
     WHERE h.only_one
    RETURNING h.last
)
SELECT (SELECT count(*) FROM placed)::integer AS moved,
       coalesce((SELECT m.last FROM moved_head m), @after)::bigint AS last;

-- SystemAnnounceLog tells all who listen that the log has grown, at the end of the transaction.
-- name: SystemAnnounceLog :exec
SELECT pg_notify(current_schema() || '.' || @channel::text, '') FROM event_log_head
 WHERE only_one AND last > @after;

-- SystemReadHead says up to where the log goes, and up to where it was deleted for its age.
-- name: SystemReadHead :one
SELECT last, forgotten FROM event_log_head WHERE only_one;

-- ReadLog reads a tenant's events behind a place. Rows of the log are taken as long as those before them hold
-- fewer events than were asked for. OFFSET 0 makes the planner look up each event by its whole key: a generic
-- plan that is made while there are few events would read all of the tenant's for each place.
-- name: ReadLog :many
SELECT p.place::bigint AS place, e.*
  FROM (SELECT r.last - cardinality(r.seqs) + u.nth AS place, u.aggregate_id, r.seqs[u.nth] AS seq
          FROM (SELECT l.last, l.aggregates, l.seqs,
                       sum(l.fresh) OVER (ORDER BY l.last) - l.fresh AS before
                  FROM (SELECT g.last, g.aggregates, g.seqs,
                               least(cardinality(g.seqs), g.last - @after) AS fresh
                          FROM event_log g
                         WHERE g.tenant_id = @tenant_id AND g.last > @after
                         ORDER BY g.last LIMIT @page_size) l) r
         CROSS JOIN LATERAL unnest(r.aggregates) WITH ORDINALITY AS u (aggregate_id, nth)
         WHERE r.before < @page_size AND r.last - cardinality(r.seqs) + u.nth > @after
         ORDER BY place LIMIT @page_size) p
 CROSS JOIN LATERAL (SELECT f.* FROM events f
                      WHERE f.tenant_id = @tenant_id AND f.aggregate_id = p.aggregate_id AND f.seq = p.seq
                     OFFSET 0) e
 ORDER BY p.place;

-- SystemReadLog is ReadLog for the events of all tenants.
-- name: SystemReadLog :many
SELECT p.place::bigint AS place, e.*
  FROM (SELECT r.last - cardinality(r.seqs) + u.nth AS place, r.tenant_id, u.aggregate_id, r.seqs[u.nth] AS seq
          FROM (SELECT l.last, l.tenant_id, l.aggregates, l.seqs,
                       sum(l.fresh) OVER (ORDER BY l.last) - l.fresh AS before
                  FROM (SELECT g.last, g.tenant_id, g.aggregates, g.seqs,
                               least(cardinality(g.seqs), g.last - @after) AS fresh
                          FROM event_log g
                         WHERE g.last > @after
                         ORDER BY g.last LIMIT @page_size) l) r
         CROSS JOIN LATERAL unnest(r.aggregates) WITH ORDINALITY AS u (aggregate_id, nth)
         WHERE r.before < @page_size AND r.last - cardinality(r.seqs) + u.nth > @after
         ORDER BY place LIMIT @page_size) p
 CROSS JOIN LATERAL (SELECT f.* FROM events f
                      WHERE f.tenant_id = p.tenant_id AND f.aggregate_id = p.aggregate_id AND f.seq = p.seq
                     OFFSET 0) e
 ORDER BY p.place;

-- SystemForgetLog deletes what has been in the log for long, the oldest first, and says up to where.
-- name: SystemForgetLog :one
WITH old AS (
    SELECT l.last FROM event_log l
     WHERE l.at < clock_timestamp() - @keep::interval
       AND l.last <= (SELECT h.last FROM event_log_head h WHERE h.only_one)
     ORDER BY l.last LIMIT @batch_size
), gone AS (
    DELETE FROM event_log l USING old WHERE l.last = old.last RETURNING l.last
), told AS (
    UPDATE event_log_head h SET forgotten = g.last
      FROM (SELECT max(gone.last) AS last FROM gone HAVING count(*) > 0) g
     WHERE h.only_one
)
SELECT count(*)::integer FROM gone;

-- SystemLag says since when the oldest event waits in the outbox, and up to where the log goes.
-- name: SystemLag :one
SELECT coalesce((SELECT greatest(0, extract(epoch FROM clock_timestamp() - o.created_at))
                   FROM outbox o ORDER BY o.id LIMIT 1), 0)::float8 AS outbox_seconds,
       h.last
  FROM event_log_head h WHERE h.only_one;
