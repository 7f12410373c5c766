package idempotency

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/problem"
)

// runAttempts is how often Run begins again after another transaction got in between.
const runAttempts = 3

// retryAfterBusy is what a caller is told to wait when a row stayed locked.
const retryAfterBusy = time.Second

// Work does a keyed request in a transaction. It returns the response to store, or a problem; what
// it wrote before a problem is rolled back.
type Work func(ctx context.Context, tx pgx.Tx, now time.Time) (Response, error)

// Run does work once per key, in one transaction with the stored response. A refusal that is decided
// on the state of things is stored like a success; any other error leaves no trace of the key. Work
// may be called again after its writes were rolled back. The lock_timeout of the pool bounds every wait.
func Run(ctx context.Context, pool *pgxpool.Pool, name string, k Keyed, work Work) (Response, error) {
	var response Response
	var err error
	for range runAttempts {
		err = pgtx.Run(ctx, pool, name, func(ctx context.Context, tx pgx.Tx) error {
			var err error
			response, err = once(ctx, tx, k, work)
			return err
		})
		if !pgtx.Raced(err) {
			break
		}
	}
	if pgtx.Busy(err) && problem.Of(err).Code == problem.Internal {
		return Response{}, busy(err)
	}
	if err != nil {
		return Response{}, err
	}
	return response, nil
}

// busy is the answer when a row that the work needs stayed locked, by this request's twin or another.
func busy(err error) error {
	p := problem.Wrap(problem.Unavailable, err, "Something that the request needs is in use.")
	p.RetryAfter = retryAfterBusy
	return p
}

func once(ctx context.Context, tx pgx.Tx, k Keyed, work Work) (Response, error) {
	var read, write pgx.Batch
	var now time.Time
	keys := Open(&read, []Key{k.Key})
	pgtx.Read(&read, func(r struct{ Now time.Time }) { now = r.Now }, "SELECT clock_timestamp()")
	if err := tx.SendBatch(ctx, &read).Close(); err != nil {
		return Response{}, fmt.Errorf("find key: %w", err)
	}
	if response, found, err := keys.Find(k.Key); found || err != nil {
		return response, err
	}
	response, err := attempt(ctx, tx, k, now, work)
	if err != nil {
		return Response{}, err
	}
	keys.Store(k.Key, response)
	if err := keys.Write(ctx, &write, now); err != nil {
		return Response{}, err
	}
	if err := tx.SendBatch(ctx, &write).Close(); err != nil {
		if pgtx.Busy(err) {
			return Response{}, InProgress(err)
		}
		return Response{}, fmt.Errorf("store key: %w", err)
	}
	return response, nil
}

// attempt does the work under a savepoint, so that a refusal leaves nothing but its stored response.
func attempt(ctx context.Context, tx pgx.Tx, k Keyed, now time.Time, work Work) (Response, error) {
	savepoint, err := tx.Begin(ctx)
	if err != nil {
		return Response{}, fmt.Errorf("set savepoint: %w", err)
	}
	response, err := work(ctx, savepoint, now)
	var refused *problem.Error
	if errors.As(err, &refused) && problem.MeaningOf(refused.Code).Stored {
		return k.Refuse(refused), savepoint.Rollback(ctx)
	}
	if err != nil {
		return Response{}, err
	}
	return response, savepoint.Commit(ctx)
}

// InProgress is the answer to a request whose key another transaction is storing for longer than
// anybody waits.
func InProgress(err error) error {
	p := problem.Wrap(problem.KeyInProgress, err, "The first request with this key is still in progress.")
	p.RetryAfter = retryAfterBusy
	return p
}
