package app_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/app"
	"example.com/holdfast/internal/config"
	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/slots"
)

// placesWait bounds the wait until leases are shared.
const placesWait = 30 * time.Second

func TestWorkersShareTheLimitsOfTheDependencies(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	var workers []*app.Worker
	for range 2 {
		cfg, err := config.Load([]string{
			"DATABASE_URL=" + db.URL, "HOLDFAST_LOG_LEVEL=error",
			"HOLDFAST_RISK_URL=http://127.0.0.1:1", "HOLDFAST_NOTIFY_URL=http://127.0.0.1:1",
			"HOLDFAST_PAYOUT_URL=http://127.0.0.1:1",
		})
		require.NoError(t, err)
		env, err := app.NewEnv(cfg, "test")
		require.NoError(t, err)
		w, err := app.NewWorker(t.Context(), cfg, env, app.Transports{})
		require.NoError(t, err)
		require.NoError(t, w.Start(t.Context()))
		workers = append(workers, w)
	}
	held := func(want ...[]int) func() bool {
		return func() bool {
			limits, err := slots.Limits(t.Context(), db.Pool)
			require.NoError(t, err)
			got := make([][]int, len(limits))
			for i, l := range limits {
				for _, h := range l.Holdings {
					got[i] = append(got[i], h.Slots)
				}
			}
			return slices.EqualFunc(got, want, slices.Equal[[]int])
		}
	}
	require.Eventually(t, held([]int{10, 10}, []int{4, 4}, []int{4, 4}), placesWait, 10*time.Millisecond)
	_, err := slots.SetLimit(t.Context(), db.Pool, slots.Change{
		Dependency: "risk_api", Places: 2, Actor: "test", Reason: "the risk service asks for less",
	})
	require.NoError(t, err)
	require.Eventually(t, held([]int{10, 10}, []int{4, 4}, []int{1, 1}), placesWait, 10*time.Millisecond)
	require.NoError(t, workers[0].Stop(context.WithoutCancel(t.Context())))
	require.Eventually(t, held([]int{20}, []int{8}, []int{2}), placesWait, 10*time.Millisecond)
	require.NoError(t, workers[1].Stop(context.WithoutCancel(t.Context())))
	require.True(t, held(nil, nil, nil)())
}
