package pgtx_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/pgtx"
)

const insert = "INSERT INTO notes (note) VALUES ($1)"

var errOops = errors.New("oops")

// add is a transaction that writes one note and then ends as it is told.
func add(note string, end error) func(context.Context, pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, insert, note)
		return errors.Join(err, end)
	}
}

func nothing(*pgx.Batch) {}

// pipe is the same as a pipeline.
func pipe(note string, end error) func(*pgx.Batch) error {
	return func(write *pgx.Batch) error {
		write.Queue(insert, note)
		return end
	}
}

func TestRunCommitsOrRollsBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, pgtx.Run(t.Context(), b.pool, "add", add("kept", nil)))
	b.requireNotes(t, "kept")
	err := pgtx.Run(t.Context(), b.pool, "add", add("dropped", errOops))
	require.ErrorIs(t, err, errOops)
	require.ErrorContains(t, err, "transaction add: ")
	require.False(t, pgtx.Unknown(err))
	b.requireNotes(t, "kept")
	require.Panics(t, func() {
		_ = pgtx.Run(t.Context(), b.pool, "add", func(ctx context.Context, tx pgx.Tx) error {
			panic(add("dropped", nil)(ctx, tx))
		})
	})
	b.requireNotes(t, "kept")
}

func TestPipelineCommitsOrRollsBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, pgtx.Pipeline(t.Context(), b.pool, "add", nothing, pipe("kept", nil)))
	b.requireNotes(t, "kept")
	err := pgtx.Pipeline(t.Context(), b.pool, "add", nothing, pipe("dropped", errOops))
	require.ErrorIs(t, err, errOops)
	require.ErrorContains(t, err, "transaction add: ")
	b.requireNotes(t, "kept")

	err = pgtx.Pipeline(t.Context(), b.pool, "add", nothing, func(write *pgx.Batch) error {
		return errors.Join(pipe("dropped", nil)(write), pipe("kept", nil)(write))
	})
	require.True(t, pgtx.Raced(err))
	require.False(t, pgtx.Unknown(err))
	b.requireNotes(t, "kept")

	err = pgtx.Pipeline(t.Context(), b.pool, "add",
		func(read *pgx.Batch) { read.Queue("SELECT 1/0") },
		func(*pgx.Batch) error { t.Error("decided on a failed read"); return nil })
	require.True(t, pgtx.Broken(err))
	b.requireNotes(t, "kept")

	require.Panics(t, func() {
		_ = pgtx.Pipeline(t.Context(), b.pool, "add", nothing, func(*pgx.Batch) error { panic("oops") })
	})
	b.requireNotes(t, "kept")
	idle := func(*pgx.Batch) error { return nil }
	require.NoError(t, pgtx.Pipeline(t.Context(), b.pool, "look", nothing, idle))
}

func TestPipelineTakesTwoRoundTrips(t *testing.T) {
	t.Parallel()
	b := setup(t)
	run := func(prefix string) {
		var before []string
		take := func(r struct{ Note string }) { before = append(before, r.Note) }
		read := func(read *pgx.Batch) {
			for range 3 {
				pgtx.Read(read, take, "SELECT note FROM notes")
			}
		}
		require.NoError(t, pgtx.Pipeline(t.Context(), b.pool, "add", read, func(write *pgx.Batch) error {
			for _, note := range []string{"1", "2", "3"} {
				write.Queue(insert, prefix+note)
			}
			return nil
		}))
	}
	run("a") // a connection learns each statement once
	b.wire.reset()
	run("b")
	require.Equal(t, 2, b.wire.count())
	b.requireNotes(t, "a1", "a2", "a3", "b1", "b2", "b3")
}

func TestTransactionsDoNotNest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.False(t, pgtx.InTx(t.Context()))
	require.NoError(t, pgtx.Run(t.Context(), b.pool, "outer", func(ctx context.Context, tx pgx.Tx) error {
		require.True(t, pgtx.InTx(ctx))
		err := pgtx.Run(ctx, b.beside, "inner", add("inner", nil))
		require.ErrorContains(t, err, "transaction inner: another")
		err = pgtx.Pipeline(ctx, b.beside, "inner", nothing, pipe("inner", nil))
		require.ErrorContains(t, err, "transaction inner: another")
		return add("outer", nil)(ctx, tx)
	}))
	b.requireNotes(t, "outer")
}

