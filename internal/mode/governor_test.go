package mode_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/mode"
	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/problem"
)

// cluster is some processes on one database, whose time a test lets pass.
type cluster struct {
	pool      *pgxpool.Pool
	policy    *mode.Policy
	mu        sync.Mutex
	now       time.Time
	seen      mode.Values
	blind     bool
	processes []*process
}

// process is one of them.
type process struct {
	*mode.Governor

	current  *mode.Current
	measures mode.Report
	told     []mode.State
}

func newCluster(t *testing.T, processes int, pairs ...string) *cluster {
	t.Helper()
	c := &cluster{pool: pgtest.New(t), policy: policyWith(t, pairs...), seen: aged(0)}
	c.now = time.Unix(1_000_000, 0)
	for i := range processes {
		c.add(fmt.Sprintf("process-%d", i), c.policy)
	}
	return c
}

func (c *cluster) clock() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// ages are those of the signals that stand in the database.
func (c *cluster) ages() mode.Values {
	v := make(mode.Values)
	v[mode.TransferAge], v[mode.OrderAge] = c.seen[mode.TransferAge], c.seen[mode.OrderAge]
	return v
}

func (c *cluster) add(name string, policy *mode.Policy) {
	p := &process{current: mode.NewCurrent(policy, c.clock)}
	p.Governor = &mode.Governor{
		Instance: name, Pool: c.pool, Current: p.current, Log: slog.New(slog.DiscardHandler), Now: c.clock,
		Measure: func() mode.Report { return p.measures },
		Ages:    func() (mode.Values, bool) { return c.ages(), !c.blind },
		Told:    func(_, to mode.State) { p.told = append(p.told, to) },
	}
	c.processes = append(c.processes, p)
}

// pass lets time pass, for Postgres by making all that it has written that much older.
func (c *cluster) pass(t *testing.T, d time.Duration) {
	t.Helper()
	c.mu.Lock()
	c.now = c.now.Add(d)
	c.mu.Unlock()
	for _, sql := range []string{
		`UPDATE service_mode SET since = since - $1::interval, level_since = level_since - $1::interval,
		        judged_at = judged_at - $1::interval, expires_at = expires_at - $1::interval`,
		`UPDATE mode_reports SET reported_at = reported_at - $1::interval`,
		`UPDATE mode_samples SET at = at - $1::interval`,
	} {
		_, err := c.pool.Exec(t.Context(), sql, pgtx.Interval(d))
		require.NoError(t, err)
	}
}

// round lets every process do a round.
func (c *cluster) round(t *testing.T) {
	t.Helper()
	for _, p := range c.processes {
		p.Do(t.Context())
	}
}

// samples lets so many samples be taken.
func (c *cluster) samples(t *testing.T, n int) {
	t.Helper()
	for range n {
		c.pass(t, c.policy.SampleEvery)
		c.round(t)
	}
	c.round(t) // whoever came first follows too
}

func (c *cluster) requireMode(t *testing.T, want mode.Mode) {
	t.Helper()
	for _, p := range c.processes {
		require.Equal(t, want, p.current.State().Mode, p.Instance)
	}
}

func (c *cluster) set(t *testing.T, o mode.Override) error {
	t.Helper()
	return pgtx.Run(t.Context(), c.pool, "set", func(ctx context.Context, tx pgx.Tx) error {
		_, err := mode.Set(ctx, tx, c.policy, o)
		return err
	})
}

func (c *cluster) history(t *testing.T) []mode.Changed {
	t.Helper()
	all, err := mode.History(t.Context(), c.pool, 0, mode.HistoryMaxRows)
	require.NoError(t, err)
	for i, h := range all {
		require.Equal(t, all[0].Version-int64(i), h.Version, "versions have no gaps")
	}
	s, err := mode.Read(t.Context(), c.pool)
	require.NoError(t, err)
	require.Equal(t, s.Version, all[0].Version)
	require.Equal(t, []any{s.Mode, s.Level, s.Control}, []any{all[0].Mode, all[0].Level, all[0].Control})
	return all
}

func pin(m mode.Mode) mode.Override {
	return mode.Override{
		Control: mode.Pinned, Mode: m, Actor: "operator:ann", Reason: "a drill", For: time.Hour,
	}
}

func TestTheProcessesTogetherTakeOneSampleATime(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 4)
	for range 5 {
		c.pass(t, c.policy.SampleEvery)
		var group sync.WaitGroup
		for _, p := range c.processes {
			group.Go(func() { p.Do(t.Context()) })
		}
		group.Wait()
	}
	samples, err := mode.Samples(t.Context(), c.pool, time.Hour)
	require.NoError(t, err)
	require.Len(t, samples, 5)
	followers, err := mode.Followers(t.Context(), c.pool)
	require.NoError(t, err)
	require.Len(t, followers, 4)
}

