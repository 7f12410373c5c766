package transfer_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/groupcommit"
	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/internal/transfer/transfertest"
)

// bounded is a service whose requests wait for no batch that is late.
func (w world) bounded(t *testing.T, waitMax time.Duration) *transfer.Service {
	t.Helper()
	cfg := w.Config(t, "bounded")
	cfg.Pool, cfg.AcceptWaitMax = transfertest.OpenPool(t, w.DB.URL), waitMax
	s := transfer.NewService(cfg)
	s.Start(t.Context())
	t.Cleanup(s.Stop)
	return s
}

// stall lets somebody else hold the payer's balance. The second function waits until so many of ours wait.
func (w world) stall(t *testing.T) (func(), func(int64)) {
	t.Helper()
	tx, err := w.DB.Pool.Begin(t.Context()) //nolint:forbidigo // somebody else's transaction
	require.NoError(t, err)
	release := func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }
	t.Cleanup(release)
	_, err = tx.Exec(t.Context(), "SELECT FROM balances WHERE account_id = $1 FOR UPDATE", w.From)
	require.NoError(t, err)
	return release, func(waiting int64) {
		transfertest.Eventually(t, "statements that wait for the lock", func() bool {
			return waiting == w.Count(t, `SELECT count(*) FROM pg_stat_activity
				WHERE datname = current_database() AND wait_event_type = 'Lock'`)
		})
	}
}

func TestABatchThatStallsRefusesThoseBehindItAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.bounded(t, time.Nanosecond)
	other := w.Item(1)
	other.FromAccount = w.Account(t, 10)
	release, stalled := w.stall(t)
	var first sync.WaitGroup
	first.Go(func() {
		_, err := s.Create(t.Context(), w.Request("k1", w.Item(1)))
		assert.NoError(t, err)
	})
	stalled(1)
	_, err := s.Create(t.Context(), w.Request("k2", other))
	require.ErrorIs(t, err, groupcommit.ErrFull)
	release()
	first.Wait()
	response, err := s.Create(t.Context(), w.Request("k2", other))
	require.NoError(t, err)
	require.False(t, response.Replayed, "nothing had happened")
	w.CheckInvariants(t)
}

// shortly is a client who does not wait for long.
func shortly(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func TestWhatEndsWorkIsNeverRefusedForItsWait(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.bounded(t, time.Nanosecond)
	one, two := w.Create(t, "k1", 1), w.Create(t, "k2", 1)
	release, stalled := w.stall(t)
	var first sync.WaitGroup
	first.Go(func() {
		_, err := s.Act(t.Context(), w.Action("c1", one, transfer.Cancel, ""))
		assert.NoError(t, err)
	})
	stalled(1)
	_, err := s.Act(shortly(t), w.Action("c2", two, transfer.Cancel, ""))
	require.ErrorIs(t, err, context.DeadlineExceeded, "it waits for as long as its client does")
	release()
	first.Wait()
	_, err = s.Act(t.Context(), w.Action("c2", two, transfer.Cancel, ""))
	require.NoError(t, err)
	require.Equal(t, transfer.Canceled, w.Get(t, two).State)
}

func TestForAClientWhoHasLeftNothingIsBegun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.bounded(t, 0)
	release, stalled := w.stall(t)
	var first sync.WaitGroup
	first.Go(func() {
		_, err := s.Create(t.Context(), w.Request("k1", w.Item(1)))
		assert.NoError(t, err)
	})
	stalled(1)
	_, err := s.Create(shortly(t), w.Request("k2", w.Item(1)))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	release()
	first.Wait()
	_, err = s.Create(t.Context(), w.Request("k3", w.Item(1)))
	require.NoError(t, err)
	require.EqualValues(t, 2, w.Count(t, "SELECT count(*) FROM transfers"))
	require.Zero(t, w.Count(t, "SELECT count(*) FROM idempotency_keys WHERE key = 'k2'"), "its key is free")
}
