package drill

import (
	"context"
	"time"

	"example.com/holdfast/loadtest/scenario"
)

// recoveredAfter is how long after a phase began the last of what was accepted before it came to its end,
// or never. What was in review waited for a person.
func (s *stage) recoveredAfter(ctx context.Context, p *phase) time.Duration {
	return s.durations(ctx, `
		SELECT CASE WHEN e.at IS NULL THEN -1
		            ELSE greatest(extract(epoch FROM e.at - $1::timestamptz), 0) END::float8
		  FROM events a
		  LEFT JOIN events e ON e.tenant_id = a.tenant_id AND e.aggregate_id = a.aggregate_id
		                    AND e.type IN ('transfer.settled', 'transfer.blocked', 'transfer.canceled',
		                                   'transfer.expired', 'transfer.failed', 'order.confirmed',
		                                   'order.canceled')
		 WHERE a.type IN ('transfer.accepted', 'order.pending') AND a.at < $1
		   AND NOT EXISTS (SELECT FROM events r
		                    WHERE r.tenant_id = a.tenant_id AND r.aggregate_id = a.aggregate_id
		                      AND r.type = 'transfer.in_review')`, s.theirs(p.from)).max
}

// keptPart is the part of what was accepted that came to a good end within its promise. What a client
// canceled or a rule refused is one, and so is an order for which there was no stock.
func (s *stage) keptPart(ctx context.Context) float64 {
	const good = `
		SELECT count(*) FILTER (WHERE kept), count(*)
		  FROM (SELECT EXISTS (SELECT FROM events e
		                        WHERE e.tenant_id = t.tenant_id AND e.aggregate_id = t.id
		                          AND e.type IN ('transfer.settled', 'transfer.canceled',
		                                         'transfer.blocked')
		                          AND e.at <= t.promise_at) AS kept
		          FROM transfers t
		        UNION ALL
		        SELECT EXISTS (SELECT FROM events e
		                        WHERE e.tenant_id = o.tenant_id AND e.aggregate_id = o.id
		                          AND (e.type = 'order.confirmed'
		                               OR e.type = 'order.canceled' AND o.reason = 'stock')
		                          AND e.at <= o.promise_at)
		          FROM orders o) all_of_them`
	var kept, all float64
	s.do(func() error { return s.referee.Conn.QueryRow(ctx, good).Scan(&kept, &all) })
	return kept / max(all, 1)
}

// answeredPart is the part of the requests that got what they asked for.
func (s *stage) answeredPart() float64 {
	var taken, all uint64
	for _, p := range s.load.phases {
		for _, t := range p.named(scenario.AllStreams) {
			other := t.failed
			for _, n := range t.wrong {
				other += n
			}
			taken, all = taken+t.taken.Count(), all+t.asked()+other
		}
	}
	return float64(taken) / float64(max(all, 1))
}

// scores adds up what the measures came to. A scenario with a claim that fails has none: what is lost or
// doubled is not made up for by speed.
func (p *playing) scores(ctx context.Context, recovered time.Duration) {
	points := 0.0
	for m, worth := range p.file.Score {
		part := 0.0
		switch m {
		case scenario.Kept:
			part = p.keptPart(ctx)
		case scenario.Answered:
			part = p.answeredPart()
		case scenario.GoodputKept:
			calm, fault := p.phases[scenario.CalmPhase], p.phases[scenario.FaultPhase]
			part = p.goodput(ctx, fault.from, fault.to) / max(p.goodput(ctx, calm.from, calm.to), 1)
		case scenario.Recovered:
			part = 1 - recovered.Seconds()/p.file.Recovery.Within.Seconds()
		}
		part = min(max(part, 0), 1)
		p.figure("score: "+string(m), "%.3f of %d", part, worth)
		points += part * float64(worth)
	}
	p.outcome.Points = points
}
