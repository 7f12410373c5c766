// Package slots makes the limit of a dependency hold over all processes together.
//
// A dependency has as many slots as its limit has places. Each process holds its fair share of them for a
// few seconds at a time, renews them in one statement a tick, and admits as many calls as it holds: a call
// costs no SQL. SetLimit changes the limit at run time. The package refuses to count calls, to queue them
// and to end them: the process's bulkhead does the first two, a call's own timeout the third.
//
// Invariants: the slots that a process holds by Postgres's clock are never fewer than its calls in flight
// and those that it may still admit; by its own clock its lease ends early enough that a call which was
// admitted last has ended too. A process that hears nothing from Postgres stops calling by itself. So over
// all processes no more calls are in flight than the limit has places; after it was lowered, than the
// calls that were in flight before.
package slots

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/slots/internal/slotsdb"
)

const (
	// Lifetime is how long Postgres keeps a slot for a holder that it does not hear from.
	Lifetime = 5 * time.Second
	// CallTimeoutMax is the longest timeout a dependency's calls may have: a lease still admits calls for
	// two ticks then.
	CallTimeoutMax = Lifetime - margin - 2*tickEvery

	// tickEvery is how soon a change of the limit or of the members is seen.
	tickEvery = 500 * time.Millisecond
	// tickMax bounds one tick; there is more than one in a lease.
	tickMax = 2 * time.Second
	// margin is for clocks that do not run equally fast, and for the time between a call's admission and
	// the start of its timeout.
	margin = 250 * time.Millisecond
	// goneMin is how long a process that went without a word stays on the list of members.
	goneMin = 10 * Lifetime
)

// Lease is one process's share of one dependency's places, between Start and Stop.
type Lease struct {
	Dependency string
	// Holder names the process; no other Lease of the dependency ever has the same.
	Holder string
	// Default is the limit of a dependency that has none yet. What is in the table wins.
	Default int
	// CallTimeout is the longest that a call takes. The lease stops admitting that much before its end.
	CallTimeout time.Duration
	Pool        *pgxpool.Pool
	Log         *slog.Logger
	Now         func() time.Time
	// InUse tells how many calls are in flight.
	InUse func() int
	// Apply makes places the limit of calls in flight: at once, and until a time from which on nobody is
	// admitted. What is in flight when it returns can only grow up to places.
	Apply func(places int, until time.Time)

	round  int64 // of the next statement
	places int   // as applied last
	until  time.Time
	cancel context.CancelFunc
	group  sync.WaitGroup
}

// Start takes the first lease, so that calls may begin, and keeps it. When others still hold all places it
// has none at first.
func (l *Lease) Start(ctx context.Context) error {
	if err := l.validate(); err != nil {
		return fmt.Errorf("lease places of %s: %w", l.Dependency, err)
	}
	if err := l.prepare(ctx); err != nil {
		return err
	}
	if err := l.tick(ctx); err != nil {
		return err
	}
	ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	l.group.Go(func() { l.keep(ctx) })
	return nil
}

// Stop admits nobody any more and gives everything back. It follows a Start that succeeded and the end of
// all who call; the slots of calls that are still in flight stay held until they expire.
func (l *Lease) Stop(ctx context.Context) error {
	l.cancel()
	l.group.Wait()
	return l.leave(ctx)
}

func (l *Lease) leave(ctx context.Context) error {
	l.Apply(0, time.Time{})
	ctx, cancel := context.WithTimeout(ctx, tickMax)
	defer cancel()
	err := slotsdb.New().SystemLeave(ctx, l.Pool, slotsdb.SystemLeaveParams{
		Dependency: l.Dependency, Holder: &l.Holder,
		InUse: int32(l.InUse()), //nolint:gosec // at most PlacesMax
	})
	if err != nil {
		return fmt.Errorf("give places of %s back: %w", l.Dependency, err)
	}
	return nil
}

func (l *Lease) validate() error {
	if l.CallTimeout <= 0 || l.CallTimeout > CallTimeoutMax {
		return fmt.Errorf("call timeout %v is not above zero and at most %v", l.CallTimeout, CallTimeoutMax)
	}
	if l.Default < 1 || l.Default > PlacesMax {
		return fmt.Errorf("limit %d is not 1 to %d", l.Default, PlacesMax)
	}
	return nil
}

// prepare sees to it that there is a limit, and tidies up after processes that are long gone.
func (l *Lease) prepare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, tickMax)
	defer cancel()
	q := slotsdb.New()
	err := q.SystemSetFirstLimit(ctx, l.Pool, slotsdb.SystemSetFirstLimitParams{
		Dependency: l.Dependency, Places: int32(l.Default), //nolint:gosec // at most PlacesMax
		Actor: defaultActor, Reason: defaultReason,
	})
	if err != nil {
		return fmt.Errorf("set first limit of %s: %w", l.Dependency, err)
	}
	err = q.SystemForgetMembers(ctx, l.Pool, slotsdb.SystemForgetMembersParams{
		Dependency: l.Dependency, Gone: pgtx.Interval(goneMin),
	})
	if err != nil {
		return fmt.Errorf("forget processes without places of %s: %w", l.Dependency, err)
	}
	return nil
}

// keep ticks until ctx ends. A tick that has begun is finished: a statement that nobody waits for could
// come after Stop and take slots for nobody.
func (l *Lease) keep(ctx context.Context) {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := l.tick(context.WithoutCancel(ctx)); err != nil {
			l.Log.WarnContext(ctx, "slot lease not renewed", slog.String("dependency", l.Dependency),
				slog.Duration("left", l.until.Sub(l.Now())), slog.Any("error", err))
		}
	}
}

// tick renews the lease. Slots are given back only by a second round, when the limit has been lowered here
// before: a call could be admitted to a slot that is being given back in the same moment. A tick that
// fails leaves the lease as it was, up to its end.
func (l *Lease) tick(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, tickMax)
	defer cancel()
	spare, err := l.renew(ctx)
	if err == nil && spare {
		_, err = l.renew(ctx)
	}
	return err
}

// renew does one round and applies what came of it. It tells whether slots are held that are of no use.
//
// Invariant: what may be in flight before the round's reply is applied is no more than what the round
// keeps; what may be in flight afterwards is no more than that either. A reply that is lost changes
// neither.
func (l *Lease) renew(ctx context.Context) (bool, error) {
	asked := l.Now() // before Postgres looks at its clock
	l.round++
	got, err := slotsdb.New().SystemRenew(ctx, l.Pool, slotsdb.SystemRenewParams{
		Dependency: l.Dependency, Holder: l.Holder, Round: l.round, Lifetime: pgtx.Interval(Lifetime),
		InUse: int32(max(l.InUse(), l.places)), //nolint:gosec // at most PlacesMax
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return false, fmt.Errorf("renew places of %s: a later round of %s was there before", l.Dependency,
			l.Holder)
	}
	if err != nil {
		return false, fmt.Errorf("renew places of %s for %s: %w", l.Dependency, l.Holder, err)
	}
	places := int(min(got.Fair, got.Usable))
	if places != l.places {
		l.Log.InfoContext(ctx, "places changed", slog.String("dependency", l.Dependency),
			slog.Int("places", places), slog.Int("before", l.places), slog.Int("limit", int(got.Places)),
			slog.Int("version", int(got.Version)), slog.Int("members", int(got.Members)))
	}
	l.places, l.until = places, asked.Add(Lifetime-margin-l.CallTimeout)
	l.Apply(l.places, l.until)
	return int(got.Held) > max(l.places, l.InUse()), nil
}
