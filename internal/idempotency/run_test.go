package idempotency

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/problem"
)

const (
	callers = 50
	// lockTimeout is how long the pool of a test waits for a row.
	lockTimeout = "50ms"
)

// bundle is a database in which effects can be counted.
type bundle struct {
	pool  *pgxpool.Pool
	keyed Keyed
}

func setup(t *testing.T) bundle {
	t.Helper()
	db := pgtest.DB(t)
	cfg, err := pgxpool.ParseConfig(db.URL)
	require.NoError(t, err)
	cfg.ConnConfig.RuntimeParams["lock_timeout"] = lockTimeout
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	_, err = pool.Exec(t.Context(), "CREATE TABLE effects (n int)")
	require.NoError(t, err)
	return bundle{pool, Keyed{
		Key: Key{TenantID: uuid.New(), Key: "key", Hash: Hash("POST", "/", "1", []byte("body"))},
		Refuse: func(p *problem.Error) Response {
			return Response{Status: problem.MeaningOf(p.Code).Status, Body: []byte(p.Detail)}
		},
	}}
}

func (b bundle) run(t *testing.T, work Work) (Response, error) {
	t.Helper()
	return Run(t.Context(), b.pool, "test", b.keyed, work)
}

// effect leaves a row, and a response that differs each time.
func effect(ctx context.Context, tx pgx.Tx, _ time.Time) (Response, error) {
	_, err := tx.Exec(ctx, "INSERT INTO effects VALUES (1)")
	return Response{Status: 201, Location: "/effects", Body: []byte(uuid.NewString())}, err
}

func (b bundle) requireEffects(t *testing.T, effects, keys int) {
	t.Helper()
	require.Equal(t, effects, count(t, b.pool, "effects"))
	require.Equal(t, keys, count(t, b.pool, "idempotency_keys"))
}

func TestOneKeyOneEffectOneAnswer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var group sync.WaitGroup
	responses := make([]Response, callers)
	for i := range responses {
		group.Go(func() {
			r, err := b.run(t, effect)
			for problem.Is(err, problem.KeyInProgress) { // as a client does that is told to come back
				r, err = b.run(t, effect)
			}
			assert.NoError(t, err)
			responses[i] = r
		})
	}
	group.Wait()
	b.requireEffects(t, 1, 1)
	fresh := 0
	for _, r := range responses {
		if !r.Replayed {
			fresh++
		}
		r.Replayed = responses[0].Replayed
		require.Equal(t, responses[0], r)
	}
	require.Equal(t, 1, fresh, "all but one are replays")
}

func TestAKeyBelongsToOneRequest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.run(t, effect)
	require.NoError(t, err)
	b.keyed.Hash = Hash("POST", "/", "1", []byte("another body"))
	_, err = b.run(t, effect)
	require.True(t, problem.Is(err, problem.KeyReused), "%v", err)
	b.keyed.TenantID = uuid.New()
	r, err := b.run(t, effect)
	require.NoError(t, err)
	require.False(t, r.Replayed, "another tenant's key is another key")
	b.requireEffects(t, 2, 2)
}

func TestARefusalIsStoredAndItsWritesAreNot(t *testing.T) {
	t.Parallel()
	b := setup(t)
	calls := 0
	refuse := func(ctx context.Context, tx pgx.Tx, now time.Time) (Response, error) {
		calls++
		_, err := effect(ctx, tx, now)
		return Response{}, errors.Join(err, problem.New(problem.InsufficientFunds, "No funds."))
	}
	want := Response{Status: 422, Body: []byte("No funds.")}
	first, err := b.run(t, refuse)
	require.NoError(t, err)
	require.Equal(t, want, first)
	b.requireEffects(t, 0, 1)
	again, err := b.run(t, effect)
	require.NoError(t, err)
	want.Replayed = true
	require.Equal(t, want, again, "the state changed, the answer does not")
	require.Equal(t, 1, calls)
}

