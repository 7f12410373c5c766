package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/mode"
)

// one decodes what was printed as a single JSON line.
func one[T any](t *testing.T, out *bytes.Buffer) T {
	t.Helper()
	require.Equal(t, 1, strings.Count(out.String(), "\n"), "JSON is one line")
	var line T
	require.NoError(t, json.Unmarshal(out.Bytes(), &line))
	out.Reset()
	return line
}

func (d desk) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	_, err := d.pool.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

func policyFile(t *testing.T, pairs ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	text := strings.NewReplacer(pairs...).Replace(string(mode.DefaultText))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestTheModeIsShownWithWhoDecidesItAndWhoFollows(t *testing.T) {
	t.Parallel()
	d, out := setup(t)
	require.NoError(t, (&showModeCmd{}).do(t.Context(), d))
	require.Regexp(t, `(?m)^normal +- +normal +- +auto +- +1 +controller +the beginning$`, out.String())
	require.Contains(t, out.String(), "Nobody has taken a sample in the last minute")
	require.Regexp(t, `(?m)^saturation +- +>= 0.95 +< 0.7 +- +-$`, out.String())
	require.Contains(t, out.String(), "No process has reported in the last minute.")
	out.Reset()

	pin := &pinModeCmd{Mode: mode.Protection, For: time.Hour, Reason: "a drill"}
	require.NoError(t, pin.do(t.Context(), d))
	out.Reset()
	p, err := mode.Load("")
	require.NoError(t, err)
	d.exec(t, `UPDATE service_mode SET policy = $1`, p.Hash())
	d.exec(t, `
INSERT INTO mode_samples (at, level, mode, signals)
VALUES (clock_timestamp() - interval '7 seconds', 'constrained', 'protection', '{"saturation": 1.25}')`)
	d.exec(t, `
INSERT INTO mode_reports (instance, reported_at, follows, policy, report)
VALUES ('api-1', clock_timestamp(), 2, $1, '{}'),
       ('api-2', clock_timestamp() + interval '10 seconds', 1, $1, '{}'),
       ('api-3', clock_timestamp(), 1, $1, '{}'),
       ('api-4', clock_timestamp(), 2, 'abcdefabcdefabcdef', '{}'),
       ('gone', clock_timestamp() - interval '2 minutes', 1, $1, '{}')`, p.Hash())
	require.NoError(t, (&showModeCmd{}).do(t.Context(), d))
	require.Regexp(t, `(?m)^protection +\S+Z +normal +- +pinned +\S+Z +2 +ctl:\S+ +a drill$`, out.String())
	require.Contains(t, out.String(), "The signals of 7s ago")
	require.Regexp(t, `(?m)^saturation +1.25 +>= 0.95 +< 0.7 +- +-$`, out.String())
	require.Regexp(t, `(?m)^api-1 +2 +0.\d s ago +`+short(p.Hash())+`$`, out.String())
	require.Regexp(t, `(?m)^api-2 +1 \(behind\) `, out.String())
	require.Regexp(t, `(?m)^api-3 +1 +\d`, out.String(), "its report may be older than the change")
	require.Regexp(t, `(?m)^api-4 .* abcdefabcdef \(another\)$`, out.String())
	require.NotContains(t, out.String(), "gone")
	out.Reset()
	require.NoError(t, (&showModeCmd{output{JSON: true}}).do(t.Context(), d))
	line := one[modeLine](t, out)
	require.Equal(t, mode.Protection, line.Mode)
	require.Equal(t, mode.Normal, line.Level)
	require.Equal(t, time.Hour, line.ExpiresAt.Sub(line.Since))
	require.InDelta(t, 1.25, *line.Signals[2].Value, 0)
	require.Len(t, line.Followers, 4)
	require.True(t, line.Followers[1].Behind)
}

func TestAnotherPolicyThanThatWhichJudgesIsTold(t *testing.T) {
	t.Parallel()
	d, out := setup(t)
	d.policyFile = policyFile(t, "{enter: 5, leave: 2}", "{enter: 7, leave: 2}")
	d.exec(t, `UPDATE service_mode SET policy = 'feedfeedfeedfeed'`)
	require.NoError(t, (&showModeCmd{}).do(t.Context(), d))
	require.Contains(t, out.String(), "Judged was by another, feedfeedfeed: see HOLDFAST_POLICY_FILE.")
	require.Regexp(t, `(?m)^transfer_age_seconds +- +>= 7 `, out.String())
}

func TestAnOverrideIsPinnedFrozenAdvisedAndEnded(t *testing.T) {
	t.Parallel()
	d, out := setup(t)
	pin := &pinModeCmd{Mode: mode.Constrained, For: time.Hour, Reason: "one"}
	require.NoError(t, pin.do(t.Context(), d))
	require.Equal(t, []string{"constrained", "pinned"}, fields(out)[1][:2])
	require.NoError(t, (&freezeModeCmd{For: time.Hour, Reason: "two"}).do(t.Context(), d))
	require.Equal(t, []string{"frozen", "pinned"}, fields(out)[1][:2])
	require.NoError(t, (&adviseModeCmd{For: time.Hour, Reason: "three"}).do(t.Context(), d))
	require.Equal(t, []string{"normal", "advise"}, fields(out)[1][:2])
	require.NoError(t, (&autoModeCmd{Reason: "four"}).do(t.Context(), d))
	require.Equal(t, []string{"normal", "auto", "-", "5", actor(), "four"}, fields(out)[1])

	require.NoError(t, (&modeHistoryCmd{output{JSON: true}, 3}).do(t.Context(), d))
	lines := decoded[changeLine](t, out)
	require.Len(t, lines, 3)
	for i, want := range []string{"four", "three", "two"} {
		require.Equal(t, []string{want, actor(), "operator"},
			[]string{lines[i].Reason, lines[i].Actor, lines[i].Cause})
	}
	require.Equal(t, []mode.Mode{mode.Frozen, mode.Normal}, []mode.Mode{lines[1].Before, lines[1].Mode})
	require.NoError(t, (&modeHistoryCmd{Limit: 1}).do(t.Context(), d))
	require.Regexp(t, `(?m)^5 +\S+Z +normal +normal +normal +auto +- +operator +ctl:\S+ +four$`, out.String())
}

func TestTheEndOfAnOverrideLeavesTheDecisionToThePolicy(t *testing.T) {
	t.Parallel()
	d, out := setup(t)
	d.policyFile = policyFile(t, "control: auto", "control: advise")
	require.NoError(t, (&freezeModeCmd{For: time.Hour, Reason: "a drill"}).do(t.Context(), d))
	out.Reset()
	require.NoError(t, (&autoModeCmd{output{JSON: true}, "over"}).do(t.Context(), d))
	require.Equal(t, mode.Advise, decoded[overrideLine](t, out)[0].Control)
}

func TestWhatIsNoOverrideIsRefusedInTheWordsOfTheCommand(t *testing.T) {
	t.Parallel()
	d, out := setup(t)
	for _, long := range []time.Duration{0, mode.ForMin - 1, mode.ForMax + 1} {
		require.EqualError(t, (&freezeModeCmd{For: long, Reason: "r"}).do(t.Context(), d),
			"--for has to be 1m0s to 12h0m0s")
	}
	require.EqualError(t, (&freezeModeCmd{For: time.Hour}).do(t.Context(), d), "reason has to be there")
	for _, limit := range []int{0, 201} {
		require.ErrorContains(t, (&modeHistoryCmd{Limit: limit}).do(t.Context(), d), "1 to 200")
	}
	require.Error(t, parsed(t, "mode pin sideways --for 1h --reason r"))
	require.NoError(t, parsed(t, "mode --json"))
	require.Empty(t, out.String())
}

// sampled writes one sample for each age, a policy's sample time apart, the last of them now.
func (d desk) sampled(t *testing.T, ages ...float64) {
	t.Helper()
	d.exec(t, `
INSERT INTO mode_samples (at, level, mode, signals)
SELECT clock_timestamp() - (cardinality($1::float8[]) - n) * interval '5 seconds', 'normal', 'normal',
       json_build_object('transfer_age_seconds', age)
  FROM unnest($1::float8[]) WITH ORDINALITY AS s (age, n)`, ages)
}

func TestASimulationSaysWhatAPolicyWouldHaveDoneBesideWhatWas(t *testing.T) {
	t.Parallel()
	d, out := setup(t)
	table, asJSON := &simulateModeCmd{Since: time.Hour}, &simulateModeCmd{output{JSON: true}, time.Hour, ""}
	require.NoError(t, table.do(t.Context(), d))
	require.Contains(t, out.String(), "There is no sample of the last 1h0m0s")
	out.Reset()
	require.NoError(t, asJSON.do(t.Context(), d))
	require.Zero(t, one[simulationLine](t, out).Samples)

	d.sampled(t, 0, 6, 6, 6, 6, 6)
	require.NoError(t, table.do(t.Context(), d))
	require.Contains(t, out.String(), "6 samples from")
	require.Regexp(t, `(?m)^would +\S+Z +normal +constrained +transfer_age_seconds 6 >= 5$`, out.String())
	require.Regexp(t, `(?m)^constrained +10s +0s$`, out.String())
	require.Regexp(t, `(?m)^normal +15s +25s$`, out.String())
	out.Reset()
	table.Policy = policyFile(t, "{enter: 5, leave: 2}", "{enter: 7, leave: 2}",
		"control: auto", "control: advise")
	require.NoError(t, table.do(t.Context(), d))
	require.Contains(t, out.String(), "There was no switch, and there would have been none.")
	require.Contains(t, out.String(), "This policy says advise")
	out.Reset()
	require.NoError(t, asJSON.do(t.Context(), d))
	line := one[simulationLine](t, out)
	require.Len(t, line.Would.Switches, 1)
	require.Equal(t, mode.TransferAge, line.Would.Switches[0].Causes[0].Signal)
	require.Empty(t, line.Was.Switches)

	for _, since := range []time.Duration{0, mode.SamplesKept + 1} {
		table.Since = since
		require.ErrorContains(t, table.do(t.Context(), d), "samples are not kept for longer")
	}
}

func TestWhatReallySwitchedStandsInASimulation(t *testing.T) {
	t.Parallel()
	d, out := setup(t)
	d.sampled(t, 0, 0, 0, 0)
	d.exec(t, `UPDATE mode_samples SET mode = 'frozen' WHERE at > clock_timestamp() - interval '8 seconds'`)
	require.NoError(t, (&simulateModeCmd{Since: time.Hour}).do(t.Context(), d))
	require.Regexp(t, `(?m)^was +\S+Z +normal +frozen +-$`, out.String())
	require.Regexp(t, `(?m)^frozen +0s +5s$`, out.String())
	require.Regexp(t, `(?m)^normal +15s +10s$`, out.String())
}

func TestAPolicyIsCheckedWithAllThatIsWrongAndPrinted(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, (&modePolicyCmd{}).do(&out, ""))
	require.Contains(t, out.String(), "control auto: a sample every 5s; 3 in a row switch up, 12 switch down")
	require.Regexp(t, `(?m)^create_transfer +all +all +standard +critical$`, out.String())
	require.Regexp(t, `(?m)^notifications +run +defer +defer +run$`, out.String())
	require.Regexp(t, `(?m)^retry_after +- +2s +5s +30s$`, out.String())
	require.Regexp(t, `(?m)^saturation +>= 0.95 +< 0.7 +- +-$`, out.String())
	first, _, _ := strings.Cut(out.String(), "\n")
	out.Reset()
	require.NoError(t, (&modePolicyCmd{}).do(&out, policyFile(t, "# ", "## ")))
	require.True(t, strings.HasPrefix(out.String(), first+"\n"), "comments do not change the hash")
	out.Reset()
	wrong := policyFile(t, "control: auto", "control: never", "dwell: 60s", "dwell: 1ms",
		"frozen: critical", "frozen: most")
	for _, c := range []*modePolicyCmd{{}, {File: wrong}} {
		err := c.do(&out, wrong)
		require.ErrorContains(t, err, `control: "never" is neither auto nor advise`)
		require.ErrorContains(t, err, "dwell: has to be")
		require.ErrorContains(t, err, `requests.change.frozen: "most" is none of`)
	}
	require.Empty(t, out.String())
}
