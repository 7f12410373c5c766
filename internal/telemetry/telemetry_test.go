package telemetry_test

import (
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/telemetry"
)

func gather(t *testing.T, m *telemetry.Metrics) map[string]*dto.MetricFamily {
	t.Helper()
	families, err := m.Registry().Gather()
	require.NoError(t, err)
	byName := map[string]*dto.MetricFamily{}
	for _, f := range families {
		byName[f.GetName()] = f
	}
	return byName
}

func TestAnAcceptedTransferIsCountedButHasNoCompletionTime(t *testing.T) {
	t.Parallel()
	m := telemetry.New()
	m.TransferMoved("accepted", "", 0)
	m.TransferMoved("settled", "", 20*time.Millisecond)
	m.TransferMoved("expired", "deadline_exhausted", time.Minute)
	got := gather(t, m)
	require.Len(t, got["holdfast_transfers_total"].GetMetric(), 3)
	times := got["holdfast_transfer_completion_seconds"].GetMetric()
	require.Len(t, times, 2)
	for _, series := range times {
		require.EqualValues(t, 1, series.GetHistogram().GetSampleCount())
	}
}

func TestAPlacedOrderIsCountedButHasNoCompletionTime(t *testing.T) {
	t.Parallel()
	m := telemetry.New()
	m.OrderMoved("pending", "", 0)
	m.OrderMoved("confirmed", "", 20*time.Millisecond)
	m.OrderMoved("canceled", "stock", time.Minute)
	got := gather(t, m)
	require.Len(t, got["holdfast_orders_total"].GetMetric(), 3)
	require.Len(t, got["holdfast_order_completion_seconds"].GetMetric(), 2)
}

func TestEveryCounterCounts(t *testing.T) {
	t.Parallel()
	m := telemetry.New()
	m.StaleMove()
	m.StepFailed()
	m.OrderStepFailed()
	m.IllegalMove("settled", "cancel")
	m.Swept(3)
	m.Reaped(4)
	m.Shed("queue_age")
	m.BatchSize("accept", 7)
	m.Call("risk_api", "screen", "ok", time.Millisecond)
	m.Request("GET /v1/transfers", "200", time.Millisecond)
	got := gather(t, m)
	for name, want := range map[string]float64{
		"holdfast_stale_moves_total":           1,
		"holdfast_transfer_steps_failed_total": 1,
		"holdfast_order_steps_failed_total":    1,
		"holdfast_transition_rejections_total": 1,
		"holdfast_sweeper_woken_total":         3,
		"holdfast_reaper_jobs_total":           4,
		"holdfast_requests_shed_total":         1,
		"holdfast_dependency_calls_total":      1,
	} {
		require.Contains(t, got, name)
		require.InDelta(t, want, got[name].GetMetric()[0].GetCounter().GetValue(), 0, name)
	}
	for _, name := range []string{
		"holdfast_group_commit_batch_items", "holdfast_dependency_call_seconds",
		"holdfast_http_request_seconds",
	} {
		require.Contains(t, got, name)
		require.EqualValues(t, 1, got[name].GetMetric()[0].GetHistogram().GetSampleCount(), name)
	}
}
