package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/pgtx"
)

// received is what one reader of events got.
type received struct {
	mu    sync.Mutex
	first map[uuid.UUID][]int32 // by aggregate, each seq when it came for the first time
	seen  map[string]int
}

func newReceived() *received {
	return &received{first: map[uuid.UUID][]int32{}, seen: map[string]int{}}
}

func (r *received) take(aggregate uuid.UUID, seq int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := fmt.Sprintf("%s/%d", aggregate, seq)
	if r.seen[name]++; r.seen[name] == 1 {
		r.first[aggregate] = append(r.first[aggregate], seq)
	}
}

func (r *received) events() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.seen)
}

// wrong lists what a reader of events should never find: those that are lost, and aggregates whose order is
// turned round.
func (r *received) wrong(t *testing.T, pool *pgxpool.Pool) ([]string, []string) {
	t.Helper()
	rows, err := pool.Query(t.Context(), "SELECT aggregate_id, seq FROM events")
	require.NoError(t, err)
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct {
		AggregateID uuid.UUID
		Seq         int32
	}])
	require.NoError(t, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	var lost, turned []string
	for _, e := range all {
		if name := fmt.Sprintf("%s/%d", e.AggregateID, e.Seq); r.seen[name] == 0 {
			lost = append(lost, name)
		}
	}
	for aggregate, seqs := range r.first {
		for i, seq := range seqs {
			if i > 0 && seq < seqs[i-1] {
				turned = append(turned, fmt.Sprintf("%s: %v", aggregate, seqs))
				break
			}
		}
	}
	return lost, turned
}