func TestARefusalAfterABrokenStatementIsStored(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r, err := b.run(t, func(ctx context.Context, tx pgx.Tx, _ time.Time) (Response, error) {
		_, err := tx.Exec(ctx, "SELECT 1/0")
		return Response{}, problem.Wrap(problem.BalanceOverflow, err, "Too much.")
	})
	require.NoError(t, err)
	require.Equal(t, 422, r.Status)
	b.requireEffects(t, 0, 1)
}

func TestWhatSaysNothingAboutTheRequestLeavesNoKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, failure := range map[string]error{
		"our own failure": errors.New("out of cheese"),
		"not valid":       problem.Invalid("/amount", "is odd"),
		"not found":       problem.New(problem.NotFound, "Nothing there."),
		"overloaded":      problem.New(problem.Overloaded, "Later."),
	} {
		_, err := b.run(t, func(ctx context.Context, tx pgx.Tx, now time.Time) (Response, error) {
			_, err := effect(ctx, tx, now)
			return Response{}, errors.Join(err, failure)
		})
		require.ErrorIs(t, err, failure, name)
		b.requireEffects(t, 0, 0)
	}
	_, err := b.run(t, effect)
	require.NoError(t, err, "the key is still free")
	b.requireEffects(t, 1, 1)
}

func TestACallerWhoseTwinIsAtWorkComesBackLater(t *testing.T) {
	t.Parallel()
	b := setup(t)
	stored, finish := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	go func() {
		first <- pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
			_, err := once(t.Context(), tx, b.keyed, effect)
			close(stored)
			<-finish
			return err
		})
	}()
	<-stored
	_, err := b.run(t, effect)
	close(finish)
	require.NoError(t, <-first)
	p := problem.Of(err)
	require.Equal(t, problem.KeyInProgress, p.Code)
	require.Equal(t, retryAfterBusy, p.RetryAfter)
	r, err := b.run(t, effect)
	require.NoError(t, err)
	require.True(t, r.Replayed)
	b.requireEffects(t, 1, 1)
}

func TestARowThatStaysLockedIsUnavailable(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, pgx.BeginFunc(t.Context(), b.pool, func(other pgx.Tx) error {
		_, err := other.Exec(t.Context(), "LOCK TABLE effects")
		require.NoError(t, err)
		_, err = b.run(t, effect)
		p := problem.Of(err)
		require.Equal(t, problem.Unavailable, p.Code)
		require.Equal(t, retryAfterBusy, p.RetryAfter)
		return nil
	}))
	b.requireEffects(t, 0, 0)
}

func TestARaceIsRunAgainAFewTimes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var calls atomic.Int64
	race := func(losses int64) Work {
		calls.Store(0)
		return func(ctx context.Context, tx pgx.Tx, now time.Time) (Response, error) {
			if calls.Add(1) <= losses {
				_, err := effect(ctx, tx, now)
				return Response{}, errors.Join(err, &pgconn.PgError{Code: "40001"})
			}
			return effect(ctx, tx, now)
		}
	}
	_, err := b.run(t, race(runAttempts))
	require.Error(t, err)
	require.EqualValues(t, runAttempts, calls.Load())
	b.requireEffects(t, 0, 0)
	r, err := b.run(t, race(runAttempts-1))
	require.NoError(t, err)
	require.False(t, r.Replayed)
	b.requireEffects(t, 1, 1)
}

func TestWorkIsToldPostgresTime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.run(t, func(ctx context.Context, tx pgx.Tx, now time.Time) (Response, error) {
		var from, to time.Time
		const sql = "SELECT now(), clock_timestamp()"
		if err := tx.QueryRow(ctx, sql).Scan(&from, &to); err != nil {
			return Response{}, err
		}
		require.False(t, now.Before(from) || now.After(to), "%s is not in the transaction", now)
		return effect(ctx, tx, now)
	})
	require.NoError(t, err)
}
