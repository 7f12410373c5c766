package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/loadtest/drill"
)

func parsed(t *testing.T, args ...string) (runCmd, string) {
	t.Helper()
	var c cli
	k, err := kong.New(&c)
	require.NoError(t, err)
	parsed, err := k.Parse(args)
	require.NoError(t, err)
	return c.Run, parsed.Command()
}

func TestScenariosAreNamedOrASetIsMeant(t *testing.T) {
	t.Parallel()
	c, command := parsed(t, "run", "drain", "kills", "--scale=0.1", "--set=HOLDFAST_RISK_LIMIT=4")
	require.Equal(t, "run <names>", command)
	require.Equal(t, []string{"drain", "kills"}, c.Names)
	o, done, err := c.options()
	require.NoError(t, err)
	require.NoError(t, done())
	require.InDelta(t, 0.1, o.Scale, 0)
	require.Equal(t, []string{"HOLDFAST_RISK_LIMIT=4"}, o.Environ)
	require.Equal(t, "serve", o.Command[1], "a process is this program again")
	for _, args := range []string{"--fast --all", "--all drain", "--fast kills"} {
		c, _ := parsed(t, append([]string{"run"}, strings.Fields(args)...)...)
		require.ErrorIs(t, c.run(t.Context(), io.Discard), errNames)
	}
	c, command = parsed(t, "run", "--all")
	require.Equal(t, "run", command)
	require.InDelta(t, 1, c.Scale, 0)
	_, command = parsed(t, "list")
	require.Equal(t, "list", command)
}

func TestTheReportIsWrittenForPeopleAndPrograms(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := runCmd{JSON: filepath.Join(dir, "a.json"), MD: filepath.Join(dir, "a.md")}
	report := drill.Report{Outcomes: []drill.Outcome{{Scenario: "drain", Claims: []drill.Claim{{Name: "x"}}}}}
	require.NoError(t, c.write(report, io.Discard))
	text, err := os.ReadFile(c.JSON)
	require.NoError(t, err)
	var back drill.Report
	require.NoError(t, json.Unmarshal(text, &back))
	require.Equal(t, "drain", back.Outcomes[0].Scenario)
	text, err = os.ReadFile(c.MD)
	require.NoError(t, err)
	require.Contains(t, string(text), "**FAILS**")
	c.JSON = filepath.Join(c.MD, "nowhere")
	require.Error(t, c.write(report, io.Discard))
}
