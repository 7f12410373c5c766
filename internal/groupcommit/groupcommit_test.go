package groupcommit_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"example.com/holdfast/internal/groupcommit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	errAgain  = errors.New("raced")
	errAlone  = errors.New("one item is bad")
	errBroken = errors.New("database is away")
)

type combiner = groupcommit.Combiner[int, string]

func config() groupcommit.Config {
	return groupcommit.Config{
		Name: "test", BatchMax: 4, QueueMax: 8, Flights: 1, Attempts: 3,
		Again: func(err error) bool { return errors.Is(err, errAgain) },
		Alone: func(err error) bool { return errors.Is(err, errAlone) },
	}
}

// gate is a flush whose flights wait to be let go, and which notes what it was handed.
type gate struct {
	open chan struct{}
	mu   sync.Mutex
	seen [][]int
	// answer decides a batch; nil answers each item with its number.
	answer func([]int) ([]string, error)
}

func (g *gate) flush(_ context.Context, items []int) ([]string, error) {
	g.mu.Lock()
	g.seen = append(g.seen, items)
	g.mu.Unlock()
	<-g.open
	if g.answer != nil {
		return g.answer(items)
	}
	return echo(items), nil
}

func (g *gate) batches() [][]int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.seen
}

func echo(items []int) []string {
	out := make([]string, len(items))
	for i, item := range items {
		out[i] = fmt.Sprintf("item %d", item)
	}
	return out
}

// outcome is what one caller got.
type outcome struct {
	text string
	err  error
}

// callers hands in items in their order and collects what each caller gets.
type callers struct {
	c     *combiner
	group sync.WaitGroup
	mu    sync.Mutex
	got   map[int]outcome
}

func (cs *callers) do(ctx context.Context, items ...int) {
	for _, item := range items {
		cs.group.Go(func() {
			text, err := cs.c.Do(ctx, item)
			cs.mu.Lock()
			defer cs.mu.Unlock()
			cs.got[item] = outcome{text, err}
		})
		synctest.Wait() // the item is in the queue, in a flight, or answered
	}
}

func (cs *callers) answered() int {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return len(cs.got)
}

// bubble runs a scenario in which time stands still and every goroutine has to end. Flights wait at the
// gate until the scenario opens it.
func bubble(t *testing.T, cfg groupcommit.Config, scenario func(*testing.T, *gate, *callers)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		t.Helper()
		g := &gate{open: make(chan struct{})}
		cs := &callers{c: groupcommit.New(cfg, g.flush), got: map[int]outcome{}}
		cs.c.Start(t.Context())
		scenario(t, g, cs)
		cs.c.Stop()
	})
}

func (cs *callers) requireEchoes(t *testing.T, items ...int) {
	t.Helper()
	for _, item := range items {
		require.Equal(t, outcome{fmt.Sprintf("item %d", item), nil}, cs.got[item])
	}
}

func TestABatchGathersWhileOneIsInFlight(t *testing.T) {
	t.Parallel()
	var sizes []int
	cfg := config()
	cfg.Observe = func(size int) { sizes = append(sizes, size) }
	bubble(t, cfg, func(t *testing.T, g *gate, cs *callers) {
		t.Helper()
		cs.do(t.Context(), 1, 2, 3, 4, 5, 6, 7)
		require.Equal(t, [][]int{{1}}, g.batches(), "an item does not wait for others")
		close(g.open)
		cs.group.Wait()
		require.Equal(t, [][]int{{1}, {2, 3, 4, 5}, {6, 7}}, g.batches(), "in order, at most BatchMax")
		cs.requireEchoes(t, 1, 2, 3, 4, 5, 6, 7)
	})
	require.Equal(t, []int{1, 4, 2}, sizes)
}

func TestFlightsAreBounded(t *testing.T) {
	t.Parallel()
	cfg := config()
	cfg.Flights = 2
	bubble(t, cfg, func(t *testing.T, g *gate, cs *callers) {
		t.Helper()
		cs.do(t.Context(), 1, 2, 3, 4)
		require.Equal(t, [][]int{{1}, {2}}, g.batches())
		g.open <- struct{}{}
		synctest.Wait()
		require.Equal(t, [][]int{{1}, {2}, {3, 4}}, g.batches())
		close(g.open)
		cs.group.Wait()
	})
}

// failing answers like a database that cannot store some items.
func failing(bad ...int) func([]int) ([]string, error) {
	return func(items []int) ([]string, error) {
		for _, item := range items {
			if slices.Contains(bad, item) {
				return nil, fmt.Errorf("item %d: %w", item, errAlone)
			}
		}
		return echo(items), nil
	}
}

