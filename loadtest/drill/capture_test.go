package drill

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// captured has three looks at one process, of which the second one failed.
func captured() *capture {
	c := &capture{series: map[string][]string{}}
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for look, text := range []string{
		"# HELP x y\nholdfast_a{k=\"v 1\"} 1\nholdfast_b 2\ngo_c 3\n", "",
		"holdfast_a{k=\"v 1\"} 4\nholdfast_b 5\n",
	} {
		c.begin(begin.Add(time.Duration(look) * captureEvery))
		c.note([]byte(text), `job="j"`)
	}
	return c
}

func TestACaptureKeepsItsGaps(t *testing.T) {
	t.Parallel()
	c := captured()
	require.Equal(t, map[string][]string{
		`holdfast_a{job="j",k="v 1"}`: {"1", "_", "4"}, `holdfast_b{job="j"}`: {"2", "_", "5"},
		`go_c{job="j"}`: {"3"},
	}, c.series)
	require.InDelta(t, 1, c.sum(c.at[0], "holdfast_a", `k="v`), 0)
	require.InDelta(t, 1, c.sum(c.at[1], "holdfast_a"), 0, "what was seen before counts")
	require.InDelta(t, 4, c.sum(c.at[2].Add(time.Hour), "holdfast_a"), 0)
	require.InDelta(t, 0, c.sum(c.at[2], "holdfast_a", `k="w`), 0)
	require.Equal(t, 1, c.lookAt(c.at[0].Add(time.Second)))
	test := string(c.promtoolTest([]string{"x.rules.yaml"}, "Late", 2))
	require.Contains(t, test, "values: '1 _ 4'")
	require.Contains(t, test, "eval_time: 10s")
	require.NotContains(t, test, "go_c", "rules are about our metrics")
}

func TestAnAlertFiresInACaptureOrNot(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Skip("promtool is not there")
	}
	folder := t.TempDir()
	rules := "groups:\n  - name: g\n    rules:\n      - {alert: Late, expr: holdfast_b > 3}\n"
	require.NoError(t, os.WriteFile(filepath.Join(folder, "a.rules.yaml"), []byte(rules), 0o600))
	for look, want := range []bool{false, false, true} {
		fires, err := captured().fires(t.Context(), folder, "Late", look)
		require.NoError(t, err)
		require.Equal(t, want, fires, "look %d", look)
	}
	require.NoError(t, os.WriteFile(filepath.Join(folder, "b.rules.yaml"), []byte("nonsense: ["), 0o600))
	_, err := captured().fires(t.Context(), folder, "Late", 2)
	require.ErrorContains(t, err, "promtool")
}

func TestAWrongRuleIsAnError(t *testing.T) {
	t.Parallel()
	_, err := captured().fires(t.Context(), t.TempDir(), "Late", 1)
	require.Error(t, err, "there are no rules in this folder")
	require.True(t, strings.Contains(err.Error(), "rules") || strings.Contains(err.Error(), "promtool"))
}
