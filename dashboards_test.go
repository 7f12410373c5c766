package holdfast_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const dashboardsDir = "deploy/grafana/dashboards"

// The grid of a dashboard: so many panels of a width in a row, and their height.
const (
	gridWidth   = 24
	panelsInRow = 3
	panelHeight = 8
)

// panel is a graph with its queries.
type panel struct {
	title, unit string
	// text says what is good.
	text    string
	queries []query
}

// query is an expression of PromQL, and how its series are named.
type query struct{ expr, legend string }

// dashboard is a row of panels for one question.
type dashboard struct {
	file, uid, title string
	panels           []panel
}

func seen(expr, legend string) query { return query{expr, legend} }

// signal is a panel of what the controller of the modes sees, with where it speaks for a level.
func signal(title, unit, name string) panel {
	of := `{signal="` + name + `"}`
	return panel{title, unit, "Below where it speaks for constrained.", []query{
		seen("max(holdfast_mode_signal"+of+")", "now"),
		seen("max by (level) (holdfast_mode_threshold"+of+")", "{{level}} from"),
	}}
}

// budgetLeft is how much of an objective's budget of 30 days is left.
func budgetLeft(ratio, allowed string) string { return "1 - " + ratio + " / " + allowed }

// quantile is that of the rates of a histogram over a window, for each value of a label or for all.
func quantile(q float64, label, histogramOver string) string {
	name, window, _ := strings.Cut(histogramOver, "[")
	by := strings.TrimSuffix("le, "+label, ", ")
	return fmt.Sprintf("histogram_quantile(%g, sum by (%s) (rate(%s_bucket[%s)))", q, by, name, window)
}

