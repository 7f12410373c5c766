package groupcommit_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/groupcommit"
)

// bounded is a combiner whose items wait for a second at most, by the clock of the bubble.
func bounded() groupcommit.Config {
	cfg := config()
	cfg.WaitMax, cfg.Drop = time.Second, true
	cfg.Now = time.Now //nolint:forbidigo // the bubble's clock
	return cfg
}

func TestWhoWouldWaitTooLongIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	bubble(t, bounded(), func(t *testing.T, g *gate, cs *callers) {
		t.Helper()
		cs.do(t.Context(), 1)
		<-time.After(time.Second)
		cs.do(t.Context(), 2)
		require.Zero(t, cs.answered(), "the flight is late, but not by more than one waits")
		<-time.After(time.Millisecond)
		cs.do(t.Context(), 3)
		require.ErrorIs(t, cs.got[3].err, groupcommit.ErrLate)
		require.ErrorIs(t, cs.got[3].err, groupcommit.ErrFull, "whoever knows that knows this")
		require.ErrorContains(t, cs.got[3].err, "test: ")
		close(g.open)
		cs.group.Wait()
		cs.do(t.Context(), 4)
		cs.requireEchoes(t, 1, 2, 4)
		require.Equal(t, [][]int{{1}, {2}, {4}}, g.batches())
	})
}

func TestWhoWouldLeaveBeforeItsEndIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	bubble(t, bounded(), func(t *testing.T, g *gate, cs *callers) {
		t.Helper()
		for item := range 2 { // flights that take half a second
			cs.do(t.Context(), item)
			<-time.After(500 * time.Millisecond)
			g.open <- struct{}{}
			synctest.Wait()
		}
		cs.do(t.Context(), 2)
		<-time.After(200 * time.Millisecond)
		short, cancel := context.WithTimeout(t.Context(), 799*time.Millisecond)
		defer cancel()
		cs.do(short, 3)
		require.ErrorIs(t, cs.got[3].err, groupcommit.ErrLate, "300 ms of a flight, and 500 of its own")
		enough, cancel := context.WithTimeout(t.Context(), 800*time.Millisecond)
		defer cancel()
		cs.do(enough, 4)
		require.NotContains(t, cs.got, 4)
		close(g.open)
		cs.group.Wait()
		cs.requireEchoes(t, 0, 1, 2, 4)
	})
}

func TestOneStallRefusesNothingAfterItsEnd(t *testing.T) {
	t.Parallel()
	bubble(t, bounded(), func(t *testing.T, g *gate, cs *callers) {
		t.Helper()
		cs.do(t.Context(), 1)
		<-time.After(time.Hour)
		g.open <- struct{}{}
		synctest.Wait()
		cs.do(t.Context(), 2) // in a flight that is as short as they were before
		cs.do(t.Context(), 3, 4, 5, 6, 7, 8)
		require.Equal(t, 1, cs.answered())
		close(g.open)
		cs.group.Wait()
		cs.requireEchoes(t, 1, 2, 3, 4, 5, 6, 7, 8)
	})
}

func TestWhoHasLeftBeforeItsFlightIsDropped(t *testing.T) {
	t.Parallel()
	cfg := config()
	cfg.Drop = true
	bubble(t, cfg, func(t *testing.T, g *gate, cs *callers) {
		t.Helper()
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		cs.do(short, 1, 2)
		cs.do(t.Context(), 3)
		cs.do(short, 4)
		<-short.Done()
		cs.group.Go(func() { close(g.open) })
		cs.group.Wait()
		require.Equal(t, [][]int{{1}, {3}}, g.batches(), "who left in flight is done all the same")
		for _, item := range []int{1, 2, 4} {
			require.ErrorIs(t, cs.got[item].err, context.DeadlineExceeded)
		}
		cs.requireEchoes(t, 3)
	})
}
