package slots_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/db/migrations"
	"example.com/holdfast/internal/bulkhead"
	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/slots"
)

func TestPlacesAreSharedFairlyWithTheirRemainder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := w.join(t, "a", "b", "c", "d", "e")
	require.Equal(t, []int{8}, settle(t, all[:1]...))
	require.Equal(t, []int{4, 4}, settle(t, all[:2]...))
	require.Equal(t, []int{3, 3, 2}, settle(t, all[:3]...))
	w.setLimit(t, 9)
	require.Equal(t, []int{3, 2, 2, 2}, settle(t, all[:4]...), "nobody is left out while there are places")
	w.setLimit(t, 2)
	require.Equal(t, []int{1, 1, 0, 0, 0}, settle(t, all...), "who has no place leaves the work to others")
	w.setLimit(t, 8)
	require.Equal(t, []int{2, 2, 2, 1, 1}, settle(t, all...))
}

func TestThePlacesOfTheDeadGoToTheLivingAfterTheirLeaseAndNotBefore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := w.join(t, "a", "b", "c")
	settle(t, all...)
	w.pass(t, slots.Lifetime-time.Second)
	require.Equal(t, []int{3, 3}, settle(t, all[:2]...))
	w.pass(t, time.Second)
	require.Equal(t, []int{4, 4}, settle(t, all[:2]...))
	require.Zero(t, all[2].usable())
}

func TestWhoeverLeavesGivesEverythingBackAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := w.join(t, "a", "b")
	settle(t, all...)
	require.NoError(t, all[1].LeaveOnce(t.Context()))
	require.Zero(t, all[1].call(t, 1))
	require.Equal(t, []int{8}, settle(t, all[0]))
	require.Equal(t, 1, w.count(t, "SELECT count(*) FROM dependency_members"))
}

func TestTheSlotsOfCallsThatOutliveStopStayHeld(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := w.join(t, "a", "b")
	settle(t, all...)
	require.Equal(t, 3, all[1].call(t, 3))
	require.NoError(t, all[1].LeaveOnce(t.Context()))
	w.pass(t, slots.Lifetime-500*time.Millisecond)
	require.Equal(t, []int{5}, settle(t, all[0]))
	w.pass(t, 500*time.Millisecond)
	require.Equal(t, []int{8}, settle(t, all[0]))
}

func TestBusySlotsStayHeldWhileTheSharesShrinkAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := w.join(t, "a", "b")
	a, b := all[0], all[1]
	a.tick(t)
	require.Equal(t, 6, a.call(t, 6))
	b.tick(t)
	require.Zero(t, b.usable(), "all places are held")
	a.tick(t)
	require.Equal(t, 4, a.usable())
	require.Equal(t, 6, a.held(t), "what nobody uses is given back in the same tick")
	b.tick(t)
	require.Equal(t, 2, b.usable())

	w.pass(t, 3*time.Second)
	a.tick(t)
	require.Equal(t, 6, a.held(t), "busy slots are renewed")
	a.finish(2)
	require.Zero(t, a.call(t, 1), "four are in flight")
	a.finish(1)
	require.Equal(t, 1, a.call(t, 1))
	require.Equal(t, []int{4, 4}, settle(t, all...))
	require.Equal(t, 4, a.held(t))
}

// TestACallThatIsAdmittedDuringARoundHasItsSlot fills the bulkhead between the look at what is in flight
// and the reply.
func TestACallThatIsAdmittedDuringARoundHasItsSlot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := w.join(t, "a", "b")
	a, b := all[0], all[1]
	a.tick(t)
	b.tick(t)
	look := a.InUse
	a.InUse = func() int {
		seen := look()
		a.call(t, 8)
		return seen
	}
	a.tick(t)
	require.Len(t, a.calls, 8)
	require.Equal(t, 8, a.held(t))
	b.tick(t)
	require.Zero(t, b.usable())
}

func TestLoweringTakesPlacesAwayAndRaisingAddsSome(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := w.join(t, "a", "b")
	settle(t, all...)
	require.Equal(t, 4, all[0].call(t, 4))
	require.Equal(t, 4, all[1].call(t, 4))

	w.setLimit(t, 4)
	require.Equal(t, []int{2, 0}, settle(t, all...), "the slots below the new limit are busy elsewhere")
	require.Zero(t, all[0].call(t, 1)+all[1].call(t, 1), "only what was in flight before goes on")
	all[0].finish(2)
	require.Equal(t, []int{2, 2}, settle(t, all...))
	all[1].finish(4)
	require.Equal(t, []int{2, 2}, settle(t, all...))
	require.Equal(t, 4, w.count(t, "SELECT count(*) FROM dependency_slots WHERE holder IS NOT NULL"))

	w.setLimit(t, 12)
	require.Equal(t, []int{6, 6}, settle(t, all...))
}