func TestASlowDependencyLeadsThroughTheModesAndBack(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.round(t)
	c.requireMode(t, mode.Normal)
	c.seen = aged(30)
	c.samples(t, 3)
	c.requireMode(t, mode.Constrained)
	c.samples(t, 12)
	c.requireMode(t, mode.Protection)
	c.seen = aged(1)
	c.samples(t, 13)
	c.requireMode(t, mode.Constrained)
	c.samples(t, 13)
	c.requireMode(t, mode.Normal)
	history := c.history(t)
	require.Len(t, history, 5)
	for i, want := range []mode.Mode{mode.Normal, mode.Constrained, mode.Protection, mode.Constrained} {
		require.Equal(t, want, history[i].Mode)
		require.Equal(t, "controller", history[i].Cause)
		require.Contains(t, history[i].Reason, "transfer_age_seconds")
		require.NotEmpty(t, history[i].Signals, "the signals that caused it are kept")
	}
	require.InDelta(t, 30, history[3].Signals[mode.TransferAge], 0)
}

func TestWhatTheProcessesReportSwitchesTheMode(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	for i, wanted := range []int{9, 0} {
		c.processes[i].measures = mode.Report{
			Dependencies: map[string]mode.Demand{"risk_api": {Wanted: wanted, Places: 4}},
		}
	}
	c.samples(t, 4)
	c.requireMode(t, mode.Constrained)
	require.Contains(t, c.history(t)[0].Reason, "saturation 1.12 >= 0.95")
	c.processes = c.processes[1:] // the other dies, and its last report gets old
	c.samples(t, 3+12+1)
	c.requireMode(t, mode.Normal)
}

func TestNobodyJudgesWithoutHavingSeen(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	c.seen = aged(30)
	c.samples(t, 3)
	c.blind = true
	c.samples(t, 50)
	c.requireMode(t, mode.Constrained)
	samples, err := mode.Samples(t.Context(), c.pool, time.Hour)
	require.NoError(t, err)
	require.Len(t, samples, 3)
	require.Less(t, samples[0].At, samples[2].At)
}

func TestAnOverrideHoldsUntilItsEnd(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	require.NoError(t, c.set(t, pin(mode.Frozen)))
	c.round(t)
	c.requireMode(t, mode.Frozen)
	s := c.processes[0].current.State()
	require.True(t, s.Overridden())
	require.Equal(t, []string{"operator:ann", "a drill"}, []string{s.Actor, s.Reason})
	c.seen = aged(30)
	c.samples(t, 20)
	c.requireMode(t, mode.Frozen)
	require.Equal(t, mode.Protection, c.processes[0].current.State().Level, "the controller judges on")
	require.Equal(t, "operator:ann", c.processes[0].current.State().Actor)
	c.pass(t, time.Hour)
	c.round(t)
	c.round(t)
	c.requireMode(t, mode.Protection)
	last := c.history(t)[0]
	require.Equal(t, "expiry", last.Cause)
	require.Equal(t, "the override of operator:ann has ended", last.Reason)
	require.False(t, c.processes[0].current.State().Overridden())
}

func TestAnOverrideCanBeLiftedAndReplaced(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	require.NoError(t, c.set(t, pin(mode.Protection)))
	require.NoError(t, c.set(t, pin(mode.Constrained)))
	c.round(t)
	c.requireMode(t, mode.Constrained)
	lift := mode.Override{Control: mode.Auto, Actor: "operator:bob", Reason: "it is over"}
	require.NoError(t, c.set(t, lift))
	c.round(t)
	c.requireMode(t, mode.Normal)
	require.False(t, c.processes[0].current.State().Overridden())
	history := c.history(t)
	require.Equal(t, "operator:bob", history[0].Actor)
	require.Equal(t, mode.Constrained, history[0].Before)
	require.Equal(t, mode.Protection, history[1].Before)
}

func TestWhoOnlyAdvisesSwitchesNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	c.seen = aged(30)
	c.samples(t, 3)
	c.requireMode(t, mode.Constrained)
	advise := pin("")
	advise.Control = mode.Advise
	require.NoError(t, c.set(t, advise))
	c.round(t)
	c.requireMode(t, mode.Normal)
	c.samples(t, 12)
	c.requireMode(t, mode.Normal)
	require.Equal(t, mode.Protection, c.processes[0].current.State().Level, "this is the advice")
	c.pass(t, time.Hour)
	c.round(t)
	c.requireMode(t, mode.Protection)
}

