package pgtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/privatepg"
)

func TestAGivenServerIsUsedAndTunedPerDatabase(t *testing.T) {
	o := options()
	o.Params = nil // as a server that knows nothing of our tests
	given, err := privatepg.Start(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, given.Stop()) })
	t.Setenv("HOLDFAST_TEST_DATABASE_URL", given.URL("postgres"))
	t.Setenv("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nothing")
	srv, err := connect(t.Context())
	require.NoError(t, err)
	require.Nil(t, srv.private)
	require.False(t, srv.tuned)
	name := nextName()
	require.NoError(t, srv.create(t.Context(), name, pristine))
	url, err := srv.url(name)
	require.NoError(t, err)
	var timeout string
	require.NoError(t, openPool(t, url).QueryRow(t.Context(), "SHOW deadlock_timeout").Scan(&timeout))
	require.Equal(t, deadlockTimeout, timeout)
}

func TestAGivenServerHasToBeAURL(t *testing.T) {
	t.Setenv("HOLDFAST_TEST_DATABASE_URL", "host=/tmp dbname=postgres")
	_, err := connect(t.Context())
	require.ErrorContains(t, err, "has to look like postgres://")
}

// probeOut makes this test binary a package of its own whose only test says where its server lives;
// probeBare leaves Main out.
const (
	probeOut  = "PGTEST_PROBE_OUT"
	probeBare = "PGTEST_PROBE_BARE"
)

func TestProbe(t *testing.T) {
	t.Parallel()
	out, ok := os.LookupEnv(probeOut)
	if !ok {
		t.Skip("it is run by TestAProcessTakesItsPrivateServerAlong")
	}
	var dir string
	require.NoError(t, Empty(t).Pool.QueryRow(t.Context(), "SHOW data_directory").Scan(&dir))
	require.NoError(t, os.WriteFile(out, []byte(dir), 0o600))
}

func TestAProcessTakesItsPrivateServerAlong(t *testing.T) {
	t.Parallel()
	for name, bare := range map[string]bool{"with Main": false, "without Main": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dataDir := runProbe(t, bare)
			pidFile := filepath.Join(dataDir, "postmaster.pid")
			require.Eventually(t, func() bool {
				_, err := os.Stat(pidFile)
				return os.IsNotExist(err)
			}, cleanupWait, 10*time.Millisecond, "the server shuts down with the process")
			if !bare { // without it the next private server sweeps the folder
				require.NoDirExists(t, filepath.Dir(dataDir))
			}
		})
	}
}

// runProbe returns the data folder of the probe's server.
func runProbe(t *testing.T, bare bool) string {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	out := filepath.Join(t.TempDir(), "out")
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestProbe$")
	cmd.Env = append(os.Environ(), "DATABASE_URL=", "HOLDFAST_TEST_DATABASE_URL=", probeOut+"="+out)
	if bare {
		cmd.Env = append(cmd.Env, probeBare+"=1")
	}
	text, err := cmd.CombinedOutput()
	require.NoError(t, err, string(text))
	dataDir, err := os.ReadFile(out)
	require.NoError(t, err)
	return string(dataDir)
}