// dashboards are all of them: first what users feel, then where it may come from.
var dashboards = []dashboard{
	{"users.json", "holdfast-users", "Holdfast: what users feel", []panel{
		{"Conditions that hold", "short", "Empty is well.", []query{
			seen("max by (condition, subject) (holdfast_condition_active)", "{{condition}} {{subject}}"),
		}},
		{"Age of the most urgent promise", "s", "A transfer has 60 s, an order 300 s.", []query{
			seen("max by (kind) (holdfast_promise_age_seconds)", "{{kind}}"),
		}},
		{"Open past their promise", "short", "Zero.", []query{
			seen("max by (kind) (holdfast_promise_overdue)", "{{kind}}"),
		}},
		{"Budget of 30 days that is left", "percentunit", "Above zero.", []query{
			seen(budgetLeft(`holdfast:promises_bad:ratio30d{kind="transfer"}`, "0.001"), "transfers"),
			seen(budgetLeft(`holdfast:promises_bad:ratio30d{kind="order"}`, "0.005"), "orders"),
			seen(budgetLeft("holdfast:requests_bad:ratio30d", "0.001"), "availability"),
		}},
		{"Burn over an hour", "none", "14.4 is critical.", []query{
			seen(`holdfast:promises_bad:ratio1h{kind="transfer"} / 0.001`, "transfers"),
			seen(`holdfast:promises_bad:ratio1h{kind="order"} / 0.005`, "orders"),
			seen("holdfast:requests_bad:ratio1h / 0.001", "availability"),
		}},
		{"Accepted to ended, p99", "s", "Far below the promise.", []query{
			seen(quantile(0.99, "state", "holdfast_transfer_completion_seconds[5m]"), "transfer {{state}}"),
			seen(quantile(0.99, "state", "holdfast_order_completion_seconds[5m]"), "order {{state}}"),
		}},
		{"Transfers by state and reason", "ops", "As many end as are accepted.", []query{
			seen("sum by (state, reason) (rate(holdfast_transfers_total[1m]))", "{{state}} {{reason}}"),
		}},
		{"Requests by status", "reqps", "No 5xx but 503 on purpose.", []query{
			seen("sum by (status) (rate(holdfast_http_request_seconds_count[1m]))", "{{status}}"),
		}},
		{"Refused at once, by reason", "reqps", "Zero; admission is work that waits too long.", []query{
			seen("sum by (reason) (rate(holdfast_requests_shed_total[1m]))", "{{reason}}"),
		}},
		{"Age of due work, by queue", "s", "Below a second; lane 4 is not waited for.", []query{
			seen("max by (queue, lane) (holdfast_ready_age_seconds)", "{{queue}} lane {{lane}}"),
		}},
		{"Open work of the busiest tenants", "short", "GET /admin/v1/queues says who they are.", []query{
			seen("max by (rank) (holdfast_tenant_open)", "rank {{rank}}"),
		}},
		{"Seen how long ago", "s", "Below 2 s; ages grow while the database cannot be asked.", []query{
			seen("max by (instance) (holdfast_look_age_seconds)", "{{instance}}"),
		}},
	}},
	{"dependencies.json", "holdfast-dependencies", "Holdfast: dependencies", []panel{
		{"Calls by outcome", "ops", "All ok.", []query{
			seen("sum by (dependency, outcome) (rate(holdfast_dependency_calls_total[1m]))",
				"{{dependency}} {{outcome}}"),
		}},
		{"Calls, p95", "s", "With the wait for a place.", []query{
			seen(quantile(0.95, "dependency", "holdfast_dependency_call_seconds[1m]"), "{{dependency}}"),
		}},
		{"Attempts for each effect", "none", "1; what is more is repeats.", []query{
			seen("sum by (dependency) (rate(holdfast_dependency_attempts_total[5m])) / "+
				`(sum by (dependency) (rate(holdfast_dependency_attempts_total{repeat="false"}[5m])) > 0)`,
				"{{dependency}}"),
		}},
		{"In flight, waiting and limit", "short", "Waiting is zero; in flight is below the limit.", []query{
			seen("sum by (dependency) (holdfast_dependency_in_flight)", "{{dependency}} in flight"),
			seen("sum by (dependency) (holdfast_dependency_waiting)", "{{dependency}} waiting"),
			seen("sum by (dependency) (holdfast_dependency_limit)", "{{dependency}} limit"),
			seen("sum by (dependency) (holdfast_dependency_cap)", "{{dependency}} places"),
		}},
		{"Breakers and saturation", "short", "Zero.", []query{
			seen("max by (dependency, instance) (holdfast_dependency_breaker_open)",
				"{{dependency}} open at {{instance}}"),
			seen("max by (dependency, instance) (holdfast_dependency_saturated)",
				"{{dependency}} saturated at {{instance}}"),
		}},
		{"Refused before any attempt", "ops", "Breaker, retry budget, no place in time.", []query{
			seen("sum by (dependency, kind) (rate(holdfast_dependency_refusals_total[1m]))",
				"{{dependency}} {{kind}}"),
		}},
		{"Given up, by whose step it was", "short", "In the last hour.", []query{
			seen("sum by (dependency, reason) (increase(holdfast_terminal_failures_total[1h])) > 0",
				"{{dependency}} {{reason}}"),
		}},
		{"What looks after forgotten work", "ops", "Zero in health.", []query{
			seen("sum(rate(holdfast_sweeper_woken_total[5m]))", "woken by the sweeper"),
			seen("sum(rate(holdfast_reaper_jobs_total[5m]))", "taken from dead workers"),
			seen("sum(rate(holdfast_stale_moves_total[5m]))", "moves that came too late"),
		}},
		{"Steps that broke, moves that were refused", "ops", "Zero but for late cancels.", []query{
			seen("sum(rate(holdfast_transfer_steps_failed_total[5m]))", "transfer steps"),
			seen("sum(rate(holdfast_order_steps_failed_total[5m]))", "order steps"),
			seen("sum by (from, event) (rate(holdfast_transition_rejections_total[5m]))",
				"{{event}} of {{from}}"),
		}},
	}},
	{"events.json", "holdfast-events", "Holdfast: events and webhooks", []panel{
		{"Age of what is not in the log", "s", "Below a second.", []query{
			seen("max(holdfast_outbox_age_seconds)", "outbox"),
		}},
		{"How far sinks and consumers are behind", "s", "Below a second.", []query{
			seen("max by (sink) (holdfast_sink_lag_seconds)", "sink {{sink}}"),
			seen("max by (consumer) (holdfast_inbox_lag_seconds)", "consumer {{consumer}}"),
		}},
		{"Delivered and not handled", "short", "No series.", []query{
			seen("max by (consumer, type) (holdfast_outbox_inbox_mismatch)", "{{consumer}} {{type}}"),
		}},
		{"Events that sinks took", "ops", "What was not taken comes again.", []query{
			seen("sum by (sink, taken) (rate(holdfast_sink_events_total[1m]))", "{{sink}} taken {{taken}}"),
		}},
		{"Webhook attempts by outcome", "ops", "delivered.", []query{
			seen("sum by (outcome) (rate(holdfast_webhook_attempts_total[1m]))", "{{outcome}}"),
		}},
		{"From happened to delivered", "s", "p50 and p99, of those that were delivered.", []query{
			seen(quantile(0.5, "", "holdfast_webhook_delivery_seconds[5m]"), "p50"),
			seen(quantile(0.99, "", "holdfast_webhook_delivery_seconds[5m]"), "p99"),
		}},
		{"Endpoints that get nothing", "short", "Of all tenants.", []query{
			seen("max by (state) (holdfast_webhook_endpoints)", "{{state}}"),
		}},
		{"Events that were given up", "short", "Until somebody sends them again.", []query{
			seen("max(holdfast_webhook_dead_events)", "dead"),
			seen("sum(increase(holdfast_webhook_died_total[1h]))", "given up in the last hour"),
			seen("sum(increase(holdfast_webhook_disabled_total[1h]))", "endpoints disabled in the last hour"),
		}},
		{"Items in a commit", "none", "How much work shares one commit.", []query{
			seen("sum by (combiner) (rate(holdfast_group_commit_batch_items_sum[1m])) / "+
				"(sum by (combiner) (rate(holdfast_group_commit_batch_items_count[1m])) > 0)",
				"{{combiner}}"),
		}},
	}},
	{"modes.json", "holdfast-modes", "Holdfast: modes", []panel{
		{"Mode in force", "short", "normal. Processes that differ make two lines at 1.", []query{
			seen("max by (mode) (holdfast_mode)", "{{mode}}"),
		}},
		{"Level that is judged", "short", "It is the mode unless an operator has said otherwise.", []query{
			seen("max by (level) (holdfast_mode_level)", "{{level}}"),
		}},
		{"Switches", "short", "In the last hour. Many of them: the policy is too nervous.", []query{
			seen("max by (mode, by) (increase(holdfast_mode_switches_total[1h]))", "to {{mode}} by {{by}}"),
		}},
		signal("Age of the most urgent transfer", "s", "transfer_age_seconds"),
		signal("Age of the most urgent order", "s", "order_age_seconds"),
		signal("Demand for each place at a dependency", "none", "saturation"),
		signal("Attempts for each first one", "none", "amplification"),
		signal("Wait for a connection to the database", "s", "pool_wait_seconds"),
		signal("Requests that failed", "percentunit", "failure_ratio"),
		{"Refused at once, by reason", "reqps", "mode is on purpose, and is no failure.", []query{
			seen("sum by (reason) (rate(holdfast_requests_shed_total[1m]))", "{{reason}}"),
		}},
		{"Age of what may be deferred", "s", "It grows while deferred, and goes down afterwards.", []query{
			seen(`max(holdfast_ready_age_seconds{queue="notification_api"})`, "notifications"),
			seen("max by (sink) (holdfast_sink_lag_seconds)", "sink {{sink}}"),
		}},
		{"Could not read the mode for", "s", "Below a second. It keeps the mode that it has.", []query{
			seen("max by (instance) (holdfast_mode_blind_seconds)", "{{instance}}"),
		}},
	}},
}

