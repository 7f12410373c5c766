package webhook

import "example.com/holdfast/internal/invariant"

// Invariants lists what always holds about endpoints and their backlogs.
func Invariants() []invariant.Invariant {
	return []invariant.Invariant{
		{
			Name: "webhook_backlog_behind_place", SQL: behindPlaceSQL,
			Doc: "What is in a backlog is an event that exists, up to its endpoint's place in the log.",
		},
		{
			Name: "webhook_backlog_in_order", SQL: inOrderSQL,
			Doc: "The first event of an aggregate in a backlog is due or dead, and no other one is.",
		},
		{
			Name: "webhook_backlog_counted", SQL: countedSQL,
			Doc: "An endpoint counts the events of its backlog.",
		},
	}
}

const behindPlaceSQL = `
SELECT format('event %s of %s: in the backlog of %s beyond its place, or it does not exist', b.seq,
              b.aggregate_id, b.endpoint_id) AS what
  FROM webhook_backlog b
  JOIN webhook_endpoints w ON w.id = b.endpoint_id
  LEFT JOIN events e ON e.tenant_id = w.tenant_id AND e.aggregate_id = b.aggregate_id AND e.seq = b.seq
 WHERE b.place > w.place OR b.tenant_id <> w.tenant_id OR e.seq IS NULL
UNION ALL
SELECT format('endpoint %s: its place %s is behind the end of the log', w.id, w.place)
  FROM webhook_endpoints w JOIN event_log_head h ON w.place > h.last`

const inOrderSQL = `
SELECT format('event %s of %s: the %s of its aggregate for %s, due at %s, dead since %s', b.seq,
              b.aggregate_id, b.nth, b.endpoint_id, b.due_at, b.dead_at) AS what
  FROM (SELECT *, row_number() OVER (PARTITION BY endpoint_id, aggregate_id ORDER BY seq) AS nth
          FROM webhook_backlog) b
 WHERE (b.nth = 1) = (b.due_at IS NULL AND b.dead_at IS NULL)`

const countedSQL = `
SELECT format('endpoint %s: counts %s events of its backlog, which are %s', w.id, w.backlog,
              count(b.seq)) AS what
  FROM webhook_endpoints w LEFT JOIN webhook_backlog b ON b.endpoint_id = w.id
 GROUP BY w.id HAVING w.backlog <> count(b.seq)`
