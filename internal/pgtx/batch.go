package pgtx

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// Writer lets a generated query without a result take its place in a batch: the statement is queued
// and does its work, or stops the batch, when the batch is sent.
type Writer struct{ batch *pgx.Batch }

// Into makes a Writer that queues into batch.
func Into(batch *pgx.Batch) Writer { return Writer{batch} }

// Exec queues the statement. Its effect and its error come with the batch.
func (w Writer) Exec(_ context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	w.batch.Queue(sql, args...)
	return pgconn.CommandTag{}, nil
}

var errNotQueued = errors.New("a query with a result is queued by pgtx.Read")

// Query refuses: a result cannot be awaited before the batch is sent.
func (w Writer) Query(context.Context, string, ...any) (pgx.Rows, error) { return nil, errNotQueued }

// QueryRow refuses like Query.
func (w Writer) QueryRow(context.Context, string, ...any) pgx.Row { return refusedRow{} }

type refusedRow struct{}

func (refusedRow) Scan(...any) error { return errNotQueued }

// Read queues a query whose rows have the fields of Row, in their order, and hands each to take when
// the batch is sent.
func Read[Row any](batch *pgx.Batch, take func(Row), sql string, args ...any) {
	batch.Queue(sql, args...).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			row, err := pgx.RowToStructByPos[Row](rows)
			if err != nil {
				return fmt.Errorf("scan row: %w", err)
			}
			take(row)
		}
		return rows.Err()
	})
}

// Interval is a duration as Postgres takes it.
func Interval(d time.Duration) pgtype.Interval {
	return pgtype.Interval{Microseconds: d.Microseconds(), Valid: true}
}

// OrNull is nil for the zero value, so that it becomes NULL.
func OrNull[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// OrZero is the zero value for nil.
func OrZero[T any](v *T) T {
	if v == nil {
		var zero T
		return zero
	}
	return *v
}
