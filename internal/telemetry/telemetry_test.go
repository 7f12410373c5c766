package telemetry_test

import (
	"slices"
	"strconv"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/condition"
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
	m.Shed("admission")
	m.BatchSize("accept", 7)
	m.Call("risk_api", "screen", "ok", time.Millisecond)
	m.Request("GET /v1/transfers", "200", time.Millisecond)
	m.SinkRound("broker", 5, true)
	m.WebhookAttempt("event", "delivered")
	m.WebhookDied(2)
	m.WebhookDisabled()
	m.WebhookDelivered(time.Second)
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
		"holdfast_sink_events_total":           5,
		"holdfast_webhook_attempts_total":      1,
		"holdfast_webhook_died_total":          2,
		"holdfast_webhook_disabled_total":      1,
	} {
		require.Contains(t, got, name)
		require.InDelta(t, want, got[name].GetMetric()[0].GetCounter().GetValue(), 0, name)
	}
	for _, name := range []string{
		"holdfast_group_commit_batch_items", "holdfast_dependency_call_seconds",
		"holdfast_webhook_delivery_seconds",
		"holdfast_http_request_seconds",
	} {
		require.Contains(t, got, name)
		require.EqualValues(t, 1, got[name].GetMetric()[0].GetHistogram().GetSampleCount(), name)
	}
}

func TestDependenciesAreReadWhenTheyAreScraped(t *testing.T) {
	t.Parallel()
	m := telemetry.New()
	state := telemetry.Dependency{
		Name: "risk_api", InFlight: 3, Waiting: 2, Limit: 4, Cap: 8, BreakerOpen: true, Saturated: true,
	}
	second := telemetry.Dependency{Name: "risk_api", Limit: 8, Cap: 8}
	other := telemetry.Dependency{Name: "other", Cap: 1}
	for _, d := range []*telemetry.Dependency{&state, &second, &other} {
		m.WatchDependency(func() telemetry.Dependency { return *d })
	}
	value := func(name, dependency string) float64 {
		for _, series := range gather(t, m)["holdfast_"+name].GetMetric() {
			if series.GetLabel()[0].GetValue() == dependency {
				return series.GetGauge().GetValue()
			}
		}
		t.Fatalf("no %s of %s", name, dependency)
		return 0
	}
	for name, want := range map[string]float64{
		"dependency_in_flight": 3, "dependency_waiting": 2, "dependency_limit": 12, "dependency_cap": 16,
		"dependency_breaker_open": 1, "dependency_saturated": 1,
	} {
		require.InDelta(t, want, value(name, "risk_api"), 0, "%s: clients of one dependency add up", name)
	}
	require.InDelta(t, 0, value("dependency_breaker_open", "other"), 0)
	state.BreakerOpen = false
	require.InDelta(t, 0, value("dependency_breaker_open", "risk_api"), 0)
}

func TestAConditionIsThereWhileItHolds(t *testing.T) {
	t.Parallel()
	m := telemetry.New()
	active := []condition.Active{{Condition: condition.BreakerOpen, Subject: "risk_api"}}
	for range 2 { // two that say the same make one series
		m.WatchConditions(func() []condition.Active { return active })
	}
	series := gather(t, m)["holdfast_condition_active"].GetMetric()
	require.Len(t, series, 1)
	require.Equal(t, []string{"breaker_open", "risk_api"},
		[]string{series[0].GetLabel()[0].GetValue(), series[0].GetLabel()[1].GetValue()})
	require.InDelta(t, 1, series[0].GetGauge().GetValue(), 0)
	active = nil
	require.NotContains(t, gather(t, m), "holdfast_condition_active")
}

