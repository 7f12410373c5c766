package broker_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/cloudevent"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/pgtx"
)

// sinkName is the sink's in the database.
const sinkName = "nats"

// world is a database whose events go to a stream.
type world struct {
	pool   *pgxpool.Pool
	server *natsServer
	// seqs is how far each aggregate is.
	seqs map[uuid.UUID]int32
	ids  []uuid.UUID
}

// newWorld makes a database whose log grows by itself.
func newWorld(t *testing.T, n int) *world {
	t.Helper()
	w := &world{pool: pgtest.New(t), server: newServer(t), seqs: map[uuid.UUID]int32{}, ids: aggregates(n)}
	relay := &outbox.Relay{Pool: w.pool, Log: slog.New(slog.DiscardHandler)}
	relay.Start(t.Context())
	t.Cleanup(relay.Stop)
	return w
}

// happen appends n events to each aggregate, in transactions of their own.
func (w *world) happen(t *testing.T, n int) {
	t.Helper()
	for range n {
		events := make([]outbox.Event, len(w.ids))
		for i, id := range w.ids {
			w.seqs[id]++
			events[i] = outbox.Event{
				TenantID: tenant, AggregateID: id, Seq: w.seqs[id], Type: "thing.moved", To: "there",
				Actor: "test",
			}
		}
		write := func(write *pgx.Batch) error { return outbox.Append(t.Context(), write, began, events) }
		require.NoError(t, pgtx.Pipeline(t.Context(), w.pool, "append", func(*pgx.Batch) {}, write))
	}
}

// total is how many events there are.
func (w *world) total() int {
	total := 0
	for _, seq := range w.seqs {
		total += int(seq)
	}
	return total
}

// caughtUp waits until the sink has handed on every event.
func (w *world) caughtUp(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		lag, err := outbox.ReadLag(t.Context(), w.pool)
		return err == nil && lag.Last == int64(w.total()) && len(lag.Sinks) == 1 && lag.Sinks[0].Events == 0
	}, waitMax, look)
}

// holder says who holds the sink, or "".
func (w *world) holder(t *testing.T) string {
	t.Helper()
	var holder string
	require.NoError(t, w.pool.QueryRow(t.Context(), `
SELECT coalesce((SELECT holder FROM event_sinks WHERE held_until > clock_timestamp()), '')`).Scan(&holder))
	return holder
}

// requireEachEventOnce reads the whole stream: each event is there once, those of an aggregate in the order
// of seq.
func (w *world) requireEachEventOnce(t *testing.T) {
	t.Helper()
	got := map[uuid.UUID]int32{}
	for _, id := range w.server.storedIDs(t) {
		aggregate, err := uuid.Parse(id[:36])
		require.NoError(t, err)
		got[aggregate]++
		require.Equal(t, cloudevent.ID(aggregate, got[aggregate]), id)
	}
	require.Equal(t, w.seqs, got)
}

// process is one that has a sink.
type process struct {
	*outbox.Sink

	broker *bundle
	random *rand.Rand
	// stop makes it stand still in the middle of its next page, which stopped tells, until goOn.
	stop, stopped, goOn chan struct{}
}

func (w *world) newProcess(t *testing.T, holder string, random *rand.Rand) *process {
	t.Helper()
	discard := slog.New(slog.DiscardHandler)
	bell := &outbox.Bell{Pool: w.pool, Log: discard}
	bell.Start(t.Context())
	t.Cleanup(bell.Stop)
	p := &process{
		broker: connect(t, w.server.url()), random: random,
		stop: make(chan struct{}, 1), stopped: make(chan struct{}), goOn: make(chan struct{}),
	}
	p.Sink = &outbox.Sink{
		Name: sinkName, Holder: holder, Publish: p.publish, Pool: w.pool, Bell: bell, Log: discard,
		Random: func() float64 { return 0 },
	}
	p.Start(t.Context())
	t.Cleanup(p.Stop)
	return p
}

