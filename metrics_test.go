package holdfast_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/mode"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/telemetry"
	"example.com/holdfast/internal/transfer"
)

const (
	metricsPage = "docs/metrics.md"
	// labelValuesMax bounds the values of a label that are listed.
	labelValuesMax = 20
)

func TestGeneratedMetricsPageIsCurrent(t *testing.T) {
	t.Parallel()
	var page strings.Builder
	page.WriteString(`<!-- Generated from internal/telemetry by ` + "`make generate`" + `. Do not edit. -->
# Metrics

The admin listener serves them at ` + "`/metrics`" + `, beside those of the Go runtime and the process.
No label ever holds an identifier, so the number of series is bounded by the program.

Ages and backlogs stand in the database: each process, API and worker alike, looks at them every second, and
all of them see the same, so take the ` + "`max`" + ` of them. A scrape reads memory only. While the database
cannot be asked, ages grow from what was seen last.

| name | type | labels | meaning |
|---|---|---|---|
`)
	for _, m := range telemetry.New().Catalogue() {
		names := make([]string, len(m.Labels))
		for i, l := range m.Labels {
			names[i] = "`" + l.Name + "`"
		}
		fmt.Fprintf(&page, "| `%s` | %s | %s | %s |\n", m.Name, m.Type, strings.Join(names, ", "), m.Help)
	}
	page.WriteString("\n## Labels\n\nAll that each label may be, by the metrics that have it.\n\n" +
		"| label | of | values |\n|---|---|---|\n")
	for _, row := range labelRows() {
		page.WriteString(row + "\n")
	}
	compareOrWrite(t, metricsPage, page.String())
}

// labelRows lists each label once for all metrics that give it the same values.
func labelRows() []string {
	type key struct{ label, values string }
	of := map[key][]string{}
	var seen []key
	for _, m := range telemetry.New().Catalogue() {
		for _, l := range m.Labels {
			k := key{l.Name, boundOf(l)}
			if of[k] == nil {
				seen = append(seen, k)
			}
			of[k] = append(of[k], strings.TrimPrefix(m.Name, "holdfast_"))
		}
	}
	slices.SortStableFunc(seen, func(a, b key) int { return strings.Compare(a.label, b.label) })
	rows := make([]string, len(seen))
	for i, k := range seen {
		rows[i] = fmt.Sprintf("| `%s` | %s | %s |", k.label, strings.Join(of[k], ", "), k.values)
	}
	return rows
}

func boundOf(l telemetry.Label) string {
	if l.Values == nil {
		return l.Bound
	}
	quoted := make([]string, len(l.Values))
	for i, v := range l.Values {
		quoted[i] = "`" + v + "`"
		if v == "" {
			quoted[i] = "none"
		}
	}
	return strings.Join(quoted, ", ")
}

func TestEveryMetricIsDeclaredOnceAndRegistered(t *testing.T) {
	t.Parallel()
	m := telemetry.New()
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		m.Registry().Describe(descs)
	}()
	// A Desc shows its parts by its String alone.
	ours := regexp.MustCompile(`fqName: "(holdfast_[^"]+)"`)
	var registered, declared []string
	for d := range descs {
		if found := ours.FindStringSubmatch(d.String()); found != nil {
			registered = append(registered, found[1])
		}
	}
	page := read(t, metricsPage)
	for _, c := range m.Catalogue() {
		declared = append(declared, c.Name)
		require.NotEmpty(t, c.Help, c.Name)
		require.Contains(t, page, "| `"+c.Name+"` |")
		require.Equal(t, c.Type == telemetry.Counter, strings.HasSuffix(c.Name, "_total"), c.Name)
	}
	require.ElementsMatch(t, registered, declared)
	require.Len(t, slices.Compact(declared), len(registered), "a name comes once")
}

