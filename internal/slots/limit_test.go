package slots_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/slots"
)

func TestTheFirstProcessWritesTheLimitAndNoLaterDefaultChangesIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.newMember(t, "a", 0)
	w.setLimit(t, 3)
	b := w.newMember(t, "b", 0)
	b.Default = 5
	require.NoError(t, b.PrepareOnce(t.Context()))
	require.Equal(t, []int{3}, settle(t, b))

	history, err := slots.History(t.Context(), w.pool, w.dependency, 10)
	require.NoError(t, err)
	for i := range history {
		require.WithinDuration(t, w.now(), history[i].SetAt, time.Minute)
		history[i].SetAt = time.Time{}
	}
	require.Equal(t, []slots.Limit{
		{Dependency: dependency, Version: 2, Places: 3, Actor: "test", Reason: "to see"},
		{
			Dependency: dependency, Version: 1, Places: 8, Actor: "default",
			Reason: "configured limit of the first process",
		},
	}, history)
}

func TestALimitStandsAndFallsWithTheTransactionThatSetsIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.newMember(t, "a", 0)
	change := slots.Change{Dependency: dependency, Places: 9, Actor: "test", Reason: "to see"}
	sorry := errors.New("sorry")
	set := func(end error) error {
		return pgtx.Run(t.Context(), w.pool, "test", func(ctx context.Context, tx pgx.Tx) error {
			limit, err := slots.AppendLimit(ctx, tx, change)
			require.NoError(t, err)
			require.Equal(t, 2, limit.Version)
			require.WithinDuration(t, w.now(), limit.SetAt, time.Minute)
			return end
		})
	}
	require.ErrorIs(t, set(sorry), sorry)
	require.Equal(t, 1, w.count(t, "SELECT max(version) FROM dependency_limits"))
	require.NoError(t, set(nil))
	require.Equal(t, 9, w.count(t, "SELECT places FROM dependency_limits WHERE version = 2"))
}

func TestManyFirstProcessesWriteOneLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var group sync.WaitGroup
	for i := range 6 {
		group.Go(func() {
			m := slots.Lease{Dependency: dependency, Default: i + 1, Pool: w.pool}
			if err := m.PrepareOnce(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	require.Equal(t, 1, w.count(t, "SELECT count(*) FROM dependency_limits"))
	require.Equal(t, w.count(t, "SELECT places FROM dependency_limits"),
		w.count(t, "SELECT count(*) FROM dependency_slots"))
}

func TestEachOfManyChangesHasAVersionOfItsOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.newMember(t, "a", 0)
	const changes = 8
	var group sync.WaitGroup
	versions := make([]int, changes)
	for i := range changes {
		group.Go(func() {
			limit, err := slots.SetLimit(t.Context(), w.pool, slots.Change{
				Dependency: dependency, Places: 10 + i, Actor: fmt.Sprint("actor ", i), Reason: "race",
			})
			if err != nil {
				t.Error(err)
			}
			versions[i] = limit.Version
		})
	}
	group.Wait()
	require.ElementsMatch(t, []int{2, 3, 4, 5, 6, 7, 8, 9}, versions)
	require.Zero(t, w.count(t, `
SELECT count(*) FROM dependency_limits a JOIN dependency_limits b
    ON a.dependency = b.dependency AND a.version < b.version AND a.set_at > b.set_at`), "in order of time")
	require.Equal(t, 17, w.count(t, "SELECT count(*) FROM dependency_slots"), "a slot for each place")
}

func TestLimitsTellWhoHoldsWhat(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := &world{pool: w.pool, dependency: "notification_api"}
	other.newMember(t, "x", 0).tick(t)
	all := w.join(t, "a", "b", "c")
	w.setLimit(t, 2)
	settle(t, all...)
	w.pass(t, 3*time.Second)
	settle(t, all[1:]...)
	w.pass(t, 3*time.Second) // a is gone by now
	settle(t, all[2])

	limits, err := slots.Limits(t.Context(), w.pool)
	require.NoError(t, err)
	require.Len(t, limits, 2)
	require.Equal(t, "notification_api", limits[0].Dependency)
	require.Equal(t, []slots.Holding{{Holder: "x", Slots: 8}}, limits[0].Holdings)
	require.Equal(t, []int{2, 2}, []int{limits[1].Version, limits[1].Places})
	require.Equal(t, []string{"test", "to see"}, []string{limits[1].Actor, limits[1].Reason})
	require.Equal(t, []slots.Holding{{Holder: "b", Slots: 1}, {Holder: "c", Slots: 1}}, limits[1].Holdings)

	w.setLimit(t, 1)
	settle(t, all[1:]...)
	limits, err = slots.Limits(t.Context(), w.pool)
	require.NoError(t, err)
	require.Equal(t, []slots.Holding{{Holder: "b", Slots: 1}, {Holder: "c", Slots: 0}}, limits[1].Holdings)
}

func TestAChangeThatNoHistoryShouldHoldIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.newMember(t, "a", 0)
	good := slots.Change{Dependency: dependency, Places: 4, Actor: "ann", Reason: "overload"}
	for pointer, spoil := range map[string][]func(*slots.Change){
		"/places": {
			func(c *slots.Change) { c.Places = 0 },
			func(c *slots.Change) { c.Places = -1 },
			func(c *slots.Change) { c.Places = slots.PlacesMax + 1 },
		},
		"/actor": {
			func(c *slots.Change) { c.Actor = "" },
			func(c *slots.Change) { c.Actor = "a\nb" },
			func(c *slots.Change) { c.Actor = strings.Repeat("a", 201) },
		},
		"/reason": {
			func(c *slots.Change) { c.Reason = "" },
			func(c *slots.Change) { c.Reason = "  " },
			func(c *slots.Change) { c.Reason = "\x00" },
			func(c *slots.Change) { c.Reason = strings.Repeat("r", 501) },
		},
	} {
		for _, f := range spoil {
			c := good
			f(&c)
			_, err := slots.SetLimit(t.Context(), w.pool, c)
			require.True(t, problem.Is(err, problem.ValidationFailed), "%v", err)
			require.Equal(t, pointer, problem.Of(err).Fields[0].Pointer)
		}
	}
	require.Equal(t, 1, w.count(t, "SELECT count(*) FROM dependency_limits"))
	good.Places = slots.PlacesMax
	limit, err := slots.SetLimit(t.Context(), w.pool, good)
	require.NoError(t, err)
	require.Equal(t, 2, limit.Version)
	require.WithinDuration(t, w.now(), limit.SetAt, time.Minute)
}

func TestADependencyWithoutALimitIsNotFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range []string{"nobody", "", "\x00", strings.Repeat("n", 101)} {
		_, err := slots.SetLimit(t.Context(), w.pool, slots.Change{
			Dependency: name, Places: 1, Actor: "ann", Reason: "typo",
		})
		require.True(t, problem.Is(err, problem.NotFound), "%v", err)
		_, err = slots.History(t.Context(), w.pool, name, 1)
		require.True(t, problem.Is(err, problem.NotFound), "%v", err)
	}
	limits, err := slots.Limits(t.Context(), w.pool)
	require.NoError(t, err)
	require.Empty(t, limits)
}