func (p *process) publish(ctx context.Context, events []outbox.Logged) error {
	messages := toMessages(events)
	select {
	case <-p.stop:
	default:
		return p.broker.Publish(ctx, messages)
	}
	if err := p.broker.Publish(ctx, messages[:p.random.IntN(len(messages)+1)]); err != nil {
		return err
	}
	p.stopped <- struct{}{}
	<-p.goOn
	return p.broker.Publish(context.WithoutCancel(ctx), messages) // it knows of no time that has passed
}

func toMessages(events []outbox.Logged) []cloudevent.Message {
	messages := make([]cloudevent.Message, len(events))
	for i, e := range events {
		id := cloudevent.ID(e.AggregateID, e.Seq)
		messages[i] = cloudevent.Message{
			ID: id, Type: e.Type, TenantID: e.TenantID, AggregateID: e.AggregateID, Seq: e.Seq,
			Place: e.Place, At: e.At, Body: fmt.Appendf(nil, `{"specversion":"1.0","id":%q}`, id),
		}
	}
	return messages
}

func TestEveryEventReachesTheStreamOnceAndInOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 120)
	w.newProcess(t, "only", nil)
	require.Eventually(t, func() bool { return w.holder(t) == "only" }, waitMax, look)
	w.happen(t, 10)
	w.caughtUp(t)
	w.requireEachEventOnce(t)
}

func TestNothingIsLostOverARestartOfTheServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 150)
	p := w.newProcess(t, "only", rand.New(rand.NewPCG(1, 1)))
	require.Eventually(t, func() bool { return w.holder(t) == "only" }, waitMax, look)
	w.happen(t, 5)
	p.stop <- struct{}{}
	w.happen(t, 10)
	<-p.stopped
	close(p.goOn)
	w.server.stop() // while the rest of the page is on its way
	p.broker.becomesUnhealthy(t)
	w.happen(t, 2)
	w.server.start(t)
	w.caughtUp(t)
	p.broker.becomesHealthy(t)
	w.requireEachEventOnce(t)
}

// TestAProcessThatStandsStillAnywhereLosesAndDoublesNothing stops the one that holds the sink in the middle
// of a page, lets its lease run out and the other one take over. Later the first goes on where it was.
func TestAProcessThatStandsStillAnywhereLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t, 60)
	processes := map[string]*process{}
	for _, holder := range []string{"first", "second"} {
		processes[holder] = w.newProcess(t, holder, rand.New(rand.NewPCG(random.Uint64(), 0)))
	}
	require.Eventually(t, func() bool { return w.holder(t) != "" }, waitMax, look)
	for range 3 {
		holder := w.holder(t)
		p := processes[holder]
		p.stop <- struct{}{}
		w.happen(t, 5+random.IntN(10))
		<-p.stopped
		_, err := w.pool.Exec(t.Context(), "UPDATE event_sinks SET held_until = clock_timestamp()")
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			now := w.holder(t)
			return now != "" && now != holder
		}, waitMax, look)
		late := random.IntN(2) == 0 // it goes on when the other one is past it, or while it is at it
		if late {
			w.caughtUp(t)
		}
		p.goOn <- struct{}{}
		w.happen(t, random.IntN(5))
		w.caughtUp(t)
		w.requireEachEventOnce(t)
	}
}

func TestAProcessThatStopsHandsOverInTheMiddle(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 100)
	leaving := w.newProcess(t, "leaving", rand.New(rand.NewPCG(2, 2)))
	require.Eventually(t, func() bool { return w.holder(t) == "leaving" }, waitMax, look)
	w.newProcess(t, "staying", nil)
	leaving.stop <- struct{}{}
	w.happen(t, 12)
	<-leaving.stopped
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		leaving.Stop()
	}()
	leaving.broker.Close() // what it would still send fails
	close(leaving.goOn)
	<-ended
	w.caughtUp(t)
	require.Equal(t, "staying", w.holder(t))
	w.requireEachEventOnce(t)
}
