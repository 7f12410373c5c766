-- SystemClaimSink makes a process the holder of a sink that nobody holds, or that it holds itself. A new sink
-- begins at the head of the log: what happened before it was switched on is not sent.
-- name: SystemClaimSink :many
INSERT INTO event_sinks AS s (name, last, holder, claims, held_until)
SELECT @name, h.last, @holder, 1, clock_timestamp() + @lease::interval FROM event_log_head h WHERE h.only_one
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, claims = s.claims + 1,
   held_until = excluded.held_until
 WHERE s.held_until <= clock_timestamp() OR s.holder = excluded.holder
RETURNING s.last, s.claims;

-- SystemAdvanceSink says how far a sink is, and keeps it held. Nothing comes back to a holder that was replaced.
-- name: SystemAdvanceSink :many
UPDATE event_sinks s SET last = @last, held_until = clock_timestamp() + @lease::interval
 WHERE s.name = @name AND s.claims = @claims AND s.last <= @last
RETURNING s.last;

-- SystemLeaveSink lets another process hold a sink.
-- name: SystemLeaveSink :exec
UPDATE event_sinks s SET held_until = clock_timestamp() WHERE s.name = @name AND s.claims = @claims;

-- SystemSinks says how many places each sink is behind, and since when the oldest of them is in the log.
-- name: SystemSinks :many
SELECT s.name, (h.last - s.last)::bigint AS places,
       coalesce((SELECT greatest(0, extract(epoch FROM clock_timestamp() - l.at))
                   FROM event_log l WHERE l.last > s.last ORDER BY l.last LIMIT 1), 0)::float8 AS seconds
  FROM event_sinks s
 CROSS JOIN LATERAL (SELECT e.last FROM event_log_head e WHERE e.only_one) h
 ORDER BY s.name;

-- SystemReleaseSinks lets others hold the sinks of holders that are dead, without waiting for the end of their
-- leases.
-- name: SystemReleaseSinks :exec
UPDATE event_sinks s SET held_until = clock_timestamp()
  FROM (SELECT e.name FROM event_sinks e
         WHERE e.holder = ANY (@holders::text[]) AND e.held_until > clock_timestamp()
         ORDER BY e.name) dead
 WHERE s.name = dead.name;
