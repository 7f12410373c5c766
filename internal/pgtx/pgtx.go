// Package pgtx opens transactions, and only here they are opened.
//
// It refuses to hide a failed commit and to let anybody wait on another system inside a
// transaction: the context that it hands on says InTx, and outbound refuses such a context.
//
// Invariant: after Run or Pipeline returned nil the transaction is committed; after an error the
// connection is clean or closed. After an error for which Unknown is true the commit may have
// happened: ask by key, never assume.
//
// The time that a context leaves is the server's limit too, a little less: a statement that takes too long
// ends there, as context.DeadlineExceeded, and the connection stays. With too little left nothing is begun.
package pgtx

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/tracing"
)

type inTxKey struct{}

// InTx says whether ctx belongs to an open transaction.
func InTx(ctx context.Context) bool { return ctx.Value(inTxKey{}) != nil }

// rollbackWait bounds the end of a failed transaction: its own context may have ended, and a server that
// does not answer must not keep anybody.
const rollbackWait = 5 * time.Second

// Run does fn in a transaction called name and commits it if fn returns nil.
func Run(ctx context.Context, pool *pgxpool.Pool, name string, fn func(context.Context, pgx.Tx) error) error {
	ctx, span := tracing.Start(ctx, tracing.Client, name)
	err := inTransaction(ctx, pool, name, fn)
	end(span, err)
	return err
}

func inTransaction(
	ctx context.Context, pool *pgxpool.Pool, name string, fn func(context.Context, pgx.Tx) error,
) error {
	if InTx(ctx) {
		return fmt.Errorf("transaction %s: another one is open in this context", name)
	}
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("transaction %s: acquire connection: %w", name, err)
	}
	defer conn.Release()
	limit, err := serverLimit(ctx)
	if err != nil {
		return fmt.Errorf("transaction %s: not begun: %w", name, err)
	}
	//nolint:forbidigo // the one place that opens transactions
	tx, err := conn.BeginTx(ctx, begin(limit))
	if err != nil {
		return fmt.Errorf("transaction %s: begin: %w", name, err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackWait)
		defer cancel()
		_ = tx.Rollback(ctx) // after a commit it does nothing; if it fails, the pool closes the connection
	}()
	if err := fn(context.WithValue(ctx, inTxKey{}, name), tx); err != nil {
		return fmt.Errorf("transaction %s: %w", name, overdue(ctx, limit, err))
	}
	commit := func() error { return tx.Commit(ctx) }
	if err := finish(ctx, tx.Conn(), commit); err != nil {
		return fmt.Errorf("transaction %s: commit: %w", name, overdue(ctx, limit, err))
	}
	return nil
}

// Pipeline does a transaction in two round trips: begin and all reads, then decide, then all
// writes and the commit. The reads fill what decide looks at through their callbacks; decide calls
// no other system. When decide queues no write, the transaction only ends.
func Pipeline(
	ctx context.Context, pool *pgxpool.Pool, name string,
	read func(*pgx.Batch), decide func(write *pgx.Batch) error,
) error {
	ctx, span := tracing.Start(ctx, tracing.Client, name)
	err := inTwoTrips(ctx, pool, name, read, decide)
	end(span, err)
	return err
}

func inTwoTrips(
	ctx context.Context, pool *pgxpool.Pool, name string,
	read func(*pgx.Batch), decide func(write *pgx.Batch) error,
) error {
	if InTx(ctx) {
		return fmt.Errorf("transaction %s: another one is open in this context", name)
	}
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("transaction %s: acquire connection: %w", name, err)
	}
	defer conn.Release()
	limit, err := serverLimit(ctx)
	if err != nil {
		return fmt.Errorf("transaction %s: not begun: %w", name, err)
	}
	var reads, writes pgx.Batch
	queueBegin(&reads, limit)
	read(&reads)
	err = conn.SendBatch(ctx, &reads).Close()
	if err == nil {
		err = decide(&writes)
	}
	if err != nil {
		err = errors.Join(overdue(ctx, limit, err), rollback(ctx, conn))
		return fmt.Errorf("transaction %s: %w", name, err)
	}
	writes.Queue("commit")
	commit := func() error { return conn.SendBatch(ctx, &writes).Close() }
	if err := finish(ctx, conn.Conn(), commit); err != nil {
		err = errors.Join(overdue(ctx, limit, err), rollback(ctx, conn))
		return fmt.Errorf("transaction %s: %w", name, err)
	}
	return nil
}

