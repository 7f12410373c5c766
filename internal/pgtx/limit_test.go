package pgtx_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/budget"
	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/pgtx"
)

const (
	// sleep takes longer than any test waits.
	sleep = "SELECT pg_sleep(60)"
	// tight leaves the server a few times ten milliseconds.
	tight = budget.Margin + 40*time.Millisecond
	// show is the limit of the statement itself, in milliseconds.
	show = "SELECT setting::int FROM pg_settings WHERE name = 'statement_timeout'"
)

// within is a context that ends soon.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func exec(sql string) func(context.Context, pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sql)
		return err
	}
}

func queue(sql string) func(*pgx.Batch) { return func(b *pgx.Batch) { b.Queue(sql) } }

func queueWrite(sql string) func(*pgx.Batch) error {
	return func(b *pgx.Batch) error { b.Queue(sql); return nil }
}

func idle(*pgx.Batch) error { return nil }

func (b bundle) backend(t *testing.T) int {
	t.Helper()
	var pid int
	require.NoError(t, b.pool.QueryRow(t.Context(), "SELECT pg_backend_pid()").Scan(&pid))
	return pid
}

// serverFirst runs something that takes too long until the server ends it before its caller's time does. On
// a busy machine the caller's timer may win, since they are budget.Margin apart.
func serverFirst(t *testing.T, run func(context.Context) error) error {
	t.Helper()
	var err error
	for range 20 {
		ctx := within(t, tight)
		if err = run(ctx); ctx.Err() == nil {
			return err
		}
	}
	t.Fatalf("the server was never first: %v", err)
	return nil
}

func TestAStatementEndsOnTheServerBeforeItsCallersTimeDoes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, run := range map[string]func(context.Context) error{
		"run": func(ctx context.Context) error { return pgtx.Run(ctx, b.pool, "late", exec(sleep)) },
		"reads": func(ctx context.Context) error {
			return pgtx.Pipeline(ctx, b.pool, "late", queue(sleep), idle)
		},
		"writes": func(ctx context.Context) error {
			return pgtx.Pipeline(ctx, b.pool, "late", nothing, queueWrite(sleep))
		},
	} {
		var before int
		err := serverFirst(t, func(ctx context.Context) error {
			err := b.pool.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&before)
			return errors.Join(err, run(ctx))
		})
		require.ErrorIs(t, err, context.DeadlineExceeded, name)
		require.Equal(t, "57014", pgtx.Code(err), name)
		require.False(t, pgtx.Unknown(err), name)
		require.Equal(t, before, b.backend(t), "%s: the connection stays", name)
	}
	b.requireNotes(t)
}

func TestAWaitForALockIsAPartOfTheCallersTime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, pgtx.Run(t.Context(), b.pool, "add", add("x", nil)))
	soon := within(t, time.Second)
	require.NoError(t, pgtx.Run(t.Context(), b.beside, "lock", func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "SELECT FROM notes FOR UPDATE")
		require.NoError(t, err)
		err = pgtx.Run(soon, b.pool, "wait", exec("UPDATE notes SET late = 1"))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, "57014", pgtx.Code(err))
		return nil
	}))
}

func TestTheLimitOfATransactionIsTheTimeThatIsLeft(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ms := func(ctx context.Context) [2]int {
		var run, pipeline int
		require.NoError(t, pgtx.Run(ctx, b.pool, "look", func(ctx context.Context, tx pgx.Tx) error {
			return tx.QueryRow(ctx, show).Scan(&run)
		}))
		take := func(r struct{ MS int32 }) { pipeline = int(r.MS) }
		require.NoError(t, pgtx.Pipeline(ctx, b.pool, "look",
			func(read *pgx.Batch) { pgtx.Read(read, take, show) }, idle))
		return [2]int{run, pipeline}
	}
	_, err := b.pool.Exec(t.Context(), "SET statement_timeout = 5000")
	require.NoError(t, err)
	for _, tt := range []struct {
		left time.Duration
		most int
	}{{time.Second, 980}, {pgtx.StatementMax, 4980}, {2 * pgtx.StatementMax, 5000}, {0, 5000}} {
		ctx := t.Context()
		if tt.left > 0 {
			ctx = within(t, tt.left)
		}
		for _, got := range ms(ctx) {
			require.LessOrEqual(t, got, tt.most, "%s left", tt.left)
			require.Greater(t, got, tt.most/2, "%s left", tt.left)
		}
		require.Equal(t, [2]int{5000, 5000}, ms(t.Context()), "it ends with its transaction")
	}
}

