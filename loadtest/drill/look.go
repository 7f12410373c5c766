package drill

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/holdfast/internal/mode"
	"example.com/holdfast/loadtest/rig"
)

// between reads how long it took from one event of an aggregate to another, by Postgres's clock, for those
// whose first one is in the phase. What never came to the second one took for ever.
func (s *stage) between(ctx context.Context, p *phase, first, second string) spread {
	return s.durations(ctx, `
		SELECT coalesce(extract(epoch FROM b.at - a.at), -1)::float8
		  FROM events a
		  LEFT JOIN events b ON b.tenant_id = a.tenant_id AND b.aggregate_id = a.aggregate_id AND b.type = $2
		 WHERE a.type = $1 AND a.at >= $3 AND a.at < $4`,
		first, second, s.theirs(p.from), s.theirs(p.to))
}

// betweenOf is between for the aggregates of some tenants.
func (s *stage) betweenOf(ctx context.Context, p *phase, first, second string, tenants []uuid.UUID) spread {
	return s.durations(ctx, `
		SELECT coalesce(extract(epoch FROM b.at - a.at), -1)::float8
		  FROM events a
		  LEFT JOIN events b ON b.tenant_id = a.tenant_id AND b.aggregate_id = a.aggregate_id AND b.type = $2
		 WHERE a.type = $1 AND a.at >= $3 AND a.at < $4 AND a.tenant_id = ANY ($5)`,
		first, second, s.theirs(p.from), s.theirs(p.to), tenants)
}

// theirs is a time of ours by Postgres's clock.
func (s *stage) theirs(at time.Time) time.Time { return at.Add(s.referee.Skew) }

// durations reads a column of seconds; a negative number is never.
func (s *stage) durations(ctx context.Context, sql string, args ...any) spread {
	var all []time.Duration
	s.do(func() error {
		rows, err := s.referee.Conn.Query(ctx, sql, args...)
		if err != nil {
			return fmt.Errorf("read durations: %w", err)
		}
		seconds, err := pgx.CollectRows(rows, pgx.RowTo[float64])
		if err != nil {
			return fmt.Errorf("read durations: %w", err)
		}
		for _, f := range seconds {
			d := never
			if f >= 0 {
				d = time.Duration(f * float64(time.Second))
			}
			all = append(all, d)
		}
		return nil
	})
	return spreadOf(all)
}

// count reads a number.
func (s *stage) count(ctx context.Context, sql string, args ...any) uint64 {
	var n uint64
	s.do(func() error {
		if err := s.referee.Conn.QueryRow(ctx, sql, args...).Scan(&n); err != nil {
			return fmt.Errorf("count: %w", err)
		}
		return nil
	})
	return n
}