func TestAHistoryIsBoundedAndIsNeverRewritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.newMember(t, "a", 0)
	w.exec(t, `INSERT INTO dependency_limits (dependency, version, places, actor, reason)
	           SELECT $1, n, 1, 'a', 'r' FROM generate_series(2, 300) AS n`, dependency)
	for limit, want := range map[int]int{-1: 1, 0: 1, 7: 7, 10_000: slots.HistoryMaxRows} {
		history, err := slots.History(t.Context(), w.pool, dependency, limit)
		require.NoError(t, err)
		require.Len(t, history, want)
		require.Equal(t, 300, history[0].Version)
	}
	for _, rewrite := range []string{
		"UPDATE dependency_limits SET places = 2", "DELETE FROM dependency_limits",
		"TRUNCATE dependency_limits",
	} {
		_, err := w.pool.Exec(t.Context(), rewrite)
		require.Equal(t, "HF002", pgtx.Code(err), rewrite)
	}
}

func TestWhatCannotBeReadOrWrittenSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.newMember(t, "a", 0)
	w.exec(t, "ALTER TABLE dependency_slots RENAME TO elsewhere")
	_, err := slots.Limits(t.Context(), w.pool)
	require.ErrorContains(t, err, "read holders of risk_api")
	_, err = slots.SetLimit(t.Context(), w.pool, slots.Change{
		Dependency: dependency, Places: 9, Actor: "ann", Reason: "more",
	})
	require.ErrorContains(t, err, "set limit of risk_api to 9")
	require.Equal(t, 1, w.count(t, "SELECT count(*) FROM dependency_limits"), "all or nothing")
	w.exec(t, "ALTER TABLE dependency_limits RENAME TO elsewhere_too")
	_, err = slots.Limits(t.Context(), w.pool)
	require.ErrorContains(t, err, "read limits")
	_, err = slots.History(t.Context(), w.pool, dependency, 1)
	require.ErrorContains(t, err, "read history of the limit of risk_api")
}
