package outbox

import "example.com/holdfast/internal/invariant"

// Invariants lists what always holds about events on their way.
func Invariants() []invariant.Invariant {
	return []invariant.Invariant{
		{
			Name: "delivery_once", SQL: deliveryOnceSQL,
			Doc: "What is to be delivered is not in the consumer's inbox, and both tell of real events.",
		},
		{
			Name: "delivery_never_forgotten", SQL: deliveryForgottenSQL,
			Doc: "A delivery that has been due for more than ten seconds is named by a live job.",
		},
		{
			Name: "event_leaves_once", SQL: eventLeavesOnceSQL,
			Doc: "An event is in the outbox or in the log, in one place, until the log forgets it.",
		},
		{
			Name: "log_in_order", SQL: logInOrderSQL,
			Doc: "The events of an aggregate leave in the order of seq: log first, then outbox by id.",
		},
		{
			Name: "log_without_gaps", SQL: logWithoutGapsSQL,
			Doc: "The places of the log follow each other, up to its head.",
		},
	}
}

const deliveryOnceSQL = `
SELECT format('event %s of %s: delivered to %s and still to be delivered', d.seq, d.aggregate_id,
              d.consumer) AS what
  FROM deliveries d
  JOIN inbox i ON i.consumer = d.consumer AND i.tenant_id = d.tenant_id
   AND i.aggregate_id = d.aggregate_id AND i.seq = d.seq
UNION ALL
SELECT format('event %s of %s: known to %s, but does not exist', k.seq, k.aggregate_id, k.consumer)
  FROM (SELECT consumer, tenant_id, aggregate_id, seq FROM deliveries
        UNION ALL
        SELECT consumer, tenant_id, aggregate_id, seq FROM inbox) k
  LEFT JOIN events e ON e.tenant_id = k.tenant_id AND e.aggregate_id = k.aggregate_id AND e.seq = k.seq
 WHERE e.seq IS NULL`

const deliveryForgottenSQL = `
SELECT format('event %s of %s: due to %s since %s, and no job names it', d.seq, d.aggregate_id, d.consumer,
              d.wake_at) AS what
  FROM deliveries d
 WHERE d.wake_at < now() - interval '10 seconds'
   AND NOT EXISTS (
        SELECT FROM river_job j
         CROSS JOIN LATERAL jsonb_array_elements(j.args -> 'deliveries') AS named (it)
         WHERE j.state IN ('available', 'running', 'retryable', 'scheduled', 'pending')
           AND named.it ->> 'aggregate' = d.aggregate_id::text AND (named.it ->> 'seq')::integer = d.seq
           AND named.it ->> 'tenant' = d.tenant_id::text)`

// leaving is every event on its way out: where it is, and in which order.
const leaving = `
WITH leaving AS (
    SELECT l.tenant_id, u.aggregate_id, l.seqs[u.nth] AS seq, 'log' AS stands,
           l.last - cardinality(l.seqs) + u.nth AS nth
      FROM event_log l CROSS JOIN LATERAL unnest(l.aggregates) WITH ORDINALITY AS u (aggregate_id, nth)
    UNION ALL
    SELECT o.tenant_id, u.aggregate_id, o.seqs[u.nth], 'outbox', o.id * 64 + u.nth
      FROM outbox o CROSS JOIN LATERAL unnest(o.aggregates) WITH ORDINALITY AS u (aggregate_id, nth)
)`

const eventLeavesOnceSQL = leaving + `
SELECT format('event %s of %s: is neither in the outbox nor in the log', e.seq, e.aggregate_id) AS what
  FROM events e CROSS JOIN event_log_head h
  LEFT JOIN leaving v ON v.tenant_id = e.tenant_id AND v.aggregate_id = e.aggregate_id AND v.seq = e.seq
 WHERE v.seq IS NULL
   AND (h.forgotten = 0 OR e.at > (SELECT l.at FROM event_log l ORDER BY l.last LIMIT 1))
UNION ALL
SELECT format('event %s of %s: leaves %s times', v.seq, v.aggregate_id, count(*))
  FROM leaving v GROUP BY v.tenant_id, v.aggregate_id, v.seq HAVING count(*) > 1
UNION ALL
SELECT format('event %s of %s: is in the %s, but does not exist', v.seq, v.aggregate_id, v.stands)
  FROM leaving v
  LEFT JOIN events e ON e.tenant_id = v.tenant_id AND e.aggregate_id = v.aggregate_id AND e.seq = v.seq
 WHERE e.seq IS NULL`

const logInOrderSQL = leaving + `
SELECT format('event %s of %s: leaves after event %s', n.seq, n.aggregate_id, n.before) AS what
  FROM (SELECT v.aggregate_id, v.seq, lag(v.seq) OVER (
                    PARTITION BY v.tenant_id, v.aggregate_id ORDER BY v.stands, v.nth) AS before
          FROM leaving v) n
 WHERE n.seq <> n.before + 1`

const logWithoutGapsSQL = `
SELECT format('the log has nothing between %s and %s', n.before, n.first) AS what
  FROM (SELECT l.last - cardinality(l.seqs) + 1 AS first,
               lag(l.last, 1, (SELECT h.forgotten FROM event_log_head h)) OVER (ORDER BY l.last) AS before
          FROM event_log l) n
 WHERE n.first <> n.before + 1
UNION ALL
SELECT format('the head says %s, the log ends at %s', h.last, n.last)
  FROM event_log_head h
  LEFT JOIN (SELECT max(l.last) AS last FROM event_log l) n ON true
 WHERE coalesce(n.last, h.forgotten) <> h.last`