func TestAnItemThatFailsAloneFailsAlone(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string][]int{
		"first": {2}, "middle": {4}, "last": {9}, "two": {3, 8}, "neighbours": {5, 6},
		"all": {2, 3, 4, 5, 6, 7, 8, 9},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config()
			cfg.BatchMax = 8
			bubble(t, cfg, func(t *testing.T, g *gate, cs *callers) {
				t.Helper()
				g.answer = failing(bad...)
				cs.do(t.Context(), 1, 2, 3, 4, 5, 6, 7, 8, 9)
				close(g.open)
				cs.group.Wait()
				for _, item := range bad {
					require.ErrorIs(t, cs.got[item].err, errAlone)
					require.ErrorContains(t, cs.got[item].err, fmt.Sprintf("item %d", item), "its own error")
					delete(cs.got, item)
				}
				for item := range cs.got {
					cs.requireEchoes(t, item)
				}
				require.Len(t, cs.got, 9-len(bad))
			})
		})
	}
}

func TestABadItemOfALargeBatchIsFoundInAFewFlushes(t *testing.T) {
	t.Parallel()
	cfg := config()
	cfg.BatchMax, cfg.QueueMax = 64, 64
	bubble(t, cfg, func(t *testing.T, g *gate, cs *callers) {
		t.Helper()
		g.answer = failing(40)
		for item := range 65 {
			cs.do(t.Context(), item)
		}
		close(g.open)
		cs.group.Wait()
		require.ErrorIs(t, cs.got[40].err, errAlone)
		cs.requireEchoes(t, 0, 1, 39, 41, 64)
		require.Len(t, g.batches(), 1+1+16+4, "the first, the whole, its parts, and the items of one part")
	})
}

func TestABatchIsTriedAgainAsAWholeAFewTimes(t *testing.T) {
	t.Parallel()
	for losses, flushes := range []int{1, 2, 3, 3, 3} {
		bubble(t, config(), func(t *testing.T, g *gate, cs *callers) {
			t.Helper()
			close(g.open)
			g.answer = func(items []int) ([]string, error) {
				if len(g.batches()) <= losses {
					items[0] = -1 // the slice is the flush's own
					return nil, errAgain
				}
				return echo(items), nil
			}
			cs.do(t.Context(), 1)
			if losses < 3 {
				cs.requireEchoes(t, 1)
			} else {
				require.ErrorIs(t, cs.got[1].err, errAgain)
			}
			require.Len(t, g.batches(), flushes)
		})
	}
}

func TestAnErrorOfTheWholeBatchIsEverybodys(t *testing.T) {
	t.Parallel()
	bubble(t, config(), func(t *testing.T, g *gate, cs *callers) {
		t.Helper()
		g.answer = func([]int) ([]string, error) { return nil, errBroken }
		cs.do(t.Context(), 1, 2, 3)
		close(g.open)
		cs.group.Wait()
		for item := 1; item <= 3; item++ {
			require.ErrorIs(t, cs.got[item].err, errBroken)
		}
		require.Equal(t, [][]int{{1}, {2, 3}}, g.batches(), "neither tried again nor taken apart")
	})
}

func TestAWrongNumberOfOutcomesIsAnError(t *testing.T) {
	t.Parallel()
	for _, outcomes := range [][]string{nil, {"one", "two"}} {
		bubble(t, config(), func(t *testing.T, g *gate, cs *callers) {
			t.Helper()
			close(g.open)
			g.answer = func([]int) ([]string, error) { return outcomes, nil }
			cs.do(t.Context(), 1)
			require.EqualError(t, cs.got[1].err, fmt.Sprintf("test: %d outcomes for 1 items", len(outcomes)))
		})
	}
}

func TestAPanicFailsItsItemAlone(t *testing.T) {
	t.Parallel()
	bubble(t, config(), func(t *testing.T, g *gate, cs *callers) {
		t.Helper()
		g.answer = func(items []int) ([]string, error) {
			for _, item := range items {
				if item == 3 {
					panic("no such currency")
				}
			}
			return echo(items), nil
		}
		cs.do(t.Context(), 1, 2, 3, 4)
		close(g.open)
		cs.group.Wait()
		cs.requireEchoes(t, 1, 2, 4)
		var panicked *groupcommit.PanicError
		require.ErrorAs(t, cs.got[3].err, &panicked)
		require.Equal(t, "no such currency", panicked.Value)
		require.Contains(t, string(panicked.Stack), "groupcommit_test.go", "where it happened")
		require.EqualError(t, cs.got[3].err, "test: flush panicked: no such currency")
		cs.do(t.Context(), 5)
		cs.requireEchoes(t, 5) // the flight goes on
	})
}

func TestAFullQueueRefusesAtOnce(t *testing.T) {
	t.Parallel()
	bubble(t, config(), func(t *testing.T, g *gate, cs *callers) {
		t.Helper()
		cs.do(t.Context(), 0, 1, 2, 3, 4, 5, 6, 7, 8)
		require.Zero(t, cs.answered(), "one in flight, eight in the queue")
		cs.do(t.Context(), 9)
		require.ErrorIs(t, cs.got[9].err, groupcommit.ErrFull)
		close(g.open)
		cs.group.Wait()
		cs.requireEchoes(t, 0, 1, 2, 3, 4, 5, 6, 7, 8)
		require.Len(t, g.batches(), 3, "the refused item was never handed on")
	})
}