// An error that comes after the server was told to commit says so, unless the server or the client
// knows that nothing was committed.
func TestALostReplyIsUnknown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	err := pgtx.Run(t.Context(), b.pool, "add", func(ctx context.Context, tx pgx.Tx) error {
		defer b.wire.loseNextReply()
		return add("run", nil)(ctx, tx)
	})
	require.True(t, pgtx.Unknown(err), "%v", err)
	require.ErrorContains(t, err, "outcome unknown")
	b.requireNotes(t, "run")

	require.NoError(t, pgtx.Pipeline(t.Context(), b.pool, "add", nothing, pipe("first", nil)))
	err = pgtx.Pipeline(t.Context(), b.pool, "add", nothing, func(write *pgx.Batch) error {
		defer b.wire.loseNextReply()
		return pipe("pipeline", nil)(write)
	})
	require.True(t, pgtx.Unknown(err), "%v", err)
	b.requireNotes(t, "run", "first", "pipeline")
}

func TestAReplyThatIsLostBeforeTheCommitIsNotUnknown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, end := range map[string]func() error{
		"while reading": func() error {
			lose := func(*pgx.Batch) { b.wire.loseNextReply() }
			return pgtx.Pipeline(t.Context(), b.pool, "add", lose, pipe("x", nil))
		},
		"while the statements are prepared": func() error {
			return pgtx.Pipeline(t.Context(), b.pool, "add", nothing, func(write *pgx.Batch) error {
				b.wire.loseNextReply()
				return pipe("x", nil)(write)
			})
		},
		"while working": func() error {
			return pgtx.Run(t.Context(), b.pool, "add", func(ctx context.Context, tx pgx.Tx) error {
				b.wire.loseNextReply()
				return add("x", nil)(ctx, tx)
			})
		},
	} {
		err := end()
		require.Error(t, err, name)
		require.False(t, pgtx.Unknown(err), "%s: %v", name, err)
		b.requireNotes(t)
	}
}

func TestAKilledSessionIsUnknown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var pid int
	before := pgtx.Pipeline(t.Context(), b.pool, "add",
		func(read *pgx.Batch) {
			pgtx.Read(read, func(r struct{ PID int }) { pid = r.PID }, "SELECT pg_backend_pid()")
		},
		func(write *pgx.Batch) error {
			_, err := b.beside.Exec(t.Context(), "SELECT pg_terminate_backend($1, 5000)", pid)
			return errors.Join(err, pipe("x", nil)(write))
		})
	b.requireNotes(t)
	during := pgtx.Pipeline(t.Context(), b.pool, "add", nothing, func(write *pgx.Batch) error {
		write.Queue("SELECT pg_terminate_backend(pg_backend_pid())")
		return pipe("x", nil)(write)
	})
	b.requireNotes(t)
	for name, err := range map[string]error{"before the writes": before, "during the writes": during} {
		require.Error(t, err, name)
		require.True(t, pgtx.Unknown(err), "%s: %v", name, err)
	}
	require.Equal(t, "57P01", pgtx.Code(during), "a server that breaks off does not say what it did before")
	require.True(t, pgtx.Passing(during))
}

func TestARefusedCommitIsNotUnknown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const late = "INSERT INTO notes VALUES ('a', 1), ('b', 1)" // the commit finds out
	canceled, cancel := context.WithCancel(t.Context())
	for name, err := range map[string]error{
		"deferred constraint": pgtx.Run(t.Context(), b.pool, "add",
			func(ctx context.Context, tx pgx.Tx) error {
				_, err := tx.Exec(ctx, late)
				return err
			}),
		"deferred constraint in a pipeline": pgtx.Pipeline(t.Context(), b.pool, "add", nothing,
			func(write *pgx.Batch) error { write.Queue(late); return nil }),
		"an error that was swallowed": pgtx.Run(t.Context(), b.pool, "add",
			func(ctx context.Context, tx pgx.Tx) error {
				_, _ = tx.Exec(ctx, "SELECT 1/0")
				return nil
			}),
		"statement timeout": pgtx.Pipeline(t.Context(), b.pool, "add", nothing, func(write *pgx.Batch) error {
			write.Queue("SET LOCAL statement_timeout = '10ms'")
			write.Queue("SELECT pg_sleep(60)")
			return nil
		}),
		"an argument that does not fit": pgtx.Pipeline(t.Context(), b.pool, "add", nothing,
			func(write *pgx.Batch) error { write.Queue("SELECT $1::int", "many"); return nil }),
		"a statement that does not parse": pgtx.Pipeline(t.Context(), b.pool, "add", nothing,
			func(write *pgx.Batch) error { write.Queue("SELEKT"); return nil }),
		"a caller who left before the writes": pgtx.Pipeline(canceled, b.pool, "add", nothing,
			func(write *pgx.Batch) error { cancel(); return pipe("x", nil)(write) }),
		"a caller who left before the start": pgtx.Run(canceled, b.pool, "add", add("x", nil)),
	} {
		require.Error(t, err, name)
		assert.False(t, pgtx.Unknown(err), "%s: %v", name, err)
	}
	b.requireNotes(t)
}

