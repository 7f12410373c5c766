package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// childVariable makes the test program the system under test.
const childVariable = "BENCH_TEST_CHILD"

func TestMain(m *testing.M) {
	if _, is := os.LookupEnv(childVariable); is {
		//nolint:forbidigo // a program of its own
		if err := Serve(context.Background(), os.Environ(), os.Stdin, os.Stdout); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
			os.Exit(1) //nolint:forbidigo // a program of its own
		}
		return
	}
	m.Run()
}

// tiny is a run of every phase that proves nothing but that they run.
func tiny(t *testing.T) Options {
	t.Helper()
	program, err := os.Executable()
	require.NoError(t, err)
	o := Quick()
	o.Command, o.Environ = []string{program}, []string{childVariable + "=1"}
	o.Now, o.Env = time.Now, os.Getenv //nolint:forbidigo // what main does
	o.Progress = t.Output()
	o.Phase, o.Ramp, o.PgbenchSeconds, o.Accounts = 150*time.Millisecond, 50*time.Millisecond, 0, 20
	o.Callers, o.Rates, o.Volatile = []int{8}, []float64{100}, true
	return o
}

func TestAWholeRunMeasuresEveryPhase(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a PostgreSQL and a system of each kind")
	}
	r, err := Run(t.Context(), tiny(t))
	require.NoError(t, err)
	require.Len(t, r.Commits, 2)
	names := map[string]bool{}
	for _, p := range r.Phases {
		names[p.System+": "+p.Name] = true
		require.Empty(t, p.Broken, p.Name)
		require.Positive(t, p.Invariants)
		require.Positive(t, p.Accepted, p.Name)
		require.Zero(t, p.Failed, p.Name)
		require.Empty(t, p.Unexpected, p.Name)
		require.Positive(t, p.CPU.System, p.Name)
		require.Equal(t, runtime.GOOS == "linux", p.CPU.PostgresKnown)
		if works(p.System) {
			require.True(t, p.Drained, p.Name)
			require.Positive(t, p.SettleP50MS, p.Name)
		}
		require.Zero(t, p.Canceled, p.Name)
	}
	for _, name := range []string{
		"naive-accepts: accept only, 8 callers", "naive: accept to settled, 8 callers", "naive: offered rate",
		"holdfast-accepts: accept only, 8 callers", "holdfast: low rate",
		"holdfast: accept to settled, 8 callers", "holdfast: offered rate",
		"holdfast: order, placed to ended, 8 callers", "holdfast: order, half of that rate",
		"holdfast, silent: events leave, round 1, 8 callers",
		"holdfast, logged: events leave, round 1, 8 callers",
		"holdfast, published: events leave, round 1, 8 callers",
		"holdfast, traced: events leave, round 1, 8 callers",
	} {
		require.True(t, names[name], "no phase %q in %v", name, names)
	}
	var table strings.Builder
	require.NoError(t, r.Markdown(&table))
	require.Contains(t, table.String(), "| naive | offered rate |")
	require.Contains(t, table.String(), "| holdfast | order, half of that rate |")
	require.Contains(t, table.String(), "Orders in the closed loop: ")
	require.Contains(t, table.String(), "| holdfast, silent | ")
	require.Len(t, r.Events, len(eventKinds()))
	for _, e := range r.Events {
		require.Positive(t, e.Share, e.System)
	}
}

func TestARunOfNothingIsRefused(t *testing.T) {
	t.Parallel()
	o := tiny(t)
	o.SkipPgbench, o.SkipNaive, o.SkipHoldfast, o.SkipOrders, o.SkipEvents = true, true, true, true, true
	_, err := Run(t.Context(), o)
	require.ErrorIs(t, err, errNothing)
}

func TestADefaultRunFitsItsTime(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		o    Options
		most time.Duration
	}{{Full(), 8 * time.Minute}, {Quick(), time.Minute}} {
		// Twice accepts; naive three times; low, half; each closed and open loop of Holdfast; orders twice;
		// each kind of way out in each round.
		phases := 1 + len(c.o.Callers) + 3 + 2 + len(c.o.Callers) + len(c.o.Shares) + 2 +
			c.o.EventRounds*len(eventKinds())
		load := time.Duration(phases)*(c.o.Phase+c.o.Ramp) + 5*c.o.Ramp +
			2*time.Duration(c.o.PgbenchSeconds)*time.Second
		require.Less(t, load, c.most*7/10, "the rest is for starts, drains and checks")
	}
}

func TestAChildAnswersUntilItsParentEnds(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, answerParent(strings.NewReader("cpu\ncpu\n"), &out, "127.0.0.1:1"))
	require.Regexp(t, `^\{"addr":"127.0.0.1:1"\}\n(\{"cpu_ns":\d+\}\n){2}$`, out.String())
	require.Error(t, answerParent(strings.NewReader("what\n"), io.Discard, ""))
}

func TestASystemHasToBeNamed(t *testing.T) {
	t.Parallel()
	err := Serve(t.Context(), []string{kindVariable + "=other"}, strings.NewReader(""), io.Discard)
	require.ErrorContains(t, err, "names no system")
}

func TestCPUIsThatOfTheProcesses(t *testing.T) {
	t.Parallel()
	before := ownCPU()
	for n := 0; ownCPU()-before < 30*time.Millisecond; n++ {
		require.Less(t, n, 1_000_000_000)
	}
	tree, known := treeCPU(os.Getpid())
	machine, alsoKnown := machineCPU()
	require.Equal(t, known, alsoKnown)
	if known {
		require.GreaterOrEqual(t, tree, 20*time.Millisecond)
		require.Greater(t, machine, tree)
	}
	_, known = treeCPU(-1)
	require.False(t, known)
}

func TestAProfileIsWrittenWhenItIsAskedFor(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "cpu.profile")
	stop, err := profile(file)
	require.NoError(t, err)
	require.NoError(t, stop())
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Positive(t, info.Size())
	stop, err = profile("")
	require.NoError(t, err)
	require.NoError(t, stop())
	_, err = profile(filepath.Join(file, "nowhere"))
	require.Error(t, err)
}
