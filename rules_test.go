package holdfast_test

import (
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"example.com/holdfast/internal/condition"
)

const (
	rulesDir = "deploy/prometheus"
	// generatedRules begins a file of rules that is generated.
	generatedRules = "# Generated from the root tests by `make generate`. Do not edit.\n"
	// alertAfter is how long an expression has to hold. Conditions are judged in a row already, so one
	// evaluation that goes wrong is all that it keeps out.
	alertAfter = "15s"
)

// objective is what users may expect of something that is counted as good or bad.
type objective struct {
	alert string
	// metric has the recorded series of what is bad; labels select those of this objective.
	metric, labels string
	// allowed is the part that may be bad over 30 days.
	allowed string
	what    string
	runbook string
}

var objectives = []objective{
	{
		"HoldfastTransferPromisesBurn", "promises_bad", `{kind="transfer"}`, "0.001",
		"promises to transfers", "transfer-promises-burn",
	},
	{
		"HoldfastOrderPromisesBurn", "promises_bad", `{kind="order"}`, "0.005",
		"promises to orders", "order-promises-burn",
	},
	{
		"HoldfastAvailabilityBurn", "requests_bad", "", "0.001",
		"requests to the public API", "availability-burn",
	},
}

// burn is two windows of which both have to burn the budget so many times too fast: the long one says that
// it matters, the short one that it still goes on.
type burn struct {
	long, short string
	factor      string
}

// The burns of each severity, and the least number of bad ones in the long window that is worth a word.
var (
	criticalBurns = []burn{{"1h", "5m", "14.4"}, {"6h", "30m", "6"}}
	warningBurns  = []burn{{"1d", "2h", "3"}, {"3d", "6h", "1"}}
	// windows are all that are recorded, and how often: what is long changes slowly and costs much.
	windows = []struct{ window, interval string }{
		{"5m", "15s"},
		{"30m", "15s"},
		{"1h", "15s"},
		{"2h", "1m"},
		{"6h", "1m"},
		{"1d", "5m"},
		{"3d", "5m"},
		{"30d", "5m"},
	}
)

const burnMinBad = 5

// operatorsRoutes are those of the admin listener, and what is nobody's route: not what users ask for.
const operatorsRoutes = `.* /(admin/.*|livez|readyz)|none`

func TestGeneratedRecordingRulesAreCurrent(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	out.WriteString(generatedRules + "# docs/slo.md says what is counted and why.\ngroups:\n")
	for _, w := range windows {
		fill := strings.NewReplacer("@w", w.window, "@every", w.interval, "@operators", operatorsRoutes)
		out.WriteString(fill.Replace(`  - name: holdfast_objectives_@w
    interval: @every
    rules:
      - record: holdfast:promises_bad:increase@w
        expr: |
          (
            sum by (kind) (increase(holdfast_promises_total{kept="false"}[@w]))
            or 0 * max by (kind) (holdfast_promise_overdue)
          ) + on (kind) max by (kind) (holdfast_promise_overdue)
      - record: holdfast:promises_bad:ratio@w
        expr: |
          holdfast:promises_bad:increase@w / on (kind) (
            (
              sum by (kind) (increase(holdfast_promises_total[@w]))
              or 0 * max by (kind) (holdfast_promise_overdue)
            ) + on (kind) max by (kind) (holdfast_promise_overdue) > 0
          )
      - record: holdfast:requests_bad:increase@w
        expr: |
          clamp_min(
            (
              sum(increase(holdfast_http_request_seconds_count{status=~"5..",route!~"@operators"}[@w]))
              or vector(0)
            ) - (sum(increase(holdfast_requests_shed_total{reason!="rate"}[@w])) or vector(0)), 0)
      - record: holdfast:requests_bad:ratio@w
        expr: |
          holdfast:requests_bad:increase@w
          / (sum(increase(holdfast_http_request_seconds_count{route!~"@operators"}[@w])) > 0)
`))
	}
	compareOrWrite(t, rulesDir+"/recording.rules.yaml", out.String())
}

