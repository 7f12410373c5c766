package drill

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// item is a row that a job in hand names, as it was.
type item struct {
	Tenant uuid.UUID
	ID     uuid.UUID
	// Seen is all of the row that a step changes.
	Seen string
}

// held is what a worker has in hand at a time of Postgres's clock.
type held struct {
	instance string
	at       time.Time
	items    []item
}

// runningItems are the rows that running jobs name, with who runs them. What is not due is in nobody's hand:
// a job covers it that comes later.
const runningItems = `
WITH named AS (
    SELECT j.attempted_by[cardinality(j.attempted_by)] AS instance, by_tenant.tenant_id::uuid AS tenant_id,
           id.id::uuid AS id
      FROM river_job j
     CROSS JOIN LATERAL jsonb_each(coalesce(j.args -> 'transfers', j.args -> 'orders'))
                     AS by_tenant (tenant_id, ids)
     CROSS JOIN LATERAL jsonb_array_elements_text(by_tenant.ids) AS id (id)
     WHERE j.state = 'running'
)`

// rowsSeen reads rows of both kinds in the form of an item.
const rowsSeen = `
    SELECT t.tenant_id, t.id, t.wake_at,
           format('%s %s %s %s', t.version, t.attempts, t.notification, t.wake_at) AS seen
      FROM transfers t
     UNION ALL
    SELECT o.tenant_id, o.id, o.wake_at,
           format('%s %s %s %s', o.version, o.attempts, o.payment_state, o.wake_at)
      FROM orders o`

// inHand reads what a worker has in hand.
func (s *stage) inHand(ctx context.Context, instance string) (held, error) {
	h := held{instance: instance}
	rows, err := s.referee.Conn.Query(ctx, runningItems+`
		SELECT clock_timestamp(), r.tenant_id, r.id, r.seen
		  FROM named n
		  JOIN LATERAL (SELECT * FROM (`+rowsSeen+`) u
		                 WHERE u.tenant_id = n.tenant_id AND u.id = n.id) r ON true
		 WHERE n.instance = $1 AND r.wake_at <= clock_timestamp()`, instance)
	if err != nil {
		return h, fmt.Errorf("read work in hand: %w", err)
	}
	h.items, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (item, error) {
		var i item
		return i, row.Scan(&h.at, &i.Tenant, &i.ID, &i.Seen)
	})
	if err != nil {
		return h, fmt.Errorf("read work in hand: %w", err)
	}
	return h, nil
}

// stillHeld reads which items nobody has taken up: their rows are as they were, and no other worker runs a
// job that names them.
func (s *stage) stillHeld(ctx context.Context, h held) ([]uuid.UUID, time.Time, error) {
	var tenants, ids []uuid.UUID
	var seen []string
	for _, one := range h.items {
		tenants, ids, seen = append(tenants, one.Tenant), append(ids, one.ID), append(seen, one.Seen)
	}
	var now time.Time
	left := []uuid.UUID{}
	err := s.referee.Conn.QueryRow(ctx, runningItems+`
		SELECT clock_timestamp(),
		       coalesce(array_agg(h.id) FILTER (WHERE r.id IS NOT NULL AND n.id IS NULL), '{}')
		  FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS h (tenant_id, id, seen)
		  LEFT JOIN LATERAL (SELECT u.id FROM (`+rowsSeen+`) u
		                      WHERE u.tenant_id = h.tenant_id AND u.id = h.id AND u.seen = h.seen) r ON true
		  LEFT JOIN LATERAL (SELECT m.id FROM named m
		                      WHERE m.id = h.id AND m.instance <> $4 LIMIT 1) n ON true`,
		tenants, ids, seen, h.instance).Scan(&now, &left)
	if err != nil {
		return nil, now, fmt.Errorf("read work of a dead worker: %w", err)
	}
	return left, now, nil
}