// TestASlotAboveTheLimitIsNotLentTwice raises the limit again while calls go on that were admitted under
// the higher one.
func TestASlotAboveTheLimitIsNotLentTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := w.join(t, "a", "b", "c")
	settle(t, all[:2]...)
	require.Equal(t, 4, all[1].call(t, 4))
	w.setLimit(t, 4)
	settle(t, all[:2]...)
	w.setLimit(t, 8)
	places := settle(t, all[0], all[2])
	require.LessOrEqual(t, places[0]+len(all[1].calls)+places[1], 8)
}

func TestATickThatFailsLeavesTheLeaseToItsEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.newMember(t, "a", 0)
	before := a.now()
	a.tick(t)
	require.False(t, a.until.Before(before.Add(admits)))
	away, cancel := context.WithCancel(t.Context())
	cancel()
	w.pass(t, admits-time.Second)
	require.ErrorIs(t, a.TickOnce(away), context.Canceled)
	require.Equal(t, 1, a.call(t, 1), "the lease goes on")
	w.pass(t, time.Second)
	require.Zero(t, a.call(t, 1), "and ends by itself")
	a.tick(t)
	require.Equal(t, 7, a.call(t, 8), "until Postgres is back")
}

func TestTheLastCallOfALeaseEndsBeforePostgresLendsItsSlot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.newMember(t, "a", 0)
	a.tick(t)
	var lent time.Duration
	require.NoError(t, w.pool.QueryRow(t.Context(),
		"SELECT min(expires_at) - now() FROM dependency_slots WHERE holder = 'a'").Scan(&lent))
	admitted := a.until.Sub(a.now())
	require.GreaterOrEqual(t, lent-admitted-callTimeout, slots.Margin-50*time.Millisecond)
	require.Positive(t, admitted)
}

func TestALeaseCountsFromBeforeItAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.newMember(t, "a", 0)
	a.InUse = func() int { // as the request is made, it takes a second
		w.leapt.Store(int64(time.Second))
		return 0
	}
	before := a.now()
	a.tick(t)
	require.WithinRange(t, a.until, before.Add(admits), before.Add(admits+time.Second/2))
}

func TestAClockThatIsHoursOffChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := []*member{w.newMember(t, "a", -2*time.Hour), w.newMember(t, "b", 2*time.Hour)}
	require.Equal(t, []int{4, 4}, settle(t, all...))
	require.Equal(t, 8, all[0].call(t, 8)+all[1].call(t, 8))
	w.pass(t, admits)
	for _, m := range all {
		m.finish(4)
		require.Zero(t, m.call(t, 1))
	}
	require.Equal(t, []int{4, 4}, settle(t, all...))
	w.pass(t, slots.Lifetime)
	require.Equal(t, []int{8}, settle(t, all[0]))
}

// TestAStatementThatComesLateChangesNothing has one arrive that was sent when less was in use.
func TestAStatementThatComesLateChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := w.join(t, "a", "b")
	a, b := all[0], all[1]
	a.tick(t)
	late := a.Round() // asked when nothing was in use
	require.Equal(t, 8, a.call(t, 8))
	a.tick(t)
	b.tick(t)
	require.Error(t, a.Late(t.Context(), late, 0))
	require.Equal(t, 8, a.held(t))

	other := w.newMember(t, "a", 0)
	require.ErrorContains(t, other.TickOnce(t.Context()), "a later round of a was there before")
	require.Zero(t, other.usable())
}

func TestAReplyThatIsLostTakesNothingFromACall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := w.join(t, "a", "b")
	a, b := all[0], all[1]
	a.tick(t)
	b.tick(t)
	require.NoError(t, a.LoseReply(t.Context()))
	require.Equal(t, 8, a.call(t, 8))
	require.Equal(t, 8, a.held(t))
}