func TestWithTooLittleTimeLeftNothingIsBegun(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.backend(t)
	for _, left := range []time.Duration{budget.Margin, budget.Margin / 2} {
		b.wire.reset()
		err := pgtx.Run(within(t, left), b.pool, "add", add("x", nil))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "transaction add: not begun: ")
		err = pgtx.Pipeline(within(t, left), b.pool, "add", nothing, pipe("x", nil))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "transaction add: not begun: ")
		require.Zero(t, b.wire.count())
	}
	b.requireNotes(t)
}

func TestALimitCostsNoRoundTrip(t *testing.T) {
	t.Parallel()
	b := setup(t)
	trips := func(ctx context.Context, note string) [2]int {
		b.wire.reset()
		require.NoError(t, pgtx.Run(ctx, b.pool, "add", add("r"+note, nil)))
		run := b.wire.count()
		b.wire.reset()
		require.NoError(t, pgtx.Pipeline(ctx, b.pool, "add", queue("SELECT 1"), pipe("p"+note, nil)))
		return [2]int{run, b.wire.count()}
	}
	for i, note := range []string{"1", "2"} { // a connection learns each statement once
		plain, limited := trips(t.Context(), note), trips(within(t, time.Second), note+"limited")
		if i > 0 {
			require.Equal(t, [2]int{3, 2}, plain)
			require.Equal(t, plain, limited)
		}
	}
}

func TestTheLimitOfThePoolIsNotTheCallersDeadline(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.pool.Exec(t.Context(), "SET statement_timeout = 20")
	require.NoError(t, err)
	err = pgtx.Run(t.Context(), b.pool, "late", exec(sleep))
	require.Equal(t, "57014", pgtx.Code(err))
	require.NotErrorIs(t, err, context.DeadlineExceeded)
}

// counted is a pool of eight connections, opened as it is told.
func counted(t *testing.T, set func(*pgxpool.Config)) *pgxpool.Pool {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(pgtest.Empty(t).URL)
	require.NoError(t, err)
	cfg.MaxConns = countedConns
	set(cfg)
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

const (
	countedConns = 8
	overdues     = 200
	// handful allows for a machine so busy that a caller's timer wins now and then.
	handful = overdues / 5
)

// timeOut lets n queries run out of the time that each has, eight at once, and counts the connections that
// it took.
func timeOut(
	t *testing.T, pool *pgxpool.Pool, n int, each time.Duration, query func(context.Context) error,
) int64 {
	t.Helper()
	todo := make(chan struct{}, n)
	for range n {
		todo <- struct{}{}
	}
	close(todo)
	var group sync.WaitGroup
	for range countedConns {
		group.Go(func() {
			for range todo {
				ctx, cancel := context.WithTimeout(t.Context(), each)
				if err := query(ctx); err == nil {
					t.Error("a query that should have run out of time did not")
				}
				cancel()
			}
		})
	}
	group.Wait()
	opened := pool.Stat().NewConnsCount()
	t.Logf("%d queries ran out of time: %d connections opened", n, opened)
	return opened
}

func asIs(*pgxpool.Config) {}

func cancelOnServer(cfg *pgxpool.Config) { pgtx.CancelOnServer(&cfg.ConnConfig.Config) }

func TestTwoHundredOverdueTransactionsKeepTheirConnections(t *testing.T) {
	t.Parallel()
	for name, query := range map[string]func(context.Context, *pgxpool.Pool) error{
		"run": func(ctx context.Context, pool *pgxpool.Pool) error {
			return pgtx.Run(ctx, pool, "late", exec(sleep))
		},
		"pipeline": func(ctx context.Context, pool *pgxpool.Pool) error {
			return pgtx.Pipeline(ctx, pool, "late", queue(sleep), idle)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := counted(t, asIs)
			opened := timeOut(t, pool, overdues, tight,
				func(ctx context.Context) error { return query(ctx, pool) })
			require.Less(t, opened, int64(handful))
		})
	}
}

