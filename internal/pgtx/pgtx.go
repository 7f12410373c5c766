// Package pgtx opens transactions, and only here they are opened.
//
// It refuses to hide a failed commit and to let anybody wait on another system inside a
// transaction: the context that it hands on says InTx, and outbound refuses such a context.
//
// Invariant: after Run or Pipeline returned nil the transaction is committed; after an error the
// connection is clean or closed. After an error for which Unknown is true the commit may have
// happened: ask by key, never assume.
package pgtx

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

type inTxKey struct{}

// InTx says whether ctx belongs to an open transaction.
func InTx(ctx context.Context) bool { return ctx.Value(inTxKey{}) != nil }

// Run does fn in a transaction called name and commits it if fn returns nil.
func Run(ctx context.Context, pool *pgxpool.Pool, name string, fn func(context.Context, pgx.Tx) error) error {
	if InTx(ctx) {
		return fmt.Errorf("transaction %s: another one is open in this context", name)
	}
	//nolint:forbidigo // the one place that opens transactions
	tx, err := pool.Begin(ctx)
	if err != nil {
		return fmt.Errorf("transaction %s: begin: %w", name, err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if err := fn(context.WithValue(ctx, inTxKey{}, name), tx); err != nil {
		return fmt.Errorf("transaction %s: %w", name, err)
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("transaction %s: %w", name, &unknownError{err})
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
	if InTx(ctx) {
		return fmt.Errorf("transaction %s: another one is open in this context", name)
	}
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("transaction %s: acquire connection: %w", name, err)
	}
	defer conn.Release()
	var reads, writes pgx.Batch
	reads.Queue("begin")
	read(&reads)
	err = conn.SendBatch(ctx, &reads).Close()
	if err == nil {
		err = decide(&writes)
	}
	if err != nil {
		return fmt.Errorf("transaction %s: %w", name, errors.Join(err, rollback(ctx, conn)))
	}
	writes.Queue("commit")
	if err := conn.SendBatch(ctx, &writes).Close(); err != nil {
		if lost(err) {
			err = &unknownError{err}
		}
		return fmt.Errorf("transaction %s: %w", name, errors.Join(err, rollback(ctx, conn)))
	}
	return nil
}

// rollback ends a failed transaction; a connection that cannot do that is closed by the pool.
func rollback(ctx context.Context, conn *pgxpool.Conn) error {
	if conn.Conn().IsClosed() || conn.Conn().PgConn().TxStatus() == 'I' {
		return nil
	}
	_, err := conn.Exec(context.WithoutCancel(ctx), "rollback")
	return err
}

// unknownError marks a commit whose reply did not come.
type unknownError struct{ err error }

func (e *unknownError) Error() string { return "outcome unknown: " + e.err.Error() }
func (e *unknownError) Unwrap() error { return e.err }

// Unknown says that the transaction may have committed although an error came back.
func Unknown(err error) bool {
	var u *unknownError
	return errors.As(err, &u)
}

// SQLSTATEs that this program tells apart; see the PostgreSQL manual, appendix A.
const (
	CodeUniqueViolation = "23505"
	codeCheckViolation  = "23514"
	codeSerialization   = "40001"
	codeDeadlock        = "40P01"
	codeLockTimeout     = "55P03"
	codeRowsMissed      = "HF001" // raised by our assert_rows
)

// Code gives the SQLSTATE of a server error, or "".
func Code(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
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

// Broken says that a data error of one item spoiled the transaction, so that its neighbours may be
// tried without it.
func Broken(err error) bool {
	code := Code(err)
	return len(code) == 5 && (code[:2] == "22" || code[:2] == "23" || code[:2] == "HF" || code == codeCheckViolation)
}

// lost says that the connection failed, so that nobody knows what the server did.
func lost(err error) bool {
	code := Code(err)
	return code == "" || code[:2] == "08" || code[:2] == "57"
}