func TestGeneratedDashboardsAreCurrent(t *testing.T) {
	t.Parallel()
	files := map[string]bool{}
	for _, d := range dashboards {
		files[d.file] = true
		text, err := json.MarshalIndent(d.grafana(), "", " ")
		require.NoError(t, err)
		compareOrWrite(t, dashboardsDir+"/"+d.file, string(text)+"\n")
	}
	entries, err := os.ReadDir(dashboardsDir)
	require.NoError(t, err)
	for _, entry := range entries {
		require.True(t, files[entry.Name()], "%s is no dashboard", entry.Name())
	}
}

// part is one of a dashboard as Grafana keeps it.
type part = map[string]any

func (d dashboard) grafana() part {
	panels := make([]part, len(d.panels))
	for i, p := range d.panels {
		panels[i] = p.grafana(i)
	}
	return part{
		"uid": d.uid, "title": d.title, "tags": []string{"holdfast"}, "editable": false, "schemaVersion": 39,
		"refresh": "10s", "time": part{"from": "now-1h", "to": "now"}, "panels": panels,
		"templating": part{"list": []part{{
			"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus",
		}}},
	}
}

func (p panel) grafana(at int) part {
	width := gridWidth / panelsInRow
	source := part{"type": "prometheus", "uid": "${datasource}"}
	targets := make([]part, len(p.queries))
	for i, q := range p.queries {
		targets[i] = part{
			"refId": string(rune('A' + i)), "expr": q.expr, "legendFormat": q.legend, "datasource": source,
		}
	}
	return part{
		"id": at + 1, "type": "timeseries", "title": p.title, "description": p.text, "datasource": source,
		"gridPos": part{
			"x": at % panelsInRow * width, "y": at / panelsInRow * panelHeight, "w": width, "h": panelHeight,
		},
		"fieldConfig": part{"defaults": part{"unit": p.unit, "min": 0}, "overrides": []part{}},
		"targets":     targets,
	}
}

func TestEveryPanelSaysWhatItShows(t *testing.T) {
	t.Parallel()
	for _, d := range dashboards {
		titles := map[string]bool{}
		for _, p := range d.panels {
			require.NotEmpty(t, p.text, p.title)
			require.NotEmpty(t, p.queries, p.title)
			require.False(t, titles[p.title], p.title)
			titles[p.title] = true
			for _, q := range p.queries {
				require.NotEmpty(t, q.legend, p.title)
			}
		}
		require.True(t, strings.HasPrefix(d.title, "Holdfast: "))
	}
}

// expressionsOf are all that Prometheus is asked, by where they stand.
func expressionsOf(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for i, r := range rulesOf(t) {
		all[fmt.Sprintf("rule %d %s%s", i, r.Record, r.Alert)] = r.Expr
	}
	for _, d := range dashboards {
		for _, p := range d.panels {
			for i, q := range p.queries {
				all[fmt.Sprintf("%s: %s %d", d.title, p.title, i)] = q.expr
			}
		}
	}
	return all
}