func TestClasses(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]struct{ raced, busy, broken, passing bool }{
		"":      {},
		"23505": {raced: true, broken: true, passing: true}, // unique
		"40001": {raced: true, passing: true},               // serialization
		"40P01": {raced: true, passing: true},               // deadlock
		"HF001": {raced: true, broken: true, passing: true}, // a row was not reached
		"HF003": {broken: true},                             // illegal move
		"55P03": {busy: true, passing: true},                // lock_timeout
		"23514": {broken: true},                             // check
		"23502": {broken: true},                             // not null
		"22021": {broken: true},                             // NUL in a text
		"22P02": {broken: true},                             // malformed JSON
		"57014": {passing: true},                            // statement_timeout
		"57P01": {passing: true},                            // the server stops
		"08006": {passing: true},                            // connection failure
		"53300": {passing: true},                            // too many connections
		"42P01": {},                                         // undefined table
	} {
		err := errors.Join(errOops, &pgconn.PgError{Code: code})
		assert.Equal(t, code, pgtx.Code(err))
		assert.Equal(t, want.raced, pgtx.Raced(err), code)
		assert.Equal(t, want.busy, pgtx.Busy(err), code)
		assert.Equal(t, want.broken, pgtx.Broken(err), code)
		assert.Equal(t, want.passing, pgtx.Passing(err), code)
		assert.False(t, pgtx.Unknown(err))
	}
	assert.Empty(t, pgtx.Code(errOops))
	assert.Empty(t, pgtx.Code(nil))
}

func TestReadHandsOverEachRow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var numbers []int32
	var read pgx.Batch
	take := func(r struct{ N int32 }) { numbers = append(numbers, r.N) }
	pgtx.Read(&read, take, "SELECT generate_series(1, $1)", 3)
	require.NoError(t, b.pool.SendBatch(t.Context(), &read).Close())
	require.Equal(t, []int32{1, 2, 3}, numbers)

	var wrong pgx.Batch
	pgtx.Read(&wrong, func(struct{ A, B int32 }) { t.Error("took half a row") }, "SELECT 1")
	require.ErrorContains(t, b.pool.SendBatch(t.Context(), &wrong).Close(), "scan row")
}

func TestWriterQueuesAndRefusesResults(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var write pgx.Batch
	w := pgtx.Into(&write)
	_, err := w.Exec(t.Context(), insert, "queued")
	require.NoError(t, err)
	rows, err := w.Query(t.Context(), "SELECT 1") //nolint:sqlclosecheck // there are no rows
	require.Error(t, err)
	require.Nil(t, rows)
	require.Error(t, w.QueryRow(t.Context(), "SELECT 1").Scan())
	require.Equal(t, 1, write.Len())
	b.requireNotes(t)
	require.NoError(t, b.pool.SendBatch(t.Context(), &write).Close())
	b.requireNotes(t, "queued")
}

func TestNullsAndIntervals(t *testing.T) {
	t.Parallel()
	require.Nil(t, pgtx.OrNull(""))
	require.Equal(t, "x", *pgtx.OrNull("x"))
	require.Empty(t, pgtx.OrZero[string](nil))
	seven := 7
	require.Equal(t, 7, pgtx.OrZero(&seven))
	b := setup(t)
	var text string
	require.NoError(t, b.pool.QueryRow(t.Context(), "SELECT $1::interval::text",
		pgtx.Interval(25*time.Hour+1500*time.Millisecond)).Scan(&text))
	require.Equal(t, "25:00:01.5", text)
}