// texts reads a column of text.
func (s *stage) texts(ctx context.Context, sql string, args ...any) []string {
	var all []string
	s.do(func() error {
		rows, err := s.referee.Conn.Query(ctx, sql, args...)
		if err == nil {
			all, err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		return nil
	})
	return all
}

// settle ends the load, waits until nothing is open, and claims what holds after every scenario.
func (s *stage) settle(ctx context.Context) {
	s.do(func() error {
		s.run.say("  the load ends, what is open drains")
		s.load.end()
		return nil
	})
	s.clearReviews(ctx)
	s.do(func() error {
		took, all, err := s.referee.End(ctx, drainMax)
		if err != nil {
			return err
		}
		s.claim(drained(took, all))
		return nil
	})
	s.catchUp(ctx)
	s.claim(
		none("answers that no client should get", s.wrongAnswers()),
		none("accepted transfers and orders that did not end", s.unended(ctx)),
		none("transfers with an end that the fault does not explain",
			s.badEnds(ctx)),
	)
	s.effectsOnce()
	s.do(func() error {
		broken, err := s.referee.Breaks(ctx, rig.Invariants())
		if err == nil {
			c := none("breaks of invariants", broken)
			c.Measured += fmt.Sprintf(", %d checked", len(rig.Invariants()))
			s.claim(c)
		}
		return err
	})
	s.ends(ctx)
}

// wrongAnswers lists what streams got that was neither success nor a refusal for a moment.
func (s *stage) wrongAnswers() []string {
	var all []string
	if s.err != nil {
		return nil
	}
	for _, p := range s.load.phases {
		for name, t := range p.tallies {
			all = append(all, t.unexpected(name)...)
		}
	}
	return all
}

// unended lists what clients were told is accepted and what has not ended.
func (s *stage) unended(ctx context.Context) []string {
	var found []string
	accepted := 0
	for _, t := range s.callers {
		accepted += len(t.transfers) + len(t.orders)
		found = append(found, s.texts(ctx, `
			SELECT format('transfer %s: %s', a.id, coalesce(t.state, 'lost'))
			  FROM unnest($2::uuid[]) AS a (id)
			  LEFT JOIN transfers t ON t.tenant_id = $1 AND t.id = a.id
			 WHERE t.state IS NULL OR t.state IN ('accepted', 'in_review', 'approved', 'settling')
			UNION ALL
			SELECT format('order %s: %s', a.id, coalesce(o.state, 'lost'))
			  FROM unnest($3::uuid[]) AS a (id)
			  LEFT JOIN orders o ON o.tenant_id = $1 AND o.id = a.id
			 WHERE o.state IS NULL OR o.state IN ('pending', 'reserved')`,
			t.tenant.ID, t.transfers, t.orders)...)
	}
	s.figure("transfers and orders accepted", "%d", accepted)
	return found
}

// badEnds lists transfers that ended in a way that no scenario causes.
func (s *stage) badEnds(ctx context.Context) []string {
	return s.texts(ctx, `
		SELECT format('transfer %s: %s, %s', t.id, t.state, coalesce(t.reason, 'no reason'))
		  FROM transfers t
		 WHERE t.state = 'blocked' OR t.state IN ('expired', 'failed')
		   AND coalesce(t.reason, '') NOT IN ('deadline_exhausted', 'attempts_exhausted')`)
}

// ends notes how transfers and orders ended.
func (s *stage) ends(ctx context.Context) {
	s.figure("ends", "%v", s.texts(ctx, `
		SELECT format('%s %s %s: %s', e.what, e.state, e.reason, count(*))
		  FROM (SELECT 'transfer' AS what, t.state, coalesce(t.reason, '') AS reason FROM transfers t
		        UNION ALL
		        SELECT 'order', o.state, coalesce(o.reason, '') FROM orders o) e
		 GROUP BY e.what, e.state, e.reason
		 ORDER BY e.what, e.state, e.reason`))
}

// effectsOnce claims that no dependency did anything twice, and that nobody was paid twice.
func (s *stage) effectsOnce() {
	if s.err != nil {
		return
	}
	risk, notify, rail := s.risk.Journal(), s.notify.Journal(), s.rail.Journal()
	s.claim(
		atMost("effects beyond the first under a key at the risk service", risk.Doubled, 0),
		atMost("effects beyond the first under a key at the notification service", notify.Doubled, 0),
		atMost("transfers that were paid twice by the rail", rail.TransfersPaidTwice, 0),
	)
}

// effectsAll claims that every key had its effect, for scenarios in which no dependency fails.
func (s *stage) effectsAll() {
	if s.err != nil {
		return
	}
	risk, notify := s.risk.Journal(), s.notify.Journal()
	s.claim(
		equal("effects at the risk service, one for each key", risk.Effects, risk.Keys),
		equal("effects at the notification service, one for each key", notify.Effects, notify.Keys),
	)
}

// catchUpMax is how long what a mode has deferred may take to catch up: as the policy says, and some.
const catchUpMax = 90 * time.Second

// catchUp ends what mode the load has led to, and waits for what that has deferred.
func (s *stage) catchUp(ctx context.Context) {
	s.do(func() error {
		now, err := s.modeNow(ctx)
		if err != nil {
			return err
		}
		s.figure("the mode at the end of the load", "%s", now.Mode)
		if now.Mode != mode.Normal {
			err = s.pin(ctx, mode.Normal)
		}
		return err
	})
	s.do(func() error {
		took, all, err := s.referee.Drain(ctx, catchUpMax)
		if err == nil {
			s.claim(shown("what was left to tell was told", all, short(took)))
		}
		return err
	})
}
