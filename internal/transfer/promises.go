package transfer

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/internal/jobqueue"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/telemetry"
	"example.com/holdfast/internal/transfer/internal/transferdb"
)

// The bounds of a look at the open promises, whatever there is.
const (
	// OverdueMax is up to where promises are counted that have passed.
	OverdueMax = 1_000
	// openLookRows is how many transfers of each state are looked at for their tenants, and openTenantsMax
	// how many tenants are told.
	openLookRows   = 500
	openTenantsMax = 100
)

// Promises is how the open promises stand, by Postgres's clock.
type Promises struct {
	// Age is how long ago the most urgent promise was given that we can keep by working, or zero. A transfer
	// in review waits for a person, and its promise begins anew when it goes on.
	Age time.Duration
	// Overdue is how many open transfers are past their promise, those in review included; at most
	// OverdueMax.
	Overdue int
	// Open counts for the busiest tenants the transfers that wait for us, of the most urgent ones.
	Open map[uuid.UUID]int
}

// ReadPromises looks at the open promises of all tenants.
func ReadPromises(ctx context.Context, db transferdb.DBTX) (Promises, error) {
	q := transferdb.New()
	row, err := q.SystemPromises(ctx, db, transferdb.SystemPromisesParams{
		PromiseWindow: pgtx.Interval(promiseWindow), OverdueMax: OverdueMax,
	})
	if err != nil {
		return Promises{}, fmt.Errorf("read promises of transfers: %w", err)
	}
	open, err := q.SystemOpenByTenant(ctx, db, transferdb.SystemOpenByTenantParams{
		LookMax: openLookRows, PageSize: openTenantsMax,
	})
	if err != nil {
		return Promises{}, fmt.Errorf("count open transfers: %w", err)
	}
	p := Promises{
		Age:     time.Duration(row.AgeSeconds * float64(time.Second)),
		Overdue: int(row.Overdue), Open: make(map[uuid.UUID]int, len(open)),
	}
	for _, t := range open {
		p.Open[t.TenantID] = int(t.Transfers)
	}
	return p, nil
}

// ended is a transfer that has reached its end, and where it stood before.
type ended struct {
	Transfer

	from State
}

// byUs says that the end was given up by the program, for one of some reasons. Anybody may write the reason
// of another end, in whatever words.
func (e ended) byUs(reasons ...string) bool {
	return (e.State == Expired || e.State == Failed) && slices.Contains(reasons, e.Reason)
}

// kept says whether the promise of the transfer was kept: it ended in time, and not since we gave it up. A
// payout that the rail refuses got its answer.
func (e ended) kept() bool {
	return !e.byUs(ReasonDeadline, ReasonAttempts, ReasonPoison) && !e.UpdatedAt.After(e.PromiseAt)
}

// faultOf says for an end that a dependency or we ourselves are to blame for, whose step it was and why; it
// is empty for any other end, such as that of a transfer whose account was closed.
func (e ended) faultOf() (string, string) {
	if !e.byUs(ReasonDeadline, ReasonAttempts, ReasonPoison, ReasonPayoutRefused) {
		return "", ""
	}
	if e.from == InReview {
		return telemetry.Operator, e.Reason
	}
	_, queue := nextStep(Transfer{State: e.from})
	return queue, e.Reason
}

// countEnds tells the metrics what a committed batch ended, which promises were kept, and who is to blame for
// the others.
func (s *Service) countEnds(ends []ended) {
	for _, e := range ends {
		s.countMove(e.Transfer)
		s.cfg.Metrics.PromiseEnded(telemetry.KindTransfer, e.kept())
		if whose, reason := e.faultOf(); whose != "" {
			s.cfg.Metrics.TerminalFailure(whose, reason)
		}
	}
}

// countUntold tells the metrics of a notification that was given up.
func (s *Service) countUntold(n note) {
	if n.after.Notification != NotificationFailed || n.seen.Notification == NotificationFailed {
		return
	}
	reason := ReasonDeadline
	if n.after.Failures >= brokenMax {
		reason = ReasonPoison
	}
	s.cfg.Metrics.TerminalFailure(jobqueue.QueueNotification, reason)
}
