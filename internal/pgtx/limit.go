package pgtx

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"example.com/holdfast/internal/budget"
)

const (
	// StatementMax is how long the server lets a statement run whose caller has more time. It is the
	// statement_timeout of the pools.
	StatementMax = 5 * time.Second
	// statementMin is the least time in which a transaction is begun.
	statementMin = 5 * time.Millisecond
)

// serverLimit is how long the server may take for a statement on behalf of ctx: zero if that is not less than
// StatementMax. The server ends the statement before ctx ends, since a client that stops waiting by itself
// has to throw its connection away. A wait for a lock is a part of a statement, so lock_timeout needs no
// limit of its own.
func serverLimit(ctx context.Context) (time.Duration, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0, nil
	}
	left := budget.HandOn(time.Until(deadline)) // of the clock that the deadline was made by
	if left >= StatementMax {
		return 0, nil
	}
	if left < statementMin {
		return 0, fmt.Errorf("%w: less than %s left", context.DeadlineExceeded, budget.Margin+statementMin)
	}
	return left.Truncate(time.Millisecond), nil
}

// begin is how a transaction begins with a limit for each of its statements, in one round trip.
func begin(limit time.Duration) pgx.TxOptions {
	if limit == 0 {
		return pgx.TxOptions{}
	}
	return pgx.TxOptions{BeginQuery: "begin; set local statement_timeout = " + milliseconds(limit)}
}

// queueBegin is begin for a batch. Its statement is one for all limits, so that a connection prepares it
// once.
func queueBegin(reads *pgx.Batch, limit time.Duration) {
	reads.Queue("begin")
	if limit > 0 {
		reads.Queue("select set_config('statement_timeout', $1, true)", milliseconds(limit))
	}
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// overdue makes an error match the end of the caller's time if the server stopped a statement for it.
func overdue(ctx context.Context, limit time.Duration, err error) error {
	if Code(err) != codeCanceled {
		return err
	}
	if ended := ctx.Err(); ended != nil {
		return fmt.Errorf("%w: %w", ended, err)
	}
	if limit > 0 {
		return fmt.Errorf("%w: the server had %s: %w", context.DeadlineExceeded, limit, err)
	}
	return err
}

// cancelWait is how long a connection may take to come back after the server was asked to cancel: a server
// that does not answer at all must not keep the caller much longer.
const cancelWait = 250 * time.Millisecond

// CancelOnServer lets a context that ends cancel the statement on the server, and keep the connection. It
// is for statements outside transactions; those inside end by their limit before. It is not for a
// connection that listens: there the end of a wait would take cancelWait.
func CancelOnServer(cfg *pgconn.Config) {
	cfg.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: cancelWait}
	}
}
