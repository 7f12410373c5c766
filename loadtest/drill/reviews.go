package drill

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	// preparersMax is how many requests prepare at once.
	preparersMax = 8
	// prepareMax bounds the preparation of a scenario.
	prepareMax = 2 * time.Minute
	// preparePause is what a refused request waits.
	preparePause = 100 * time.Millisecond
)

// prepareReviews makes transfers and payouts and waits until the risk service has put them into review: a
// stream cancels the first, and another approves the second, when the risk service has long answered.
func (s *stage) prepareReviews(ctx context.Context, t *traffic, toCancel, toApprove int) {
	s.run.say("  preparing %d transfers and %d payouts in review", toCancel, toApprove)
	s.each(toCancel+toApprove, func(n int) error {
		body := newTransfer{To: t.account(n + 1), Amount: amount{Value: amountReview}}
		if n >= toCancel {
			body.To = t.tenant.World
		}
		return insistsOn(ctx, func() (answer, error) { return t.transfer(ctx, "review", n, body) })
	})
	s.until(ctx, "all reviews", prepareMax, func() (bool, error) {
		t.toCancel.ids, t.toApprove.ids = s.inReview(ctx, false), s.inReview(ctx, true)
		return len(t.toCancel.ids) == toCancel && len(t.toApprove.ids) == toApprove, s.err
	})
}

// insistsOn asks again for as long as the answer is for a moment.
func insistsOn(ctx context.Context, ask func() (answer, error)) error {
	for {
		a, err := ask()
		if err != nil || !passing(a) {
			return err
		}
		if err := rest(ctx, preparePause); err != nil {
			return err
		}
	}
}

// inReview reads the transfers in review that are payouts, or that are none.
func (s *stage) inReview(ctx context.Context, payout bool) []uuid.UUID {
	rows, err := s.referee.Conn.Query(ctx,
		"SELECT t.id FROM transfers t WHERE t.state = 'in_review' AND t.payout = $1 ORDER BY t.id", payout)
	if err != nil {
		s.err = err
		return nil
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	s.err = err
	return ids
}

// clearReviews cancels what was prepared and not needed.
func (s *stage) clearReviews(ctx context.Context) {
	for _, t := range s.callers {
		if s.err != nil || len(t.toCancel.ids)+len(t.toApprove.ids) == 0 {
			continue
		}
		left := append(s.inReview(ctx, false), s.inReview(ctx, true)...)
		s.each(len(left), func(n int) error {
			return insistsOn(ctx, func() (answer, error) { return t.cancel(ctx, left[n]) })
		})
	}
}

// each does something n times, some at a time, and fails with the first error.
func (s *stage) each(n int, what func(n int) error) {
	s.do(func() error {
		var group sync.WaitGroup
		errs := make([]error, preparersMax)
		for worker := range errs {
			group.Go(func() {
				for i := worker; i < n && errs[worker] == nil; i += preparersMax {
					errs[worker] = what(i)
				}
			})
		}
		group.Wait()
		for _, err := range errs {
			if err != nil {
				return err
			}
		}
		return nil
	})
}
