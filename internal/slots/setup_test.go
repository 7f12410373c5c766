package slots_test

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/bulkhead"
	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/slots"
)

const (
	dependency  = "risk_api"
	callTimeout = time.Second
	// admits is how long after a tick a lease still admits calls.
	admits = slots.Lifetime - slots.Margin - callTimeout
	// waitMax bounds the wait for a condition.
	waitMax = 30 * time.Second
)

// world is a dependency in a database. Its time runs as that of the machine does, and leaps when the test
// says so, in Postgres and for every member.
type world struct {
	pool       *pgxpool.Pool
	dependency string
	leapt      atomic.Int64
	// still is held by those for whom time must not leap now.
	still sync.RWMutex
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{pool: pgtest.New(t), dependency: dependency}
}

func (w *world) now() time.Time {
	return time.Now().Add(time.Duration(w.leapt.Load())) //nolint:forbidigo // Postgres's time runs as well
}

// pass lets time leap: what Postgres wrote down becomes older by as much as the members' clocks move.
func (w *world) pass(t *testing.T, d time.Duration) {
	t.Helper()
	w.still.Lock()
	defer w.still.Unlock()
	w.leapt.Add(int64(d))
	for _, table := range []string{"dependency_slots", "dependency_members"} {
		w.exec(t, "UPDATE "+table+" SET expires_at = expires_at - $2::interval WHERE dependency = $1",
			w.dependency, pgtx.Interval(d))
	}
}

func (w *world) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	_, err := w.pool.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

func (w *world) count(t *testing.T, sql string, args ...any) int {
	t.Helper()
	var n int
	require.NoError(t, w.pool.QueryRow(t.Context(), sql, args...).Scan(&n))
	return n
}

func (w *world) setLimit(t *testing.T, places int) {
	t.Helper()
	_, err := slots.SetLimit(t.Context(), w.pool, slots.Change{
		Dependency: w.dependency, Places: places, Actor: "test", Reason: "to see",
	})
	require.NoError(t, err)
}

// member is one process: a lease and its bulkhead, by a clock of its own.
type member struct {
	*slots.Lease
	w      *world
	places *bulkhead.Bulkhead
	// off is how far the clock of the process is from that of Postgres.
	off time.Duration
	// granted is what the lease applied last.
	granted int
	until   time.Time
	// calls are the releases of those that are in flight, oldest first.
	calls []func()
}

// newMember makes a process that has not asked for anything yet; 8 is its default limit.
func (w *world) newMember(t *testing.T, holder string, off time.Duration) *member {
	t.Helper()
	m := &member{w: w, off: off}
	m.places = bulkhead.New(w.dependency, 0, m.now)
	m.Lease = &slots.Lease{
		Dependency: w.dependency, Holder: holder, Default: 8, CallTimeout: callTimeout, Pool: w.pool,
		Log: slog.New(slog.DiscardHandler), Now: m.now,
		InUse: func() int { return m.places.Stats().InFlight },
		Apply: func(places int, until time.Time) {
			m.granted, m.until = places, until
			m.places.SetLimit(places, until)
		},
	}
	require.NoError(t, m.PrepareOnce(t.Context()))
	return m
}

// join makes members whose names are in order.
func (w *world) join(t *testing.T, holders ...string) []*member {
	t.Helper()
	members := make([]*member, len(holders))
	for i, holder := range holders {
		members[i] = w.newMember(t, holder, 0)
	}
	return members
}

func (m *member) now() time.Time { return m.w.now().Add(m.off) }

func (m *member) tick(t *testing.T) {
	t.Helper()
	require.NoError(t, m.TickOnce(t.Context()))
}

// call begins up to n calls and tells how many were admitted.
func (m *member) call(t *testing.T, n int) int {
	t.Helper()
	for i := range n {
		place, err := m.places.Acquire(t.Context(), 0, bulkhead.LaneFirst)
		if err != nil {
			require.ErrorIs(t, err, bulkhead.ErrFull)
			return i
		}
		m.calls = append(m.calls, place.Release)
	}
	return n
}

// finish ends the n oldest calls.
func (m *member) finish(n int) {
	for _, release := range m.calls[:n] {
		release()
	}
	m.calls = m.calls[n:]
}

// held counts the slots that Postgres keeps for the member.
func (m *member) held(t *testing.T) int {
	t.Helper()
	return m.w.count(t, `
SELECT count(*) FROM dependency_slots WHERE dependency = $1 AND holder = $2 AND expires_at > now()`,
		m.Dependency, m.Holder)
}

// usable is how many calls the member may have in flight by its own clock, as far as the lease says.
func (m *member) usable() int {
	if !m.now().Before(m.until) {
		return 0
	}
	return m.granted
}

// settle ticks all as often as it takes for a change to arrive everywhere, and returns their places.
func settle(t *testing.T, members ...*member) []int {
	t.Helper()
	for range 2 {
		for _, m := range members {
			m.tick(t)
		}
	}
	places := make([]int, len(members))
	for i, m := range members {
		places[i] = m.usable()
	}
	return places
}