func TestOverdueReadsOutsideTransactionsKeepTheirConnections(t *testing.T) {
	t.Parallel()
	pool := counted(t, cancelOnServer)
	opened := timeOut(t, pool, overdues, tight, func(ctx context.Context) error {
		_, err := pool.Exec(ctx, sleep)
		return err
	})
	require.Less(t, opened, int64(handful))
}

// TestWithoutALimitEachTimeoutCostsAConnection is the control of the two tests above, with half as many, and
// with more time, so that a busy machine has some left after each new connection.
func TestWithoutALimitEachTimeoutCostsAConnection(t *testing.T) {
	t.Parallel()
	pool := counted(t, asIs)
	opened := timeOut(t, pool, overdues/2, 4*tight, func(ctx context.Context) error {
		_, err := pool.Exec(ctx, sleep)
		return err
	})
	require.Greater(t, opened, int64(handful))
}

func TestACallerWhoLeavesEndsTheStatementAndKeepsTheConnection(t *testing.T) {
	t.Parallel()
	pool := counted(t, cancelOnServer)
	for name, query := range map[string]func(context.Context) error{
		"run": func(ctx context.Context) error { return pgtx.Run(ctx, pool, "leave", exec(sleep)) },
		"pipeline": func(ctx context.Context) error {
			return pgtx.Pipeline(ctx, pool, "leave", queue(sleep), idle)
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		leave := context.AfterFunc(within(t, 50*time.Millisecond), cancel)
		err := query(ctx)
		leave()
		require.ErrorIs(t, err, context.Canceled, name)
		require.NotErrorIs(t, err, context.DeadlineExceeded, name)
	}
	require.EqualValues(t, 1, pool.Stat().NewConnsCount())
}

// slowCommits lets the commit of a note take long. Postgres's statement_timeout does not count it.
const slowCommits = `
CREATE TABLE notes (note text);
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON notes DEFERRABLE INITIALLY DEFERRED
   FOR EACH ROW EXECUTE FUNCTION slow()`

func TestACommitThatIsCanceledOnTheServerIsKnownToHaveFailed(t *testing.T) {
	t.Parallel()
	pool := counted(t, cancelOnServer)
	_, err := pool.Exec(t.Context(), slowCommits)
	require.NoError(t, err)
	for name, commit := range map[string]func(context.Context) error{
		"run": func(ctx context.Context) error { return pgtx.Run(ctx, pool, "add", add("x", nil)) },
		"pipeline": func(ctx context.Context) error {
			return pgtx.Pipeline(ctx, pool, "add", nothing, pipe("x", nil))
		},
	} {
		err := commit(within(t, 2*tight))
		require.ErrorIs(t, err, context.DeadlineExceeded, name)
		require.False(t, pgtx.Unknown(err), "%s: %v", name, err)
	}
	require.EqualValues(t, 1, pool.Stat().NewConnsCount())
}

// BenchmarkRun shows what a limit costs. The three kinds take turns, so that a busy machine is as busy for
// each; the ratios are to a context without a deadline.
func BenchmarkRun(b *testing.B) {
	pool := pgtest.Empty(b).Pool
	kinds := []time.Duration{0, 2 * pgtx.StatementMax, pgtx.StatementMax / 2}
	took := make([]time.Duration, len(kinds))
	for b.Loop() {
		for i, left := range kinds {
			began := b.Elapsed()
			ctx, cancel := b.Context(), context.CancelFunc(func() {})
			if left > 0 {
				ctx, cancel = context.WithTimeout(ctx, left)
			}
			if err := pgtx.Run(ctx, pool, "look", exec("SELECT 1")); err != nil {
				b.Fatal(err)
			}
			cancel()
			took[i] += b.Elapsed() - began
		}
	}
	b.ReportMetric(float64(took[1])/float64(took[0]), "far/none")
	b.ReportMetric(float64(took[2])/float64(took[0]), "limited/none")
}