func TestAPolicyMaySayThatTheControllerOnlyAdvises(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, "control: auto", "control: advise")
	c.seen = aged(30)
	c.samples(t, 3)
	c.requireMode(t, mode.Normal)
	require.Equal(t, mode.Constrained, c.processes[0].current.State().Level)
	require.Equal(t, mode.Advise, c.processes[0].current.State().Control)
	require.NoError(t, c.set(t, pin(mode.Constrained)))
	require.NoError(t, c.set(t, mode.Override{Control: mode.Auto, Actor: "operator:ann", Reason: "done"}))
	c.round(t)
	c.requireMode(t, mode.Normal)
	c.processes = nil
	c.add("with another policy", policyWith(t))
	c.samples(t, 1)
	c.requireMode(t, mode.Constrained)
	require.Equal(t, "policy", c.history(t)[0].Cause)
}

func TestAnOverrideIsCheckedBeforeAnythingChanges(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	for name, change := range map[string]func(*mode.Override){
		"another control": func(o *mode.Override) { o.Control = "manual" },
		"no mode":         func(o *mode.Override) { o.Mode = "" },
		"another mode":    func(o *mode.Override) { o.Mode = "panic" },
		"no reason":       func(o *mode.Override) { o.Reason = " " },
		"no actor":        func(o *mode.Override) { o.Actor = "" },
		"a long reason":   func(o *mode.Override) { o.Reason = string(make([]byte, 501)) },
		"a NUL":           func(o *mode.Override) { o.Reason = "a\x00b" },
		"no end":          func(o *mode.Override) { o.For = 0 },
		"too long":        func(o *mode.Override) { o.For = mode.ForMax + 1 },
		"advice of a mode": func(o *mode.Override) {
			o.Control = mode.Advise
		},
		"auto with an end": func(o *mode.Override) { o.Control, o.Mode = mode.Auto, "" },
	} {
		o := pin(mode.Frozen)
		change(&o)
		require.True(t, problem.Is(c.set(t, o), problem.ValidationFailed), name)
	}
	require.Len(t, c.history(t), 1)
}

func TestEveryProcessIsToldOfAChangeOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	c.round(t)
	require.NoError(t, c.set(t, pin(mode.Constrained)))
	c.samples(t, 3)
	for _, p := range c.processes {
		require.Len(t, p.told, 2, "the first read is one")
		require.Equal(t, mode.Constrained, p.told[1].Mode)
	}
}

func TestAGovernorFollowsWithinItsPollAndLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, "sample_every: 5s", "sample_every: 100ms", "dwell: 60s", "dwell: 1s")
	p := c.processes[0]
	p.Now = func() time.Time { // each look at it takes a while
		c.mu.Lock()
		defer c.mu.Unlock()
		c.now = c.now.Add(c.policy.SampleEvery)
		return c.now
	}
	p.Start(t.Context())
	require.NoError(t, c.set(t, pin(mode.Protection)))
	require.Eventually(t, func() bool { return p.current.State().Mode == mode.Protection }, time.Minute,
		time.Millisecond)
	require.Eventually(t, func() bool {
		followers, err := mode.Followers(t.Context(), c.pool)
		return err == nil && len(followers) == 1 && followers[0].Follows == p.current.State().Version
	}, time.Minute, time.Millisecond)
	p.Stop(t.Context())
	followers, err := mode.Followers(t.Context(), c.pool)
	require.NoError(t, err)
	require.Empty(t, followers)
}

func TestWhoIsRungForFollowsAtOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	p := c.processes[0]
	rung, asked := make(chan struct{}), make(chan struct{}, 1)
	p.Rung = func() <-chan struct{} {
		select {
		case asked <- struct{}{}:
			return rung
		default:
			return nil // a bell that has rung does not go on: nobody would ever stop
		}
	}
	p.Start(t.Context())
	<-asked
	version := p.current.State().Version
	require.NoError(t, c.set(t, pin(mode.Protection)))
	close(rung)
	require.Eventually(t, func() bool { return p.current.State().Version > version }, time.Minute,
		time.Millisecond)
	p.Stop(t.Context())
}

func TestOldSamplesAndSilentProcessesAreForgotten(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	c.samples(t, 3)
	c.pass(t, mode.SamplesKept)
	c.round(t)
	c.processes = nil
	c.pass(t, 2*time.Minute)
	require.NoError(t, mode.CleanUp(t.Context(), c.pool))
	samples, err := mode.Samples(t.Context(), c.pool, 2*mode.SamplesKept)
	require.NoError(t, err)
	require.Len(t, samples, 1)
	var reports int
	require.NoError(t, c.pool.QueryRow(t.Context(), "SELECT count(*) FROM mode_reports").Scan(&reports))
	require.Zero(t, reports)
}

func TestTheHistoryCannotBeRewritten(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 0)
	for _, sql := range []string{
		"UPDATE service_mode_history SET reason = 'x'", "DELETE FROM service_mode_history",
		"TRUNCATE service_mode_history",
	} {
		_, err := c.pool.Exec(t.Context(), sql)
		require.Error(t, err, sql)
	}
}