// ownPool is a pool that a test may break without disturbing others.
func ownPool(t *testing.T, like *pgxpool.Pool, name string) *pgxpool.Pool {
	t.Helper()
	cfg := like.Config()
	cfg.MaxConns = 3
	cfg.ConnConfig.RuntimeParams["application_name"] = name
	pool, err := pgxpool.NewWithConfig(context.WithoutCancel(t.Context()), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// write appends the life of aggregates, two events in one transaction and one in another, each of them before
// the next begins. Every third aggregate belongs to the shop.
func write(ctx context.Context, pool *pgxpool.Pool, tenant uuid.UUID, aggregates int) error {
	for i := range aggregates {
		id := uuid.New()
		event := func(seq int32, kind string) outbox.Event {
			e := outbox.Event{
				TenantID: tenant, AggregateID: id, Seq: seq, Type: kind, To: "somewhere", Actor: "test",
			}
			if i%3 == 0 {
				e.Reference = "shop:" + id.String()
			}
			return e
		}
		if err := appendAll(ctx, pool, event(1, "thing.begun")); err != nil {
			return err
		}
		if err := appendAll(ctx, pool, event(2, "thing.moved"), event(3, "thing.ended")); err != nil {
			return err
		}
	}
	return nil
}

// kill ends backends of relays and sinks at random, as a process that is killed would, until ctx ends. It
// says how many.
func kill(ctx context.Context, pool *pgxpool.Pool, name string) int {
	killed := 0
	for ctx.Err() == nil {
		var hit bool
		err := pool.QueryRow(ctx, `
			SELECT coalesce(bool_or(pg_terminate_backend(a.pid)), false)
			  FROM (SELECT pid FROM pg_stat_activity
			         WHERE application_name = $1 AND datname = current_database()
			           AND state <> 'idle' ORDER BY random() LIMIT 1) a`, name).Scan(&hit)
		if err == nil && hit {
			killed++
		}
		outbox.Pause(ctx, nil, time.Duration(rand.IntN(20))*time.Millisecond)
	}
	return killed
}

func TestNothingIsLostOrTurnedRoundWhoeverIsKilled(t *testing.T) {
	t.Parallel()
	const (
		writers    = 16
		relays     = 4
		aggregates = 100 // of each writer, three events each
		all        = writers * aggregates * 3
	)
	pool := pgtest.New(t)
	tenants := []uuid.UUID{uuid.New(), uuid.New()}
	whole := newReceived()
	quiet := slog.New(slog.DiscardHandler)
	fragile := ownPool(t, pool, "fragile")
	bell := &outbox.Bell{Pool: ownPool(t, pool, "bell"), Log: quiet}
	bell.Start(t.Context())
	t.Cleanup(bell.Stop)
	// Before anything is written there are sinks, which begin at the head.
	for n := range relays {
		relay := &outbox.Relay{Pool: fragile, Log: quiet}
		relay.Start(t.Context())
		t.Cleanup(relay.Stop)
		sink := &outbox.Sink{
			Name: "whole", Holder: fmt.Sprint("relay ", n), Pool: fragile, Bell: bell, Log: quiet,
			Random: rand.Float64,
			Publish: func(_ context.Context, events []outbox.Logged) error {
				for _, e := range events {
					whole.take(e.AggregateID, e.Seq)
				}
				if rand.IntN(10) == 0 {
					return errors.New("the answer is lost")
				}
				return nil
			},
		}
		sink.Publish = allOrError(sink.Publish)
		sink.Start(t.Context())
		t.Cleanup(sink.Stop)
	}
	require.Eventually(t, func() bool {
		return count(t, pool, "SELECT count(*) FROM event_sinks") == 1
	}, 30*time.Second, time.Millisecond)

	killing, stop := context.WithCancel(t.Context())
	var killers errgroup.Group
	killed := 0
	killers.Go(func() error { killed = kill(killing, pool, "fragile"); return nil })
	_, err := pool.Exec(t.Context(), "CREATE TABLE effects (aggregate_id uuid NOT NULL)")
	require.NoError(t, err)
	consuming, done := context.WithCancel(t.Context())
	var consumers errgroup.Group
	for range relays {
		consumers.Go(func() error { return consume(consuming, pool) })
	}
	var group errgroup.Group
	for n := range writers {
		group.Go(func() error { return write(t.Context(), pool, tenants[n%2], aggregates) })
	}
	require.NoError(t, group.Wait())
	require.Eventually(t, func() bool { return whole.events() == all }, time.Minute, time.Millisecond)
	stop()
	require.NoError(t, killers.Wait())
	require.Positive(t, killed)
	t.Logf("%d events, %d backends killed", all, killed)

	lost, turned := whole.wrong(t, pool)
	require.Empty(t, lost)
	require.Empty(t, turned)
	feed := newReceived()
	for _, tenant := range tenants {
		readAll(t, pool, tenant, feed)
	}
	lost, turned = feed.wrong(t, pool)
	require.Empty(t, lost)
	require.Empty(t, turned)
	for _, n := range feed.seen {
		require.Equal(t, 1, n, "the log has each event once")
	}
	require.Eventually(t, func() bool {
		return count(t, pool, "SELECT count(*) FROM deliveries") == 0
	}, time.Minute, time.Millisecond)
	done()
	require.NoError(t, consumers.Wait())
	require.Equal(t, count(t, pool, "SELECT count(*) FROM inbox"),
		count(t, pool, "SELECT count(*) FROM effects"))
	require.Zero(t, count(t, pool, "SELECT count(*) - count(DISTINCT aggregate_id) FROM effects"))
	requireDeliveryInvariants(t, pool)
}

// allOrError makes a Publish that took a part say so.
func allOrError(
	publish func(context.Context, []outbox.Logged) error,
) func(context.Context, []outbox.Logged) error {
	return func(ctx context.Context, events []outbox.Logged) error {
		if rand.IntN(10) == 0 {
			return errors.Join(publish(ctx, events[:rand.IntN(len(events))]), errors.New("only a part"))
		}
		return publish(ctx, events)
	}
}

func readAll(t *testing.T, pool *pgxpool.Pool, tenant uuid.UUID, into *received) {
	t.Helper()
	for last := int64(0); ; {
		page, err := outbox.ReadLog(t.Context(), pool, tenant, last, 97)
		require.NoError(t, err)
		for _, e := range page {
			into.take(e.AggregateID, e.Seq)
			last = e.Place
		}
		if len(page) == 0 {
			return
		}
	}
}

// consume handles what the shop waits for, with many others who do, in any order and more than once.
func consume(ctx context.Context, pool *pgxpool.Pool) error {
	for ctx.Err() == nil {
		rows, err := pool.Query(ctx, `
			SELECT tenant_id, aggregate_id, seq FROM deliveries ORDER BY random() LIMIT 20`)
		if err != nil {
			return ignoreEnd(ctx, err)
		}
		refs, err := pgx.CollectRows(rows, pgx.RowToStructByPos[outbox.DeliveryRef])
		if err != nil {
			return ignoreEnd(ctx, err)
		}
		var inbox *outbox.Inbox
		err = pgtx.Pipeline(ctx, pool, "consume",
			func(read *pgx.Batch) { inbox = waiting().Open(read, refs) },
			func(write *pgx.Batch) error {
				for _, ref := range refs {
					if !inbox.Handled(ref) {
						write.Queue("INSERT INTO effects VALUES ($1)", ref.AggregateID)
					}
					inbox.Done(ref)
				}
				return inbox.Write(ctx, write, time.Unix(0, 0))
			})
		if err != nil && !pgtx.Raced(err) {
			return ignoreEnd(ctx, err)
		}
		if len(refs) == 0 {
			outbox.Pause(ctx, nil, time.Millisecond)
		}
	}
	return nil
}

// ignoreEnd leaves out what goes wrong since the test ends.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return nil
}

// naive reads the outbox as many programs do: whatever has a greater id than the last one that was read.
type naive struct {
	pool *pgxpool.Pool
	last int64
	got  *received
}

func (n *naive) read(ctx context.Context) error {
	rows, err := n.pool.Query(ctx, `
		SELECT o.id, u.aggregate_id, o.seqs[u.nth]
		  FROM outbox o CROSS JOIN LATERAL unnest(o.aggregates) WITH ORDINALITY AS u (aggregate_id, nth)
		 WHERE o.id > $1 ORDER BY o.id, u.nth`, n.last)
	if err != nil {
		return err
	}
	page, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct {
		ID          int64
		AggregateID uuid.UUID
		Seq         int32
	}])
	for _, e := range page {
		n.got.take(e.AggregateID, e.Seq)
		n.last = e.ID
	}
	return err
}