func TestACallerWhoLeavesLeavesItsItem(t *testing.T) {
	t.Parallel()
	bubble(t, config(), func(t *testing.T, g *gate, cs *callers) {
		t.Helper()
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		cs.do(short, 1, 2)
		cs.do(t.Context(), 3)
		<-short.Done()
		synctest.Wait()
		for _, item := range []int{1, 2} {
			require.ErrorIs(t, cs.got[item].err, context.DeadlineExceeded)
			require.ErrorContains(t, cs.got[item].err, "test: ", "the wait names itself")
		}
		close(g.open)
		cs.group.Wait()
		require.Equal(t, [][]int{{1}, {2, 3}}, g.batches(), "in flight or waiting, it is done once")
		cs.requireEchoes(t, 3)
		cs.do(short, 4)
		require.ErrorIs(t, cs.got[4].err, context.DeadlineExceeded)
		require.Len(t, g.batches(), 2, "who comes too late is not taken")
	})
}

func TestAFlightOutlivesTheContextOfStart(t *testing.T) {
	t.Parallel()
	type key struct{}
	flush := func(ctx context.Context, _ []int) ([]string, error) {
		text, _ := ctx.Value(key{}).(string)
		return []string{text}, ctx.Err()
	}
	c := groupcommit.New(config(), flush)
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "carried"))
	c.Start(ctx)
	cancel()
	text, err := c.Do(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, "carried", text)
	c.Stop()
}

func TestStopFinishesFlightsAndRefusesTheRest(t *testing.T) {
	t.Parallel()
	bubble(t, config(), func(t *testing.T, g *gate, cs *callers) {
		t.Helper()
		cs.do(t.Context(), 1, 2, 3)
		var stops sync.WaitGroup
		for range 2 {
			stops.Go(cs.c.Stop)
		}
		synctest.Wait()
		cs.do(t.Context(), 4)
		require.ErrorIs(t, cs.got[4].err, groupcommit.ErrStopped, "at once, although a flight is out")
		require.Equal(t, 1, cs.answered())
		close(g.open)
		cs.group.Wait()
		stops.Wait()
		cs.requireEchoes(t, 1)
		for _, item := range []int{2, 3, 4} {
			require.ErrorIs(t, cs.got[item].err, groupcommit.ErrStopped)
		}
		require.Equal(t, [][]int{{1}}, g.batches(), "what was refused was not done")
	})
}

// Callers race with Stop; whatever happens, each is answered, and done means done once.
func TestEveryCallerIsAnsweredWhileStopping(t *testing.T) {
	t.Parallel()
	for range 50 {
		var done atomic.Int64
		cfg := config()
		cfg.Flights, cfg.QueueMax = 2, 64
		c := groupcommit.New(cfg, func(_ context.Context, items []int) ([]string, error) {
			done.Add(int64(len(items)))
			return echo(items), nil
		})
		c.Start(t.Context())
		var group sync.WaitGroup
		var succeeded atomic.Int64
		for item := range 64 {
			group.Go(func() {
				text, err := c.Do(t.Context(), item)
				if err == nil {
					succeeded.Add(1)
					assert.Equal(t, fmt.Sprintf("item %d", item), text)
				} else {
					assert.ErrorIs(t, err, groupcommit.ErrStopped)
				}
			})
		}
		c.Stop()
		group.Wait()
		require.Equal(t, done.Load(), succeeded.Load())
	}
}

func TestStopWithoutStart(t *testing.T) {
	t.Parallel()
	g := gate{}
	c := groupcommit.New(config(), g.flush)
	c.Stop()
	_, err := c.Do(t.Context(), 1)
	require.ErrorIs(t, err, groupcommit.ErrStopped)
}

func TestAnIncompleteConfigIsRefused(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*groupcommit.Config){
		"BatchMax": func(c *groupcommit.Config) { c.BatchMax = 0 },
		"QueueMax": func(c *groupcommit.Config) { c.QueueMax = -1 },
		"Flights":  func(c *groupcommit.Config) { c.Flights = 0 },
		"Attempts": func(c *groupcommit.Config) { c.Attempts = 0 },
		"Again":    func(c *groupcommit.Config) { c.Again = nil },
		"Alone":    func(c *groupcommit.Config) { c.Alone = nil },
		"WaitMax":  func(c *groupcommit.Config) { c.WaitMax = -1 },
		"Now":      func(c *groupcommit.Config) { c.WaitMax = 1 },
	} {
		cfg := config()
		spoil(&cfg)
		require.Panics(t, func() { groupcommit.New[int, string](cfg, nil) }, name)
	}
}
