//go:build faults

package fault_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/fault"
)

// childVariable turns this test binary into the program that is broken.
const childVariable = "HOLDFAST_FAULT_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) == "" { //nolint:forbidigo // the test starts itself as a child
		os.Exit(m.Run()) //nolint:forbidigo // what TestMain is for
	}
	ctx := context.Background() //nolint:forbidigo // this is the child's main function
	for hit := range 3 {
		line := fmt.Sprintf("step %d", hit+1)
		if err := fault.At(ctx, "child.step"); err != nil {
			line = "error " + err.Error()
		}
		if _, err := fmt.Fprintln(os.Stdout, line); err != nil {
			panic(err)
		}
	}
}

func child(t *testing.T, spec string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"=1", "HOLDFAST_FAULT="+spec)
	return cmd
}

func TestKillEndsTheProcessAtTheHit(t *testing.T) {
	t.Parallel()
	out, err := child(t, "other@1=error,child.step@2=kill").Output()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	status, ok := exit.Sys().(syscall.WaitStatus)
	require.True(t, ok)
	require.Equal(t, syscall.SIGKILL, status.Signal())
	require.Equal(t, "step 1\n", string(out))
}

func TestStopFreezesTheProcessUntilItIsContinued(t *testing.T) {
	t.Parallel()
	cmd := child(t, "child.step@2=stop")
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(stdout)
	require.True(t, lines.Scan())
	require.Equal(t, "step 1", lines.Text())

	var status syscall.WaitStatus
	_, err = syscall.Wait4(cmd.Process.Pid, &status, syscall.WUNTRACED, nil)
	require.NoError(t, err)
	require.True(t, status.Stopped(), "status %v", status)

	require.NoError(t, cmd.Process.Signal(syscall.SIGCONT))
	require.True(t, lines.Scan())
	require.Equal(t, "step 2", lines.Text())
	require.True(t, lines.Scan())
	require.NoError(t, cmd.Wait())
}

func TestErrorComesAtTheHitOnly(t *testing.T) {
	t.Parallel()
	out, err := child(t, "child.step@2=error").Output()
	require.NoError(t, err)
	require.Equal(t, "step 1\nerror fault point child.step hit 2: injected fault\nstep 3\n", string(out))
}

func TestASpecThatArmsNothingIsRefusedLoudly(t *testing.T) {
	t.Parallel()
	for _, spec := range []string{
		"child.step", "child.step@0=kill", "@1=kill", "child.step@1=explode", "child.step@1=delay:x",
	} {
		out, err := child(t, spec).CombinedOutput()
		require.Error(t, err, spec)
		require.Contains(t, string(out), "HOLDFAST_FAULT: fault ", spec)
	}
}

func TestSetArmsThisProcessForOneTest(t *testing.T) {
	t.Parallel()
	t.Cleanup(func() { // runs after the subtest
		require.NoError(t, fault.At(context.WithoutCancel(t.Context()), "set.step"))
	})
	t.Run("armed", func(t *testing.T) {
		t.Parallel()
		fault.Set(t, "set.step", 1, "error")
		require.ErrorIs(t, fault.At(t.Context(), "set.step"), fault.ErrInjected)
		require.NoError(t, fault.At(t.Context(), "set.step"), "a point acts once")
		fault.Set(t, "set.step", 1, "error")
	})
}

func TestDelayEndsWithTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fault.Set(t, "delay.step", 1, "delay:1m")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.NoError(t, fault.At(ctx, "delay.step"))
		require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
	})
}
