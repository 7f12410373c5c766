package groupcommit_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/groupcommit"
)

// The model: a server that commits modelBatch items in modelFlight, and is offered 80 % of that. Clients are
// patient or impatient, and come again with the same key, modelTries times in all. The queue holds more than
// a client waits for, as queues in items do.
const (
	modelBatch    = 2
	modelFlight   = 10 * time.Millisecond
	modelGap      = 6250 * time.Microsecond
	modelQueueMax = 800
	modelWaitMax  = 250 * time.Millisecond
	modelPause    = time.Second
	patient       = time.Second
	impatient     = 100 * time.Millisecond
	modelTries    = 15
	modelOffered  = float64(time.Second) / float64(modelGap)
)

// The life of a run.
const (
	stallBegins = 5 * time.Second
	stallEnds   = stallBegins + 10*time.Second
	recovered   = stallEnds + 5*time.Second
	modelEnds   = recovered + 5*time.Second
)

// model is a server with its clients. Its times are those of a bubble.
type model struct {
	c      *combiner
	begun  time.Time
	waits  time.Duration // what a client waits for an answer
	random *rand.Rand
	group  sync.WaitGroup

	mu sync.Mutex
	// answered is when each client got its answer.
	answered []time.Duration
}

func (m *model) now() time.Duration { return time.Since(m.begun) }

// flush takes its time, and all of the stall that it begins in.
func (m *model) flush(_ context.Context, items []int) ([]string, error) {
	<-time.After(modelFlight)
	if now := m.now(); now >= stallBegins && now < stallEnds {
		<-time.After(stallEnds - now)
	}
	return echo(items), nil
}

// client asks until it has its answer. Who was refused comes later, who waited in vain comes at once.
func (m *model) client(ctx context.Context, key int, pauses []time.Duration) {
	for _, pause := range pauses {
		try, cancel := context.WithTimeout(ctx, m.waits)
		_, err := m.c.Do(try, key)
		cancel()
		switch {
		case err == nil:
			m.answer()
			return
		case errors.Is(err, groupcommit.ErrFull):
			<-time.After(modelPause/2 + pause)
		case ctx.Err() != nil:
			return
		}
	}
}

func (m *model) answer() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answered = append(m.answered, m.now())
}

// goodput is the part of the offered load that was answered between two times.
func (m *model) goodput(from, to time.Duration) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, at := range m.answered {
		if at >= from && at < to {
			n++
		}
	}
	return float64(n) / (modelOffered * (to - from).Seconds())
}

// run plays the stall and returns the goodput before it, and from five seconds after its end on.
func run(t *testing.T, cfg groupcommit.Config, waits time.Duration) (float64, float64) {
	t.Helper()
	var before, after float64
	synctest.Test(t, func(t *testing.T) {
		t.Helper()
		m := &model{waits: waits, random: rand.New(rand.NewPCG(1, 2))}
		m.begun = time.Now() //nolint:forbidigo // the bubble's clock
		m.c = groupcommit.New(cfg, m.flush)
		m.c.Start(t.Context())
		ctx, cancel := context.WithCancel(t.Context())
		for key := 0; m.now() < modelEnds; key++ {
			pauses := make([]time.Duration, modelTries)
			for i := range pauses {
				pauses[i] = time.Duration(m.random.Int64N(int64(modelPause)))
			}
			m.group.Go(func() { m.client(ctx, key, pauses) })
			<-time.After(modelGap)
		}
		cancel()
		m.group.Wait()
		m.c.Stop()
		before, after = m.goodput(time.Second, stallBegins), m.goodput(recovered, modelEnds)
	})
	return before, after
}

// modelled is a combiner of the model's capacity.
func modelled(bounded bool) groupcommit.Config {
	cfg := config()
	cfg.BatchMax, cfg.QueueMax, cfg.Drop = modelBatch, modelQueueMax, bounded
	if bounded {
		cfg.WaitMax = modelWaitMax
		cfg.Now = time.Now //nolint:forbidigo // the bubble's clock
	}
	return cfg
}

// What keeps a system down after its cause has gone is work for callers who have left: each of them comes
// again, and waits behind what it left. With the bound a stall of ten seconds is over when it is over, also
// for clients who wait for less than the bound.
func TestAStallIsOverWhenItIsOver(t *testing.T) {
	t.Parallel()
	for _, waits := range []time.Duration{patient, impatient} {
		before, after := run(t, modelled(true), waits)
		require.InDelta(t, 1, before, 0.02, "clients wait for %s", waits)
		require.GreaterOrEqual(t, after, 0.95, "clients wait for %s", waits)
	}
}

// The same without the bound shows what it is for: the server is well, is offered 80 % of what it can do, and
// hardly anybody gets an answer. Not to do what nobody waits for any more is not enough: in a queue that is
// as long as its clients are patient, the turn of each comes when it leaves.
func TestWithoutTheBoundAStallDoesNotEnd(t *testing.T) {
	t.Parallel()
	for _, drops := range []bool{false, true} {
		cfg := modelled(false)
		cfg.Drop = drops
		before, after := run(t, cfg, patient)
		require.InDelta(t, 1, before, 0.02, "drops: %v", drops)
		require.Less(t, after, 0.5, "drops: %v", drops)
	}
}
