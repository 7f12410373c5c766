package order_test

import (
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/groupcommit"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/telemetry"
	"example.com/holdfast/internal/transfer/transfertest"
)

func TestABatchThatStallsRefusesThoseBehindItAtOnce(t *testing.T) {
	t.Parallel()
	w := patient(t)
	s := order.NewService(order.Config{
		Pool: w.Pool, Metrics: telemetry.New(), Log: slog.New(slog.DiscardHandler), Instance: "bounded",
		AcceptWaitMax: time.Nanosecond,
		Now:           time.Now, //nolint:forbidigo // a test waits by the real clock
	})
	s.Start(t.Context())
	t.Cleanup(s.Stop)
	release := w.lock(t, "LOCK TABLE orders IN EXCLUSIVE MODE")
	var first sync.WaitGroup
	first.Go(func() {
		_, err := s.Create(t.Context(), w.Request("k1", w.Item(1)))
		assert.NoError(t, err)
	})
	transfertest.Eventually(t, "a statement that waits for the lock", func() bool {
		return w.Count(t, `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock'`) == 1
	})
	_, err := s.Create(t.Context(), w.Request("k2", w.Item(1)))
	require.ErrorIs(t, err, groupcommit.ErrFull)
	release()
	first.Wait()
	response, err := s.Create(t.Context(), w.Request("k2", w.Item(1)))
	require.NoError(t, err)
	require.False(t, response.Replayed, "nothing had happened")
}