func TestGeneratedObjectiveRulesAreCurrent(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	out.WriteString(generatedRules + "groups:\n  - name: holdfast_objectives\n    rules:\n")
	for _, o := range objectives {
		out.WriteString(o.rule(t, condition.Critical, criticalBurns, alertAfter))
		out.WriteString(o.rule(t, condition.Warning, warningBurns, "15m"))
	}
	compareOrWrite(t, rulesDir+"/objectives.rules.yaml", out.String())
}

func (o objective) rule(t *testing.T, severity condition.Severity, burns []burn, after string) string {
	t.Helper()
	parts := make([]string, len(burns))
	for i, b := range burns {
		fill := strings.NewReplacer("@metric", "holdfast:"+o.metric, "@labels", o.labels,
			"@allowed", o.allowed, "@long", b.long, "@short", b.short, "@factor", b.factor,
			"@least", strconv.Itoa(burnMinBad))
		parts[i] = fill.Replace(`          (
            @metric:ratio@long@labels > @factor * @allowed
            and @metric:ratio@short@labels > @factor * @allowed
            and @metric:increase@long@labels >= @least
          )
`)
	}
	return fmt.Sprintf(`      - alert: %s
        expr: |
%s        for: %s
        labels: {severity: %s}
        annotations:
          summary: Too many %s go wrong
          description: |
            %s of them go wrong, more than the objective bears over 30 days.
          runbook_url: %s
`, o.alert, strings.Join(parts, "          or\n"), after, severity, o.what,
		"{{ $value | humanizePercentage }}", runbookURL(t, "docs/runbooks/"+o.runbook+".md"))
}

// alertOf is the name of a condition's alert.
func alertOf(c condition.Condition) string {
	words := strings.Split(c.Name, "_")
	for i, word := range words {
		words[i] = strings.ToUpper(word[:1]) + word[1:]
	}
	return "Holdfast" + strings.Join(words, "")
}

// runbookURL is where a page is read: at the module's path, which a fork gives its own name.
func runbookURL(t *testing.T, page string) string {
	t.Helper()
	module := regexp.MustCompile(`(?m)^module (\S+)$`).FindStringSubmatch(read(t, "go.mod"))[1]
	return "https://" + module + "/" + page
}

func TestGeneratedConditionRulesAreCurrent(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	out.WriteString(generatedRules + "groups:\n  - name: holdfast_conditions\n    rules:\n")
	for _, c := range condition.All() {
		fmt.Fprintf(&out, `      - alert: %s
        expr: max by (condition, subject) (holdfast_condition_active{condition="%s"}) > 0
        for: %s
        labels: {severity: %s}
        annotations:
          summary: '%s{{ if $labels.subject }}: {{ $labels.subject }}{{ end }}'
          description: |
            %s
          runbook_url: %s
`, alertOf(c), c.Name, alertAfter, c.Severity, c.Title, c.Text, runbookURL(t, c.Runbook()))
	}
	compareOrWrite(t, rulesDir+"/conditions.rules.yaml", out.String())
}

// TestGeneratedConditionRuleTestsAreCurrent writes for each condition: it holds and the alert fires, two
// processes see it and there is one alert, it holds for a moment and there is none.
func TestGeneratedConditionRuleTestsAreCurrent(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	out.WriteString(generatedRules +
		"rule_files: [../conditions.rules.yaml]\nevaluation_interval: 5s\ntests:\n")
	for _, c := range condition.All() {
		fill := strings.NewReplacer("@alert", alertOf(c), "@condition", c.Name, "@severity",
			string(c.Severity), "@title", c.Title, "@text", c.Text, "@url", runbookURL(t, c.Runbook()))
		out.WriteString(fill.Replace(`  - name: '@condition: what holds fires once, a blip does not'
    interval: 5s
    input_series:
      - series: holdfast_condition_active{condition="@condition",subject="it",instance="worker-1"}
        values: '_x11 1x12 _ stale'
      - series: holdfast_condition_active{condition="@condition",subject="it",instance="worker-2"}
        values: '_x12 1x12 _ stale'
      - series: holdfast_condition_active{condition="@condition",subject="blip",instance="worker-1"}
        values: '1x1 stale'
    alert_rule_test:
      - {alertname: @alert, eval_time: 55s, exp_alerts: []}
      - {alertname: @alert, eval_time: 65s, exp_alerts: []}
      - alertname: @alert
        eval_time: 80s
        exp_alerts:
          - exp_labels: {condition: @condition, subject: it, severity: @severity}
            exp_annotations:
              summary: '@title: it'
              description: |
                @text
              runbook_url: @url
      - {alertname: @alert, eval_time: 8m, exp_alerts: []}
`))
	}
	compareOrWrite(t, rulesDir+"/tests/conditions.yaml", out.String())
}