func TestAttemptsTellFirstTriesFromRepeats(t *testing.T) {
	t.Parallel()
	m := telemetry.New()
	m.Attempt("risk_api", false)
	m.Attempt("risk_api", false)
	m.Attempt("risk_api", true)
	m.Refusal("risk_api", "open")
	got := gather(t, m)
	require.Equal(t, map[string]float64{"false": 2, "true": 1}, map[string]float64{
		"false": got["holdfast_dependency_attempts_total"].GetMetric()[0].GetCounter().GetValue(),
		"true":  got["holdfast_dependency_attempts_total"].GetMetric()[1].GetCounter().GetValue(),
	})
	require.Len(t, got["holdfast_dependency_refusals_total"].GetMetric(), 1)
}

func TestALookIsAskedForAtEachScrape(t *testing.T) {
	t.Parallel()
	m := telemetry.New()
	require.NotContains(t, gather(t, m), "holdfast_outbox_age_seconds", "nobody looks here")
	age := 0.0
	m.WatchLook(func() telemetry.Look {
		age++
		return telemetry.Look{
			Age: age, Ready: map[string][]float64{"risk_api": {7}},
			Promises: map[string]telemetry.OpenPromises{"transfer": {Age: 8, Overdue: 9}},
			Outbox: telemetry.Outbox{
				Age: age, Sinks: map[string]float64{"broker": 2}, Consumers: map[string]float64{"order": 3},
				Mismatch: map[[2]string]int{{"order", "transfer.settled"}: 4},
				Webhooks: map[string]int{"failing": 5}, WebhooksDead: 6,
			},
		}
	})
	gather(t, m)
	got := gather(t, m)
	for name, want := range map[string]float64{
		"holdfast_look_age_seconds": 2, "holdfast_ready_age_seconds": 7, "holdfast_promise_age_seconds": 8,
		"holdfast_promise_overdue": 9, "holdfast_tenant_open": 0,
		"holdfast_outbox_age_seconds": 2, "holdfast_sink_lag_seconds": 2, "holdfast_inbox_lag_seconds": 3,
		"holdfast_outbox_inbox_mismatch": 4, "holdfast_webhook_endpoints": 5,
		"holdfast_webhook_dead_events": 6,
	} {
		require.InDelta(t, want, got[name].GetMetric()[0].GetGauge().GetValue(), 0, name)
	}
}

func TestTenantsAreToldByRankAndEveryRankIsThere(t *testing.T) {
	t.Parallel()
	m := telemetry.New()
	open := []int{9, 4, 3, 2, 1, 1, 1}
	m.WatchLook(func() telemetry.Look { return telemetry.Look{TenantOpen: open} })
	ranks := func() map[string]float64 {
		values := map[string]float64{}
		for _, series := range gather(t, m)["holdfast_tenant_open"].GetMetric() {
			require.Len(t, series.GetLabel(), 1)
			values[series.GetLabel()[0].GetValue()] = series.GetGauge().GetValue()
		}
		return values
	}
	require.Equal(t, map[string]float64{"1": 9, "2": 4, "3": 3, "4": 2, "5": 1}, ranks())
	open = open[:1]
	require.Equal(t, map[string]float64{"1": 9, "2": 0, "3": 0, "4": 0, "5": 0}, ranks())
}

func TestPromisesAndFailuresAreThereBeforeTheFirstOne(t *testing.T) {
	t.Parallel()
	m := telemetry.New()
	count := func(name string, labels ...string) float64 {
		for _, series := range gather(t, m)["holdfast_"+name].GetMetric() {
			var values []string
			for _, l := range series.GetLabel() { // by name
				values = append(values, l.GetValue())
			}
			if slices.Equal(values, labels) {
				return series.GetCounter().GetValue()
			}
		}
		t.Fatalf("no %s of %v", name, labels)
		return 0
	}
	for _, kind := range []string{telemetry.KindTransfer, telemetry.KindOrder} {
		for _, kept := range []bool{true, false} {
			label := strconv.FormatBool(kept)
			require.InDelta(t, 0, count("promises_total", label, kind), 0)
			m.PromiseEnded(kind, kept)
			require.InDelta(t, 1, count("promises_total", label, kind), 0)
		}
	}
	require.InDelta(t, 0, count("terminal_failures_total", "payout_rail", "payout_refused"), 0)
	m.TerminalFailure("payout_rail", telemetry.ReasonPayoutRefused)
	require.InDelta(t, 1, count("terminal_failures_total", "payout_rail", "payout_refused"), 0)
	require.InDelta(t, 0, count("terminal_failures_total", "operator", "deadline_exhausted"), 0)
}

