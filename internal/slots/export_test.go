package slots

import (
	"context"

	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/slots/internal/slotsdb"
)

// Constants that tests compare with.
const (
	Margin  = margin
	GoneMin = goneMin
)

// PrepareOnce sets the first limit, as Start does.
func (l *Lease) PrepareOnce(ctx context.Context) error { return l.prepare(ctx) }

// TickOnce does one tick.
func (l *Lease) TickOnce(ctx context.Context) error { return l.tick(ctx) }

// LeaveOnce gives everything back, as Stop does.
func (l *Lease) LeaveOnce(ctx context.Context) error { return l.leave(ctx) }

// LoseReply does the round that would come next, and its reply is lost.
func (l *Lease) LoseReply(ctx context.Context) error {
	l.round++
	return l.Late(ctx, l.round, max(l.InUse(), l.places))
}

// Late is a statement that arrives after whatever was asked since.
func (l *Lease) Late(ctx context.Context, round int64, inUse int) error {
	_, err := slotsdb.New().SystemRenew(ctx, l.Pool, slotsdb.SystemRenewParams{
		Dependency: l.Dependency, Holder: l.Holder, Round: round, Lifetime: pgtx.Interval(Lifetime),
		InUse: int32(inUse),
	})
	return err
}

// Round is that of the last statement.
func (l *Lease) Round() int64 { return l.round }