// TestAllComeBackAtOnceAfterAnOutage has every lease expire: all may take from all, and nobody waits for
// anybody.
func TestAllComeBackAtOnceAfterAnOutage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var all []*member
	for i := range 8 {
		all = append(all, w.newMember(t, fmt.Sprint("m", i), 0))
	}
	w.setLimit(t, 64)
	settle(t, all...)
	for range 20 {
		w.pass(t, slots.Lifetime)
		var group sync.WaitGroup
		for _, m := range all {
			group.Go(func() {
				if err := m.TickOnce(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		total := 0
		for _, m := range all {
			total += m.usable()
		}
		require.LessOrEqual(t, total, 64)
	}
	require.Equal(t, []int{8, 8, 8, 8, 8, 8, 8, 8}, settle(t, all...))
}

// TestARoundWaitsForNobody keeps a slot locked, as another round does that looks whether it is free.
func TestARoundWaitsForNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.newMember(t, "a", 0)
	tx, err := w.pool.Begin(t.Context()) //nolint:forbidigo // a lock that is held for the whole test
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = tx.Exec(t.Context(), "SELECT FROM dependency_slots WHERE slot = 3 FOR UPDATE")
	require.NoError(t, err)
	a.tick(t)
	require.Equal(t, 7, a.usable(), "what is locked counts as taken")
	require.NoError(t, tx.Rollback(t.Context()))
	a.tick(t)
	require.Equal(t, 8, a.usable())
}

func TestLeasesSurviveACrashOfPostgres(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	require.NoError(t, migrations.Up(t.Context(), server.URL("postgres")))
	pool, err := pgxpool.New(t.Context(), server.URL("postgres"))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	w := &world{pool: pool, dependency: dependency}
	a := w.newMember(t, "a", 0)
	w.setLimit(t, 5)
	a.tick(t)

	pgtest.Crash(t, server)
	pool.Reset()
	b := w.newMember(t, "b", 0)
	b.tick(t)
	require.LessOrEqual(t, a.usable()+b.usable(), 5)
	w.pass(t, slots.Lifetime)
	b.tick(t)
	require.Equal(t, 5, b.usable(), "the limit that was set is in force")
}

func TestALeaseIsTakenByStartKeptByTicksAndGivenBackByStop(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.newMember(t, "a", 0), w.newMember(t, "b", 0)
	limitOf := func(m *member) int { return m.places.Stats().Limit }
	require.NoError(t, a.Start(t.Context()))
	require.Equal(t, 8, limitOf(a))
	require.NoError(t, b.Start(t.Context()))
	require.Zero(t, limitOf(b), "others still hold all")
	require.Eventually(t, func() bool { return limitOf(a) == 4 && limitOf(b) == 4 }, waitMax,
		10*time.Millisecond)
	w.setLimit(t, 2)
	require.Eventually(t, func() bool { return limitOf(a) == 1 && limitOf(b) == 1 }, waitMax,
		10*time.Millisecond)
	require.NoError(t, a.Stop(t.Context()))
	_, err := a.places.Acquire(t.Context(), 0, bulkhead.LaneFirst)
	require.ErrorIs(t, err, bulkhead.ErrFull)
	require.Eventually(t, func() bool { return limitOf(b) == 2 }, waitMax, 10*time.Millisecond)
	require.NoError(t, b.Stop(t.Context()))
	require.Zero(t, w.count(t, "SELECT count(*) FROM dependency_slots WHERE holder IS NOT NULL"))
}

func TestALeaseThatCannotBeHeldDoesNotStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.newMember(t, "a", 0)
	m.CallTimeout = slots.CallTimeoutMax + 1
	require.ErrorContains(t, m.Start(t.Context()), "lease places of risk_api: call timeout 3.750000001s")
	m.CallTimeout = slots.CallTimeoutMax
	m.Default = slots.PlacesMax + 1
	require.ErrorContains(t, m.Start(t.Context()), "limit 1001 is not 1 to 1000")
	m.Default = 1
	w.exec(t, "DROP TABLE dependency_slots")
	require.ErrorContains(t, m.Start(t.Context()), "set first limit of risk_api")
}

func TestProcessesThatAreLongGoneAreForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	settle(t, w.join(t, "a", "b")...)
	w.pass(t, slots.GoneMin-time.Second)
	w.newMember(t, "c", 0).tick(t)
	require.Equal(t, 3, w.count(t, "SELECT count(*) FROM dependency_members"))
	w.pass(t, slots.Lifetime+time.Second)
	w.newMember(t, "d", 0).tick(t)
	require.Equal(t, 2, w.count(t, "SELECT count(*) FROM dependency_members"))
}