// TestTimesToTheEndAreNativeAndClassicAndHaveAnEdgeAtThePromise lets an SLI be counted exactly from either.
func TestTimesToTheEndAreNativeAndClassicAndHaveAnEdgeAtThePromise(t *testing.T) {
	t.Parallel()
	m := telemetry.New()
	for n := range 1_000 {
		m.TransferMoved("settled", "", time.Duration(n)*time.Duration(n)*time.Millisecond)
		m.OrderMoved("confirmed", "", time.Duration(n)*time.Duration(n)*time.Millisecond)
	}
	got := gather(t, m)
	for name, promises := range map[string][]float64{
		"holdfast_transfer_completion_seconds": {60, 86_400},
		"holdfast_order_completion_seconds":    {300, 1_200},
	} {
		h := got[name].GetMetric()[0].GetHistogram()
		require.EqualValues(t, 3, h.GetSchema(), "a bucket is at most a tenth wider than the one before")
		require.NotEmpty(t, h.GetPositiveSpan())
		require.LessOrEqual(t, len(h.GetPositiveDelta()), 160)
		var edges []float64
		for _, b := range h.GetBucket() {
			edges = append(edges, b.GetUpperBound())
		}
		require.IsIncreasing(t, edges)
		require.Subset(t, edges, promises, name)
	}
}

func TestABuildSaysWhatRuns(t *testing.T) {
	t.Parallel()
	m := telemetry.New()
	m.Build("v1.2.3", "go1.26")
	series := gather(t, m)["holdfast_build_info"].GetMetric()
	require.Len(t, series, 1)
	require.InDelta(t, 1, series[0].GetGauge().GetValue(), 0)
	require.Equal(t, []string{"go1.26", "v1.2.3"},
		[]string{series[0].GetLabel()[0].GetValue(), series[0].GetLabel()[1].GetValue()})
}

func TestTheModeIsShownAsOneOfAll(t *testing.T) {
	t.Parallel()
	m := telemetry.New()
	require.Empty(t, gather(t, m)["holdfast_mode"].GetMetric(), "nobody knows")
	m.WatchMode(func() telemetry.Mode {
		return telemetry.Mode{
			Mode: "frozen", Level: "constrained", Policy: "abc", Blind: 1.5,
			Thresholds: map[[2]string]float64{{"saturation", "constrained"}: 0.95},
			Signals:    map[string]float64{"saturation": 1.25},
		}
	})
	m.ModeSwitched("frozen", telemetry.ByOperator)
	got := gather(t, m)
	set := func(name, label string) []string {
		var all []string
		for _, series := range got[name].GetMetric() {
			for _, l := range series.GetLabel() {
				if l.GetName() == label && series.GetGauge().GetValue() == 1 {
					all = append(all, l.GetValue())
				}
			}
		}
		return all
	}
	require.Len(t, got["holdfast_mode"].GetMetric(), 4)
	require.Len(t, got["holdfast_mode_level"].GetMetric(), 3)
	require.Equal(t, []string{"frozen"}, set("holdfast_mode", "mode"))
	require.Equal(t, []string{"constrained"}, set("holdfast_mode_level", "level"))
	require.Equal(t, []string{"abc"}, set("holdfast_mode_policy_info", "policy"))
	value := func(name string) float64 { return got[name].GetMetric()[0].GetGauge().GetValue() }
	require.InDelta(t, 1.5, value("holdfast_mode_blind_seconds"), 0)
	require.InDelta(t, 0.95, value("holdfast_mode_threshold"), 0)
	require.InDelta(t, 1.25, value("holdfast_mode_signal"), 0)
	require.InDelta(t, 1, got["holdfast_mode_switches_total"].GetMetric()[0].GetCounter().GetValue(), 0)
}
