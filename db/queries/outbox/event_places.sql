-- SystemTenantsOfLog says whose events are in the log behind a place, and up to where it looked.
-- name: SystemTenantsOfLog :one
SELECT coalesce(array_agg(DISTINCT l.tenant_id), '{}')::uuid[] AS tenants,
       coalesce(max(l.last), @after::bigint)::bigint AS last
  FROM (SELECT g.tenant_id, g.last FROM event_log g WHERE g.last > @after::bigint
         ORDER BY g.last LIMIT @page_size) l;

-- SystemPlaceAt finds the last place that was given before a time, by halving: times follow places, and there
-- is no index on them.
-- name: SystemPlaceAt :one
WITH RECURSIVE search AS (
    SELECT h.forgotten AS low, h.last AS high FROM event_log_head h WHERE h.only_one
    UNION ALL
    SELECT CASE WHEN middle.at < @at::timestamptz THEN middle.last ELSE s.low END,
           CASE WHEN middle.at < @at::timestamptz THEN s.high ELSE (s.low + s.high) / 2 END
      FROM search s
     CROSS JOIN LATERAL (SELECT l.last, l.at FROM event_log l WHERE l.last > (s.low + s.high) / 2
                          ORDER BY l.last LIMIT 1) middle
     WHERE s.low < s.high
)
SELECT max(s.low)::bigint FROM search s;

-- FindPlace looks for the place of an event in the next rows of a tenant's log behind a place.
-- name: FindPlace :many
SELECT (l.last - cardinality(l.seqs) + u.nth)::bigint AS place
  FROM (SELECT g.last, g.aggregates, g.seqs FROM event_log g
         WHERE g.tenant_id = @tenant_id AND g.last > @after ORDER BY g.last LIMIT @max_rows) l
 CROSS JOIN LATERAL unnest(l.aggregates) WITH ORDINALITY AS u (aggregate_id, nth)
 WHERE u.aggregate_id = @aggregate_id::uuid AND l.seqs[u.nth] = @seq::integer;

-- CountLog counts a tenant's events behind a place up to another, in no more than so many rows of the log. The
-- row with the last place may end behind it, before @rows_before.
-- name: CountLog :one
SELECT coalesce(sum(greatest(0, least(l.last, @up_to::bigint) -
                                greatest(l.last - cardinality(l.seqs), @after::bigint))), 0)::bigint
  FROM (SELECT g.last, g.seqs FROM event_log g
         WHERE g.tenant_id = @tenant_id AND g.last > @after::bigint AND g.last < @rows_before::bigint
         ORDER BY g.last LIMIT @max_rows) l;

-- ReadEvents reads events of a tenant by their aggregates and seqs, in no order.
-- name: ReadEvents :many
SELECT e.aggregate_id, e.seq, e.type, e.from_state, e.to_state, e.reason, e.actor, e.cause, e.trace, e.data,
       e.at
  FROM (SELECT unnest(@aggregates::uuid[]) AS aggregate_id, unnest(@seqs::integer[]) AS seq) u
 CROSS JOIN LATERAL (SELECT f.* FROM events f
                      WHERE f.tenant_id = @tenant_id AND f.aggregate_id = u.aggregate_id AND f.seq = u.seq
                     OFFSET 0) e;