// The same check refuses the reader that everybody writes first: the sequence gives ids when rows are
// written, and readers see them when they are committed.
func TestANaiveCursorLosesWhatCommitsLate(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	n := &naive{pool: pool, got: newReceived()}
	tenant := uuid.New()
	slow := thing(tenant, "thing.ended", "")
	written, committed := make(chan struct{}), make(chan struct{})
	var group errgroup.Group
	group.Go(func() error {
		return pgtx.Run(t.Context(), ownPool(t, pool, "slow"), "slow writer",
			func(ctx context.Context, tx pgx.Tx) error {
				var write pgx.Batch
				if err := outbox.Append(ctx, &write, time.Unix(0, 0), []outbox.Event{slow}); err != nil {
					return err
				}
				err := tx.SendBatch(ctx, &write).Close()
				close(written)
				<-committed
				return err
			})
	})
	<-written
	require.NoError(t, write(t.Context(), pool, tenant, 5))
	require.NoError(t, n.read(t.Context()))
	close(committed)
	require.NoError(t, group.Wait())
	require.NoError(t, n.read(t.Context()))
	lost, _ := n.got.wrong(t, pool)
	require.Equal(t, []string{fmt.Sprintf("%s/1", slow.AggregateID)}, lost, "the naive reader never sees it")

	relaying(t, pool)
	logged(t, pool, tenant, 16)
	ours := newReceived()
	readAll(t, pool, tenant, ours)
	lost, turned := ours.wrong(t, pool)
	require.Empty(t, lost)
	require.Empty(t, turned)
	requireDeliveryInvariants(t, pool)
}