// end ends the span of a transaction, which has the wait for a connection in it.
func end(span tracing.Span, err error) {
	if !span.On() {
		return
	}
	span.Text("db.system.name", "postgresql")
	span.Text("db.response.status_code", Code(err))
	span.End(err)
}

// rollback ends a failed transaction; a connection that cannot do that is closed by the pool.
func rollback(ctx context.Context, conn *pgxpool.Conn) error {
	if conn.Conn().IsClosed() || conn.Conn().PgConn().TxStatus() == 'I' {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackWait)
	defer cancel()
	if _, err := conn.Exec(ctx, "rollback"); err != nil {
		return fmt.Errorf("roll back: %w", err)
	}
	return nil
}

// unknownError marks a commit whose reply did not come.
type unknownError struct{ err error }

func (e *unknownError) Error() string { return "outcome unknown: " + e.err.Error() }
func (e *unknownError) Unwrap() error { return e.err }

// Unknown says that the transaction may have committed although an error came back.
func Unknown(err error) bool {
	_, unknown := errors.AsType[*unknownError](err)
	return unknown
}

// finish sends a commit. Its error is unknown unless it says that nothing was committed: the commit was
// never sent, or the server refused it. pgconn.SafeToRetry is no help: pgx calls a connection that broke
// while it waited for the reply of a plain statement "closed", and that safe.
func finish(ctx context.Context, conn *pgx.Conn, commit func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if conn.IsClosed() {
		return errClosed
	}
	err := commit()
	_, unsent := errors.AsType[pgx.ErrPreprocessingBatch](err)
	if err == nil || unsent || errors.Is(err, pgx.ErrTxCommitRollback) || refused(err) {
		return err
	}
	return &unknownError{err}
}

var errClosed = errors.New("connection is closed")

// refused says that the server took the transaction back. A server that broke off the connection, or
// crashed, says nothing: it may have written the commit before.
func refused(err error) bool {
	pg, answered := errors.AsType[*pgconn.PgError](err)
	return answered && pg.SeverityUnlocalized != "FATAL" && pg.SeverityUnlocalized != "PANIC" &&
		!strings.HasPrefix(pg.Code, classConnection)
}

// SQLSTATEs that this program tells apart; see the PostgreSQL manual, appendix A.
const (
	CodeUniqueViolation = "23505"
	// CodeForeignKeyViolation says that a row that is named does not exist.
	CodeForeignKeyViolation = "23503"
	codeSerialization       = "40001"
	codeDeadlock            = "40P01"
	codeLockTimeout         = "55P03"
	codeCanceled            = "57014" // by statement_timeout, or at the wish of the client
	codeRowsMissed          = "HF001" // raised by our assert_rows

	classConnection   = "08"
	classData         = "22"
	classIntegrity    = "23"
	classResources    = "53"
	classIntervention = "57" // an operator's, and statement_timeout
	classOurs         = "HF"
)

// Code gives the SQLSTATE of a server error, or "".
func Code(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}

// Raced says that another transaction got in between: doing the whole thing again decides on what
// is there now.
func Raced(err error) bool {
	switch Code(err) {
	case CodeUniqueViolation, codeSerialization, codeDeadlock, codeRowsMissed:
		return true
	}
	return false
}

// Busy says that a row stayed locked for longer than lock_timeout.
func Busy(err error) bool { return Code(err) == codeLockTimeout }

// Unconnected says that no connection could be made, for whatever reason: nothing was asked.
func Unconnected(err error) bool {
	_, ok := errors.AsType[*pgconn.ConnectError](err)
	return ok
}

// Passing says that the error is one of the moment: others were in the way, or the server was not itself.
// What the transaction does is not at fault, and the same may succeed later.
func Passing(err error) bool {
	return Raced(err) || Busy(err) || Unknown(err) ||
		ofClass(err, classConnection, classResources, classIntervention)
}

// Broken says that a data error of one item spoiled the transaction, so that its neighbours may be
// tried without it.
func Broken(err error) bool { return ofClass(err, classData, classIntegrity, classOurs) }

func ofClass(err error, classes ...string) bool {
	code := Code(err)
	return slices.ContainsFunc(classes, func(class string) bool { return strings.HasPrefix(code, class) })
}
