package privatepg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// waitMax bounds every wait of these tests.
const waitMax = 30 * time.Second

// helperDir makes the test binary a launcher: it starts a server there, says so and waits.
const helperDir = "PRIVATEPG_HELPER_DIR"

func TestMain(m *testing.M) {
	if dir, ok := os.LookupEnv(helperDir); ok {
		if err := launcher(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		return
	}
	m.Run()
}

// launcher prints the server's pid, user and URL, and stops it when its input ends.
func launcher(dir string) error {
	ctx := context.Background() //nolint:forbidigo // a program of its own
	s, err := Start(ctx, Options{Dir: dir, Volatile: true})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(os.Stdout, "%d %d %s\n", s.PID(), os.Geteuid(), s.URL("postgres"))
	_, errRead := os.Stdin.Read(make([]byte, 1))
	if errRead == nil {
		err = errors.Join(err, errors.New("unexpected input"))
	}
	return errors.Join(err, s.Stop())
}

type helper struct {
	cmd *exec.Cmd
	pid int // of the postmaster
	uid string
	url string
}

// startHelper runs a launcher in a process of its own; closing its input (end) lets it stop.
func startHelper(t *testing.T, dir string, as *syscall.Credential) (*helper, func() error) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	if as != nil { // go test keeps the binary where only its user may go
		self = copyProgram(t, self)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), helperDir+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	h := &helper{cmd: cmd}
	_, err = fmt.Fscanln(out, &h.pid, &h.uid, &h.url)
	require.NoError(t, err, "the launcher says that it is ready")
	return h, func() error { return errors.Join(in.Close(), cmd.Wait()) }
}

func copyProgram(t *testing.T, program string) string {
	t.Helper()
	body, err := os.ReadFile(program)
	require.NoError(t, err)
	to := filepath.Join(openDir(t), "launcher")
	require.NoError(t, os.WriteFile(to, body, 0o755))
	return to
}

// openDir returns a folder with a short path that other users may enter, which t.TempDir is not.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "hf-") //nolint:usetesting // see above
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// keptDir returns the path of a data folder that does not exist yet.
func keptDir(t *testing.T) string {
	t.Helper()
	return filepath.Join(openDir(t), "pg")
}

func startServer(t *testing.T, o Options) *Server {
	t.Helper()
	s, err := Start(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	return s
}

// ask runs a statement and returns its one value.
func ask(t *testing.T, url, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	var value string
	rows, err := conn.Query(t.Context(), sql)
	require.NoError(t, err)
	for rows.Next() {
		require.NoError(t, rows.Scan(&value))
	}
	require.NoError(t, rows.Err())
	require.NoError(t, conn.Close(t.Context()))
	return value
}

func eventually(t *testing.T, holds func() bool, what string) {
	t.Helper()
	require.Eventually(t, holds, waitMax, 5*time.Millisecond, what)
}

func gone(pid int) func() bool {
	return func() bool {
		state, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
		if _, errProc := os.Stat("/proc/self"); errProc != nil {
			return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
		}
		return err != nil || strings.Contains(string(state), ") Z ")
	}
}
