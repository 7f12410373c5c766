package slots_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/bulkhead"
	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/slots"
)

const (
	histories  = 16
	steps      = 400
	membersMax = 6
	limitMax   = 9
)

// inForce is a limit and the time from which on it holds.
type inForce struct {
	since  time.Time
	places int
}

// call is one that ends by itself at its timeout.
type call struct {
	ends    time.Time
	release func()
}

// process is a member with calls, which may be cut off from Postgres, or dead.
type process struct {
	*member
	calls  []call
	cutOff bool
	dead   bool
}

// mayUse is how many calls are in flight, or may be without another tick.
func (p *process) mayUse() int {
	if p.dead {
		return len(p.calls)
	}
	return max(len(p.calls), p.usable())
}

// history is one random course of events.
type history struct {
	*world
	r         *rand.Rand
	processes []*process
	limits    []inForce
	born      int
	log       []string
}

func (h *history) say(format string, args ...any) {
	h.log = append(h.log, fmt.Sprintf(format, args...))
}

// any picks a process that lives, or nil.
func (h *history) any(cutOffToo bool) *process {
	var fit []*process
	for _, p := range h.processes {
		if !p.dead && (cutOffToo || !p.cutOff) {
			fit = append(fit, p)
		}
	}
	if len(fit) == 0 {
		return nil
	}
	return fit[h.r.IntN(len(fit))]
}

func (h *history) joins(t *testing.T) {
	t.Helper()
	if len(h.processes) == membersMax {
		return
	}
	h.born++
	off := time.Duration(h.r.IntN(5)-2) * time.Hour
	p := &process{member: h.newMember(t, fmt.Sprintf("%c%d", 'a'+h.r.IntN(3), h.born), off)}
	h.processes = append(h.processes, p)
	p.tick(t)
	h.say("%s joins: %d", p.Holder, p.usable())
}

func (h *history) leaves(t *testing.T, p *process) {
	t.Helper()
	require.NoError(t, p.LeaveOnce(t.Context()))
	p.dead = true
	h.say("%s leaves", p.Holder)
}

func (h *history) calls(t *testing.T, p *process) {
	t.Helper()
	for range h.r.IntN(limitMax) {
		place, err := p.places.Acquire(t.Context(), 0, bulkhead.LaneFirst)
		if err != nil {
			break
		}
		ends := h.now().Add(time.Duration(h.r.Int64N(int64(callTimeout))))
		p.calls = append(p.calls, call{ends, place.Release})
	}
	h.say("%s calls: %d", p.Holder, len(p.calls))
}

// passes ends the calls whose time has come.
func (h *history) passes(t *testing.T, d time.Duration) {
	t.Helper()
	h.pass(t, d)
	now := h.now()
	for _, p := range h.processes {
		p.calls = slices.DeleteFunc(p.calls, func(c call) bool {
			if c.ends.After(now) {
				return false
			}
			c.release()
			return true
		})
	}
	h.processes = slices.DeleteFunc(h.processes, func(p *process) bool { return p.dead && len(p.calls) == 0 })
	h.say("%v pass", d)
}

func (h *history) changesLimit(t *testing.T) {
	t.Helper()
	places := 1 + h.r.IntN(limitMax)
	h.limits = append(h.limits, inForce{h.now(), places})
	h.setLimit(t, places)
	h.say("limit %d", places)
}

// bound is the highest limit that was in force within the lifetime of a lease: until then calls may be in
// flight that were admitted under it.
func (h *history) bound() int {
	highest, since := 0, h.now().Add(-slots.Lifetime)
	for i, l := range h.limits {
		if i == len(h.limits)-1 || h.limits[i+1].since.After(since) {
			highest = max(highest, l.places)
		}
	}
	return highest
}

func (h *history) step(t *testing.T) {
	t.Helper()
	reached, some := h.any(false), h.any(true)
	switch dice := h.r.IntN(100); {
	case dice < 4 || some == nil:
		h.joins(t)
	case dice < 6:
		h.say("%s dies", some.Holder)
		some.dead = true
	case dice < 7:
		h.leaves(t, some)
	case dice < 10:
		some.cutOff = !some.cutOff
		h.say("%s is cut off: %v", some.Holder, some.cutOff)
	case dice < 14:
		h.changesLimit(t)
	case dice < 34:
		h.passes(t, time.Duration(h.r.Int64N(int64(callTimeout/3))))
	case dice < 36:
		h.passes(t, time.Duration(h.r.Int64N(int64(slots.Lifetime))))
	case dice < 62:
		h.calls(t, some)
	case reached == nil:
	case dice < 65:
		require.NoError(t, reached.LoseReply(t.Context()))
		h.say("%s asks, and the reply is lost", reached.Holder)
	case dice < 68:
		require.ErrorIs(t, reached.Late(t.Context(), max(1, reached.Round()-1), 0), pgx.ErrNoRows)
		h.say("an old statement of %s arrives", reached.Holder)
	default:
		reached.tick(t)
		h.say("%s ticks: %d", reached.Holder, reached.usable())
	}
}