// rule is one of the rules that Prometheus evaluates.
type rule struct {
	Record      string            `yaml:"record"`
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

// rulesOf reads the rules of all files.
func rulesOf(t *testing.T) []rule {
	t.Helper()
	var all []rule
	entries, err := os.ReadDir(rulesDir)
	require.NoError(t, err)
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".rules.yaml") {
			continue
		}
		var file struct {
			Groups []struct {
				Rules []rule `yaml:"rules"`
			} `yaml:"groups"`
		}
		require.NoError(t, yaml.Unmarshal([]byte(read(t, path.Join(rulesDir, entry.Name()))), &file))
		for _, g := range file.Groups {
			all = append(all, g.Rules...)
		}
	}
	require.NotEmpty(t, all)
	return all
}

func alertsOf(t *testing.T) []rule {
	t.Helper()
	return slices.DeleteFunc(rulesOf(t), func(r rule) bool { return r.Alert == "" })
}

func TestEveryConditionHasAnAlert(t *testing.T) {
	t.Parallel()
	all := alertsOf(t)
	for _, c := range condition.All() {
		require.True(t, slices.ContainsFunc(all, func(r rule) bool {
			return r.Alert == alertOf(c) && r.Labels["severity"] == string(c.Severity)
		}), c.Name)
	}
}

func TestEveryAlertSaysWhatItIsAndWhereToRead(t *testing.T) {
	t.Parallel()
	pages := map[string]bool{}
	for _, r := range alertsOf(t) {
		require.Contains(t, []string{"warning", "critical"}, r.Labels["severity"], r.Alert)
		require.NotEmpty(t, r.Annotations["summary"], r.Alert)
		require.NotEmpty(t, r.Annotations["description"], r.Alert)
		page, ok := strings.CutPrefix(r.Annotations["runbook_url"], runbookURL(t, "docs/runbooks/"))
		require.True(t, ok, r.Alert)
		require.FileExists(t, "docs/runbooks/"+page, r.Alert)
		pages[page] = true
	}
	entries, err := os.ReadDir("docs/runbooks")
	require.NoError(t, err)
	for _, entry := range entries {
		require.True(t, pages[entry.Name()] || entry.Name() == "README.md", "%s is of no alert", entry.Name())
	}
}

// ruleTests is the part of a file for promtool that says which alerts it expects.
type ruleTests struct {
	Tests []struct {
		Alerts []struct {
			Name     string           `yaml:"alertname"`
			Expected []map[string]any `yaml:"exp_alerts"`
		} `yaml:"alert_rule_test"`
	} `yaml:"tests"`
}

// TestEveryAlertIsShownToFireAndNotToFire counts what promtool is asked to show.
func TestEveryAlertIsShownToFireAndNotToFire(t *testing.T) {
	t.Parallel()
	type shown struct{ fires, silent bool }
	tested := map[string]shown{}
	entries, err := os.ReadDir(rulesDir + "/tests")
	require.NoError(t, err)
	for _, entry := range entries {
		var file ruleTests
		require.NoError(t, yaml.Unmarshal([]byte(read(t, rulesDir+"/tests/"+entry.Name())), &file))
		for _, one := range file.Tests {
			for _, a := range one.Alerts {
				s := tested[a.Name]
				for _, e := range a.Expected {
					labels, _ := e["exp_labels"].(map[string]any)
					tested[a.Name+fmt.Sprint(labels["severity"])] = shown{fires: true}
				}
				s.silent = s.silent || len(a.Expected) == 0
				tested[a.Name] = s
			}
		}
	}
	for _, r := range alertsOf(t) {
		require.True(t, tested[r.Alert+r.Labels["severity"]].fires, "%s %s", r.Alert, r.Labels["severity"])
		require.True(t, tested[r.Alert].silent, r.Alert)
	}
}
