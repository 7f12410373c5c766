package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const helper = "WITHPG_TEST_HELPER"

func TestMain(m *testing.M) {
	if file, ok := os.LookupEnv(helper); ok {
		os.Exit(ask(file)) //nolint:forbidigo // the command that withpg runs in these tests
	}
	m.Run()
}

// ask is the command under withpg: it writes down which server it found and ends with code 7.
func ask(file string) int {
	ctx := context.Background() //nolint:forbidigo // a program of its own
	url, _ := os.LookupEnv("DATABASE_URL")
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return 1
	}
	var fsync, dir string
	err = conn.QueryRow(ctx, "SELECT current_setting('fsync'), current_setting('data_directory')").
		Scan(&fsync, &dir)
	if err != nil || os.WriteFile(file, []byte(url+"\n"+fsync+"\n"+dir), 0o600) != nil {
		return 1
	}
	return 7
}

func TestTheCommandHasAServerAndItsCodeIsPassedOn(t *testing.T) {
	t.Setenv("DATABASE_URL", "")
	t.Setenv("HOLDFAST_TEST_DATABASE_URL", "")
	for _, c := range []struct{ flags, scheme, fsync string }{
		{"", "postgres:///", "off"},
		{"-tcp -durable", "postgres://postgres@127.0.0.1:", "on"},
	} {
		file := filepath.Join(t.TempDir(), "answer")
		t.Setenv(helper, file)
		self, err := os.Executable()
		require.NoError(t, err)
		args := append(strings.Fields(c.flags), "--", self)
		code, err := run(t.Context(), args, os.Stderr, nil)
		require.NoError(t, err)
		require.Equal(t, 7, code)
		answer, err := os.ReadFile(file)
		require.NoError(t, err)
		lines := strings.Split(string(answer), "\n")
		require.True(t, strings.HasPrefix(lines[0], c.scheme), lines[0])
		require.Equal(t, c.fsync, lines[1])
		require.NoDirExists(t, lines[2], "the server and its data are gone")
	}
}

func TestAGivenServerIsLeftAsItIs(t *testing.T) {
	t.Setenv("DATABASE_URL", "postgres://given")
	check := []string{"sh", "-c", `test "$DATABASE_URL" = postgres://given`}
	code, err := run(t.Context(), check, os.Stderr, nil)
	require.NoError(t, err)
	require.Zero(t, code)
}

func TestSignalsAreTheCommandsToAnswer(t *testing.T) {
	t.Parallel()
	ready := filepath.Join(t.TempDir(), "ready")
	signals := make(chan os.Signal, 1)
	go func() {
		assert.Eventually(t, func() bool {
			_, err := os.Stat(ready)
			return err == nil
		}, 10*time.Second, 5*time.Millisecond)
		signals <- syscall.SIGTERM
	}()
	script := `trap 'exit 5' TERM; : > "$0"; while :; do sleep 0.01; done`
	code, err := runCommand(t.Context(), []string{"sh", "-c", script, ready}, os.Environ(), signals)
	require.NoError(t, err)
	require.Equal(t, 5, code)
}

func TestACommandThatASignalEndsCountsLikeInAShell(t *testing.T) {
	t.Parallel()
	code, err := runCommand(t.Context(), []string{"sh", "-c", "kill -KILL $$"}, os.Environ(), nil)
	require.NoError(t, err)
	require.Equal(t, 128+9, code)
}

func TestMistakesAreUsageErrors(t *testing.T) {
	t.Parallel()
	var said bytes.Buffer
	code, err := run(t.Context(), nil, &said, nil)
	require.ErrorContains(t, err, "usage: withpg")
	require.Equal(t, exitUsage, code)
	code, err = run(t.Context(), []string{"-wrong"}, &said, nil)
	require.NoError(t, err)
	require.Equal(t, exitUsage, code)
	require.Contains(t, said.String(), "wrong")
	code, err = runCommand(t.Context(), []string{"/no/such/program"}, nil, nil)
	require.Error(t, err)
	require.Equal(t, exitUsage, code)
}
