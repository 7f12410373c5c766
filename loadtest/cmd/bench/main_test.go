package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/loadtest/bench"
)

func parsed(t *testing.T, args ...string) (bench.Options, string) {
	t.Helper()
	var c cli
	k, err := kong.New(&c)
	require.NoError(t, err)
	parsed, err := k.Parse(args)
	require.NoError(t, err)
	o, err := c.Run.options()
	require.NoError(t, err)
	return o, parsed.Command()
}

func TestWithoutFlagsEverythingIsMeasured(t *testing.T) {
	t.Parallel()
	o, command := parsed(t)
	require.Equal(t, "run", command)
	require.Equal(t, bench.Full().Phase, o.Phase)
	require.Equal(t, bench.Full().Callers, o.Callers)
	require.Len(t, o.Command, 2)
	require.Equal(t, "serve", o.Command[1], "the child is this program again")
	require.False(t, o.SkipPgbench || o.SkipNaive || o.SkipHoldfast || o.SkipOrders || o.SkipEvents)
	require.False(t, o.Volatile)
}

func TestFlagsNarrowTheRun(t *testing.T) {
	t.Parallel()
	o, _ := parsed(t, "--quick", "--phase=3s", "--callers=8,16", "--rates=100,200.5", "--low-rate=20",
		"--skip=naive", "--skip=pgbench", "--skip=orders", "--http-deps", "--impatient",
		"--set=HOLDFAST_API_CONNS=4")
	require.Equal(t, bench.Quick().Accounts, o.Accounts)
	require.Equal(t, 3*time.Second, o.Phase)
	require.Equal(t, bench.Quick().Ramp, o.Ramp)
	require.Equal(t, []int{8, 16}, o.Callers)
	require.Equal(t, []float64{100, 200.5}, o.Rates)
	require.InDelta(t, 20, o.LowRate, 0)
	require.True(t, o.SkipNaive && o.SkipPgbench && o.SkipOrders && o.HTTPDependencies && o.Impatient)
	require.Equal(t, []string{"HOLDFAST_API_CONNS=4"}, o.Environ)
}

func TestTheReportIsWrittenForPrograms(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "report.json")
	require.NoError(t, writeJSON(file, bench.Report{Ratio: 15}))
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	var back bench.Report
	require.NoError(t, json.Unmarshal(text, &back))
	require.InDelta(t, 15, back.Ratio, 0)
	require.Error(t, writeJSON(filepath.Join(file, "nowhere"), bench.Report{}))
}