func TestNoLabelHoldsAnIdentifier(t *testing.T) {
	t.Parallel()
	identifies := regexp.MustCompile(
		`(^|_)(id|ids|uuid|key|tenant|account|transfer|order|instance|url|path|reference|error|message)$`)
	for _, m := range telemetry.New().Catalogue() {
		for _, l := range m.Labels {
			require.NotRegexp(t, identifies, l.Name, "%s has a label that identifies", m.Name)
			require.NotEqual(t, l.Values == nil, l.Bound == "",
				"%s: label %s has its values, or says what bounds them", m.Name, l.Name)
			require.LessOrEqual(t, len(l.Values), labelValuesMax, "%s: label %s", m.Name, l.Name)
			require.Len(t, slices.Compact(slices.Sorted(slices.Values(l.Values))), len(l.Values),
				"%s: a value of label %s comes twice", m.Name, l.Name)
		}
	}
}

// valuesOf are those of a label of a metric.
func valuesOf(t *testing.T, metric, label string) []string {
	t.Helper()
	for _, m := range telemetry.New().Catalogue() {
		for _, l := range m.Labels {
			if m.Name == "holdfast_"+metric && l.Name == label {
				return l.Values
			}
		}
	}
	t.Fatalf("%s has no label %s", metric, label)
	return nil
}

// TestLabelsHaveTheValuesOfTheProgram holds what telemetry lists to what stands elsewhere, above it.
func TestLabelsHaveTheValuesOfTheProgram(t *testing.T) {
	t.Parallel()
	var ends, orderEnds []string
	for _, e := range transfer.Transitions.Edges() {
		if state := string(e.To); e.To.Terminal() && !slices.Contains(ends, state) {
			ends = append(ends, state)
		}
	}
	for _, e := range order.Transitions.Edges() {
		if state := string(e.To); e.To.Terminal() && !slices.Contains(orderEnds, state) {
			orderEnds = append(orderEnds, state)
		}
	}
	require.ElementsMatch(t, ends, valuesOf(t, "transfer_completion_seconds", "state"))
	require.ElementsMatch(t, append(ends, "accepted"), valuesOf(t, "transfers_total", "state"))
	require.ElementsMatch(t, orderEnds, valuesOf(t, "order_completion_seconds", "state"))
	require.ElementsMatch(t, append(orderEnds, "pending"), valuesOf(t, "orders_total", "state"))
	require.ElementsMatch(t, []string{
		"", string(order.ReasonClient), string(order.ReasonOperator), string(order.ReasonStock),
		string(order.ReasonSlot), string(order.ReasonPayment), string(order.ReasonExpired),
		string(order.ReasonPoison),
	}, valuesOf(t, "orders_total", "reason"))
	require.ElementsMatch(t, []string{
		transfer.ReasonAttempts, transfer.ReasonDeadline, transfer.ReasonPayoutRefused, transfer.ReasonPoison,
	}, valuesOf(t, "terminal_failures_total", "reason"))
	require.Equal(t, []string{order.Subscription().Consumer}, valuesOf(t, "inbox_lag_seconds", "consumer"))
}

func TestLabelsOfTheModeHaveItsValues(t *testing.T) {
	t.Parallel()
	require.ElementsMatch(t, mode.Modes(), namesAs[mode.Mode](valuesOf(t, "mode", "mode")))
	require.ElementsMatch(t, mode.Modes(), namesAs[mode.Mode](valuesOf(t, "mode_switches_total", "mode")))
	require.ElementsMatch(t, mode.Levels(), namesAs[mode.Mode](valuesOf(t, "mode_level", "level")))
	require.ElementsMatch(t, mode.Levels()[1:], namesAs[mode.Mode](valuesOf(t, "mode_threshold", "level")))
	for _, metric := range []string{"mode_signal", "mode_threshold"} {
		require.ElementsMatch(t, mode.Signals(), namesAs[mode.Signal](valuesOf(t, metric, "signal")))
	}
}

func namesAs[Name ~string](values []string) []Name {
	names := make([]Name, len(values))
	for i, v := range values {
		names[i] = Name(v)
	}
	return names
}
