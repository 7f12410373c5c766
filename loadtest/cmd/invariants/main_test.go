package main

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/invariant"
	"example.com/holdfast/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// psql runs a script of checks on a fresh database.
func psql(t *testing.T, checks []invariant.Invariant) string {
	t.Helper()
	program, err := exec.LookPath("psql")
	if err != nil {
		t.Skip("skipped: no psql on this machine")
	}
	var script bytes.Buffer
	require.NoError(t, write(&script, checks))
	command := exec.CommandContext(t.Context(), program, "-X", pgtest.DB(t).URL)
	command.Stdin = &script
	out, err := command.CombinedOutput()
	require.NoError(t, err, string(out))
	return strings.TrimSpace(string(out))
}

func TestTheScriptRunsEveryInvariant(t *testing.T) {
	t.Parallel()
	require.Regexp(t, `^[1-9][0-9]+ invariants checked, breaks: 0$`, psql(t, all()))
}

func TestTheScriptNamesAndCountsBreaks(t *testing.T) {
	t.Parallel()
	out := psql(t, []invariant.Invariant{
		{Name: "kept", SQL: "SELECT 'never' AS what WHERE false"},
		{Name: "broken", SQL: "SELECT format('row %s', n) AS what FROM generate_series(1, 2) n"},
		{Name: "kept_as_well", SQL: "SELECT 'never' AS what WHERE false"},
	})
	require.Equal(t, "broken: row 1\nbroken: row 2\n3 invariants checked, breaks: 2", out)
}
