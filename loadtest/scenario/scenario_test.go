package scenario_test

import (
	"bytes"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/loadtest/scenario"
)

// root is the root of the repository, seen from here.
const root = "../.."

func TestEveryFileIsAScenarioThatSaysWhatBreaksIt(t *testing.T) {
	t.Parallel()
	all, err := scenario.All()
	require.NoError(t, err)
	names := map[string]bool{}
	for _, s := range all {
		names[s.Name] = true
		require.False(t, s.Broken.IsZero(), "%s: nothing shows that its verdict bites", s.Name)
	}
	for _, name := range []string{
		"slow-dependency", "hanging-dependency", "errors-5xx", "timeout-after-success", "client-retry-storm",
		"duplicate-keys", "worker-killed", "zombie-worker", "postgres-crash", "postgres-away", "noisy-tenant",
		"last-units", "overload-5x",
	} {
		require.True(t, names[name], name)
	}
}

// TestWhatSwitchesAPromiseOffStillFitsTheProgram finds a change whose place has gone, without a build.
func TestWhatSwitchesAPromiseOffStillFitsTheProgram(t *testing.T) {
	t.Parallel()
	all, err := scenario.All()
	require.NoError(t, err)
	for _, s := range all {
		for _, c := range s.Broken.Changes {
			text, err := os.ReadFile(filepath.Join(root, c.File))
			require.NoError(t, err, s.Name)
			require.Equal(t, 1, bytes.Count(text, []byte(c.From)), "%s: %q in %s", s.Name, c.From, c.File)
			text = bytes.Replace(text, []byte(c.From), []byte(c.To), 1)
			_, err = parser.ParseFile(token.NewFileSet(), c.File, text, parser.SkipObjectResolution)
			require.NoError(t, err, s.Name)
		}
	}
}

func TestAFileIsShownAsItIsAndReadAgain(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	require.NoError(t, scenario.Show(&text, "last-units"))
	file := filepath.Join(t.TempDir(), "mine.yaml")
	require.NoError(t, os.WriteFile(file, []byte(text.String()), 0o600))
	mine, err := scenario.Load(file)
	require.NoError(t, err)
	require.Equal(t, "mine", mine.Name)
	require.Equal(t, 60, mine.Units)
	require.Equal(t, 2, mine.Workers, "two, unless it says otherwise")
	require.ErrorContains(t, scenario.Show(&text, "earthquake"), "earthquake")
	_, err = scenario.Load(filepath.Join(t.TempDir(), "nowhere.yaml"))
	require.Error(t, err)
	require.NoError(t, os.WriteFile(file, bytes.Repeat([]byte("# x\n"), 20_000), 0o600))
	_, err = scenario.Load(file)
	require.ErrorContains(t, err, "larger")
}

// sound is a scenario with everything that one needs.
const sound = `
about: nothing happens
promise: nothing
load:
  - {send: transfers, rate: 1}
steps:
  - {phase: calm, for: 1s}
  - {phase: fault, for: 1s, turn: {risk: {error_rate: 0.5}}}
expect:
  - amplification: {at: risk, at_most: 2}
recovery: {from: fault, within: 1s}
score: {kept: 60, goodput: 40}
`

// claim is what it expects.
const claim = "amplification: {at: risk, at_most: 2}"

func TestWhatIsWrongWithAFileIsSaid(t *testing.T) {
	t.Parallel()
	_, err := scenario.Parse("sound", []byte(sound))
	require.NoError(t, err, "a scenario of your own need not say what breaks it")
	for _, c := range []struct{ from, to, says string }{
		{"about: nothing happens", "", "what it is about"},
		{"promise:", "promises:", "promises"},
		{"send: transfers", "send: letters", "letters"},
		{"rate: 1", "rate: 0", "rate above 0"},
		{"rate: 1", "rate: 1, tenant: 2", "tenant 2"},
		{"rate: 1", "rate: 1, class: noble", "noble"},
		{"rate: 1", "rate: 1, clients: kind", "kind"},
		{"send: transfers", "send: payouts, clients: insistent", "send transfers"},
		{"send: transfers", "send: buyers", "no units"},
		{
			"  - {send: transfers, rate: 1}",
			"  - {send: transfers, rate: 1}\n  - {send: transfers, rate: 2}", "twice",
		},
		{
			"  - {send: transfers, rate: 1}",
			"  - {send: transfers, rate: 1}\n  - {send: transfers, name: x, rate: 1, clients: insistent}",
			"nobody else",
		},
		{"phase: fault", "phase: calm", "phase of its own"},
		{"for: 1s, turn", "until: {accepted: 1}, turn", "has a bound"},
		{"for: 1s, turn", "for: 1s, fault: earthquake, turn", "earthquake"},
		{"for: 1s, turn", "for: 1s, times: 1000000, turn", "times"},
		{"for: 1s, turn", "for: 1s, pin: gentle, turn", "a mode that there is not"},
		{"error_rate: 0.5", "error_rate: 1.5", "error_rate"},
		{"error_rate: 0.5", "mood: 1", "mood"},
		{"{risk: {error", "{rsik: {error", "rsik"},
		{"amplification: {at: risk", "amplification: {at: rsik", "risk, notify or rail"},
		{"at_most: 2}", "at_most: 2}, paid_once: {}}", "yaml"},
		{claim, "not_slower: {what: speed, in: fault, than: calm, factor: 2}", "speed"},
		{
			claim,
			"not_slower: {what: request of orders, in: fault, than: dusk, factor: 0.5}", "dusk",
		},
		{
			claim,
			"not_slower: {what: request of orders, in: fault, than: calm, factor: 2}", "not sent",
		},
		{claim, "condition: {name: boredom, in: fault}", "boredom"},
		{claim, "condition: {name: degraded}", "in or not_in"},
		{claim, "metric: {name: x, in: fault}", "at_least or at_most"},
		{claim, "modes: {reach: [gentle]}", "gentle"},
		{claim, "goodput: {in: fault, than: calm, at_least: 2}", "at most 1"},
		{claim, "same_answers: {}", "insistent clients"},
		{claim, "done_once: {}", "copying clients"},
		{claim, "sold_once: {}", "units"},
		{claim, "taken_up: {within: 5s}", "a worker that is killed"},
		{claim, "unavailable: {within: 5s}", "kept away"},
		{claim, "{}", "0 kinds"},
		{"recovery: {from: fault", "recovery: {from: dusk", "dusk"},
		{"goodput: 40", "goodput: 50", "110"},
		{"goodput: 40", "beauty: 40", "beauty"},
		{"phase: calm", "phase: dawn", "compares the phases"},
		{"score:", "invariants: [{name: x}]\nscore:", "its SQL"},
		{"score:", "broken: {about: x}\nscore:", "what fails then"},
		{"score:", "broken: {about: x, fails: [y], changes: [{file: z}]}\nscore:", "another to"},
		{"score:", "workers: 99\nscore:", "workers"},
		{"score:", "tenants: 99\nscore:", "tenants"},
	} {
		text := strings.Replace(sound, c.from, c.to, 1)
		require.NotEqual(t, sound, text, c.from)
		_, err := scenario.Parse("odd", []byte(text))
		require.ErrorContains(t, err, c.says, c.to)
		require.ErrorContains(t, err, "odd")
	}
	many := strings.NewReplacer("rate: 1", "rate: 0", "goodput: 40", "goodput: 50", "promise:", "promises:")
	_, err = scenario.Parse("many", []byte(many.Replace(sound)))
	for _, says := range []string{"promises", "rate above 0", "110"} {
		require.ErrorContains(t, err, says, "everything at once")
	}
}