// check holds the course of events to the package's invariants.
func (h *history) check(t *testing.T) {
	t.Helper()
	total := 0
	for _, p := range h.processes {
		total += p.mayUse()
		if held := p.held(t); held < p.mayUse() {
			require.Failf(t, "not enough slots", "%s may use %d and holds %d\n%v", p.Holder, p.mayUse(),
				held, h.log)
		}
	}
	require.LessOrEqual(t, total, h.bound(), "%v", h.log)
}

// comesToRest says that all places are lent, fairly, once nothing happens any more.
func (h *history) comesToRest(t *testing.T) {
	t.Helper()
	h.joins(t)
	h.passes(t, slots.Lifetime)
	var living []*member
	for _, p := range h.processes {
		if !p.dead {
			living = append(living, p.member)
		}
	}
	settle(t, living...)
	places, total := settle(t, living...), 0
	for _, n := range places {
		total += n
	}
	require.Equal(t, h.limits[len(h.limits)-1].places, total, "%v", h.log)
	require.LessOrEqual(t, slices.Max(places)-slices.Min(places), 1, "%v", h.log)
}

// TestNeverMoreThanTheLimitInAnyCourseOfEvents lets processes join, leave, die, lose touch and come back,
// and call whenever they may, while the limit changes and time passes.
func TestNeverMoreThanTheLimitInAnyCourseOfEvents(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	for seed := range uint64(histories) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			h := &history{
				world: &world{pool: pool, dependency: fmt.Sprint("dependency-", seed)},
				r:     rand.New(rand.NewPCG(seed, 0)),
			}
			h.limits = []inForce{{h.now(), 8}}
			h.joins(t)
			for range steps {
				h.step(t)
				h.check(t)
			}
			h.comesToRest(t)
		})
	}
}

// crowd are processes that do everything at the same time.
type crowd struct {
	*world
	inFlight, peak, done atomic.Int64
}

// live is the life of one process: it ticks and calls in random order, and now and then begins anew.
func (c *crowd) live(t *testing.T, r *rand.Rand, name string, rounds int) {
	t.Helper()
	var m *member
	for i := range rounds {
		if m == nil {
			m = c.newMember(t, fmt.Sprint(name, "-", i), time.Duration(r.IntN(5)-2)*time.Hour)
		}
		c.still.RLock() // time leaps between two steps
		switch dice := r.IntN(100); {
		case dice < 3: // dies
			m = nil
		case dice < 6:
			if err := m.LeaveOnce(t.Context()); err != nil {
				t.Error(err)
			}
			m = nil
		case dice < 50:
			if err := m.TickOnce(t.Context()); err != nil {
				t.Error(err)
			}
		default:
			c.callAll(t, m)
		}
		c.still.RUnlock()
	}
}

// callAll makes as many calls at once as the bulkhead admits.
func (c *crowd) callAll(t *testing.T, m *member) {
	t.Helper()
	var releases []func()
	for {
		place, err := m.places.Acquire(t.Context(), 0, bulkhead.LaneFirst)
		if err != nil {
			break
		}
		now := c.inFlight.Add(1)
		for peak := c.peak.Load(); now > peak && !c.peak.CompareAndSwap(peak, now); peak = c.peak.Load() {
		}
		releases = append(releases, place.Release)
		runtime.Gosched()
	}
	if len(releases) > 0 { // the calls take as long as a statement does
		if _, err := c.pool.Exec(t.Context(), "SELECT pg_sleep(0.001)"); err != nil {
			t.Error(err)
		}
	}
	for _, release := range releases {
		c.inFlight.Add(-1)
		c.done.Add(1)
		release()
	}
}

// TestNeverMoreThanTheLimitWhenAllHappensAtOnce has statements that meet in Postgres, with leases that
// expire between them.
func TestNeverMoreThanTheLimitWhenAllHappensAtOnce(t *testing.T) {
	t.Parallel()
	const limit, rounds = 8, 120
	c := &crowd{world: newWorld(t)}
	c.newMember(t, "first", 0)
	var group sync.WaitGroup
	for i := range uint64(12) {
		group.Go(func() { c.live(t, rand.New(rand.NewPCG(i, 1)), fmt.Sprint("p", i), rounds) })
	}
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		group.Wait()
	}()
	r := rand.New(rand.NewPCG(2, 2))
	for over := false; !over; {
		c.pass(t, time.Duration(r.Int64N(int64(slots.Lifetime))))
		if r.IntN(4) == 0 {
			c.setLimit(t, limit-r.IntN(5))
		}
		select {
		case <-finished:
			over = true
		case <-time.After(time.Duration(r.IntN(40)) * time.Millisecond):
		}
	}
	t.Logf("%d calls, at most %d at once", c.done.Load(), c.peak.Load())
	require.LessOrEqual(t, c.peak.Load(), int64(limit))
	require.Positive(t, c.done.Load())
}
