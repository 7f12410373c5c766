package rig

import (
	"bufio"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// childVariable makes the test program a child that behaves as its value says.
const childVariable = "RIG_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childVariable) { //nolint:forbidigo // a program of its own
	case "":
		m.Run()
	case "polite":
		answerAll()
	case "deaf": // to everything but SIGKILL
		signal.Ignore(syscall.SIGTERM)
		answerAll()
		select {}
	}
}

// answerAll says ready and answers each line with its length, until there are no more.
func answerAll() {
	_, _ = fmt.Fprintln(os.Stdout, `{"pid":`, os.Getpid(), `}`)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		_, _ = fmt.Fprintln(os.Stdout, len(lines.Text()))
	}
}

func start(t *testing.T, kind string) (*Child, error) {
	t.Helper()
	program, err := os.Executable()
	require.NoError(t, err)
	var ready struct {
		PID int `json:"pid"`
	}
	c, err := StartChild(t.Context(), Command{
		Args: []string{program}, Environ: []string{childVariable + "=" + kind}, Stderr: t.Output(),
	}, &ready)
	if err == nil {
		require.NotEqual(t, os.Getpid(), ready.PID)
	}
	return c, err
}

func TestAChildAnswersUntilItIsStopped(t *testing.T) {
	t.Parallel()
	c, err := start(t, "polite")
	require.NoError(t, err)
	var n int
	require.NoError(t, c.Ask("four", &n))
	require.Equal(t, 4, n)
	require.NoError(t, c.Stop())
	require.NoError(t, c.Stop(), "again is harmless")
	require.Error(t, c.Ask("anybody there", &n))
}

func TestAChildThatIsNeverReadyIsAnError(t *testing.T) {
	t.Parallel()
	_, err := start(t, "mute")
	require.Error(t, err)
}

func TestAKilledChildHasEnded(t *testing.T) {
	t.Parallel()
	c, err := start(t, "deaf")
	require.NoError(t, err)
	require.NoError(t, c.Kill())
	require.ErrorIs(t, c.Signal(syscall.SIGTERM), os.ErrProcessDone)
	require.NoError(t, c.Kill(), "again is harmless")
}

func TestAChildThatDoesNotEndIsKilledAndSaysSo(t *testing.T) {
	t.Parallel()
	c, err := start(t, "deaf")
	require.NoError(t, err)
	require.NoError(t, c.Signal(syscall.SIGTERM))
	require.ErrorContains(t, c.Wait(10*time.Millisecond), "signal: killed")
}
