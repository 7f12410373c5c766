package privatepg

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAFolderHasOneServer(t *testing.T) {
	t.Parallel()
	o := Options{Dir: keptDir(t), Volatile: true}
	first := startServer(t, o)
	for _, fresh := range []bool{false, true} {
		o.Fresh = fresh
		_, err := Start(t.Context(), o)
		require.ErrorIs(t, err, ErrInUse)
		require.ErrorContains(t, err, o.Dir)
		require.ErrorContains(t, err, "process "+strconv.Itoa(os.Getpid()))
		require.ErrorContains(t, err, "process "+strconv.Itoa(first.PID()))
	}
	require.Equal(t, "1", ask(t, first.URL("postgres"), "SELECT '1'"), "the first is unharmed")
}

func TestAKeptFolderKeepsItsData(t *testing.T) {
	t.Parallel()
	o := Options{Dir: keptDir(t), Volatile: true}
	s := startServer(t, o)
	ask(t, s.URL("postgres"), "CREATE TABLE kept AS SELECT 'here' AS what")
	require.NoError(t, s.Stop())
	require.Equal(t, "here", ask(t, startServer(t, o).URL("postgres"), "SELECT what FROM kept"))
}

func TestAKilledServerKeepsWhatItCommitted(t *testing.T) {
	t.Parallel()
	o := Options{Dir: keptDir(t), Volatile: true}
	s := startServer(t, o)
	ask(t, s.URL("postgres"), "CREATE TABLE kept AS SELECT 'here' AS what")
	require.NoError(t, syscall.Kill(s.PID(), syscall.SIGKILL))
	<-s.Done()
	require.NoError(t, s.Stop())
	require.True(t, exists(s.folder.data(), "postmaster.pid"), "the crash left its traces")
	require.Equal(t, "here", ask(t, startServer(t, o).URL("postgres"), "SELECT what FROM kept"))
}

func TestAKilledLauncherTakesItsServerAlong(t *testing.T) {
	t.Parallel()
	dir := keptDir(t)
	h, end := startHelper(t, dir, nil)
	ask(t, h.url, "CREATE TABLE kept AS SELECT 'here' AS what")
	require.NoError(t, h.cmd.Process.Kill())
	require.Error(t, end())
	// The next start waits for the dying server or, where the kernel has no such signal, ends it.
	s := startServer(t, Options{Dir: dir, Volatile: true})
	require.True(t, gone(h.pid)())
	require.Equal(t, "here", ask(t, s.URL("postgres"), "SELECT what FROM kept"))
}

func TestEverythingKilledAtOnceRecovers(t *testing.T) {
	t.Parallel()
	dir := keptDir(t)
	h, end := startHelper(t, dir, nil)
	ask(t, h.url, "CREATE TABLE kept AS SELECT 'here' AS what")
	require.NoError(t, syscall.Kill(h.pid, syscall.SIGKILL))
	require.NoError(t, h.cmd.Process.Kill())
	require.Error(t, end())
	s := startServer(t, Options{Dir: dir, Volatile: true})
	require.Equal(t, "here", ask(t, s.URL("postgres"), "SELECT what FROM kept"))
}

func TestAnOrphanIsEndedAndItsFolderTakenOver(t *testing.T) {
	t.Parallel()
	o := Options{Dir: keptDir(t), Volatile: true}
	orphan := startServer(t, o)
	ask(t, orphan.URL("postgres"), "CREATE TABLE kept AS SELECT 'here' AS what")
	require.NoError(t, orphan.folder.lock.Close()) // what the kernel does when a launcher is killed
	s, err := Start(t.Context(), o)
	require.NoError(t, err)
	<-orphan.Done()
	require.Equal(t, "here", ask(t, s.URL("postgres"), "SELECT what FROM kept"))
	require.NoError(t, s.Stop())
	orphan.stopOnce.Do(func() {}) // its folder is not its own any more
}

func TestAServerStartedByOtherMeansIsLeftAlone(t *testing.T) {
	t.Parallel()
	o := Options{Dir: keptDir(t), Volatile: true}
	s := startServer(t, o)
	require.NoError(t, s.Stop())
	args := []string{"-D", s.folder.data(), "-k", s.folder.socket, "-c", "listen_addresses="}
	cmd := command(t.Context(), s.folder, s.bin, "postgres", args)
	cmd.SysProcAttr = attributes(s.folder.owner, syscall.SIGINT)
	p, err := spawn(cmd)
	require.NoError(t, err)
	t.Cleanup(func() { p.stop(stopWait) })
	eventually(t, func() bool { return postmasterPID(s.folder.data()) == cmd.Process.Pid }, "it runs")
	_, err = Start(t.Context(), o)
	require.ErrorIs(t, err, ErrInUse)
	require.ErrorContains(t, err, "process "+strconv.Itoa(cmd.Process.Pid))
	require.False(t, gone(cmd.Process.Pid)())
}

func TestFreshThrowsTheOldDataAway(t *testing.T) {
	t.Parallel()
	o := Options{Dir: keptDir(t), Volatile: true}
	s := startServer(t, o)
	ask(t, s.URL("postgres"), "CREATE TABLE kept AS SELECT 'here' AS what")
	require.NoError(t, s.Stop())
	o.Fresh = true
	s = startServer(t, o)
	require.Equal(t, "0", ask(t, s.URL("postgres"),
		"SELECT count(*)::text FROM pg_tables WHERE tablename = 'kept'"))
	require.False(t, exists(s.Dir(), halfDoneFolder))
}

func TestAForeignFolderIsRefusedAndLeftAsItWas(t *testing.T) {
	t.Parallel()
	for _, fresh := range []bool{false, true} {
		dir := openDir(t)
		precious := filepath.Join(dir, "data")
		require.NoError(t, os.WriteFile(precious, []byte("precious"), 0o600))
		_, err := Start(t.Context(), Options{Dir: dir, Volatile: true, Fresh: fresh})
		require.ErrorIs(t, err, ErrForeign)
		require.ErrorContains(t, err, dir)
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, entries, 1)
		body, err := os.ReadFile(precious)
		require.NoError(t, err)
		require.Equal(t, "precious", string(body))
	}
}

func TestAHalfDoneInitdbIsRedone(t *testing.T) {
	t.Parallel()
	o := Options{Dir: keptDir(t), Volatile: true}
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := Start(ctx, o)
		failed <- err
	}()
	eventually(t, func() bool { return exists(o.Dir, halfDoneFolder, "PG_VERSION") }, "initdb is at work")
	cancel()
	require.ErrorIs(t, <-failed, context.Canceled)
	require.False(t, exists(o.Dir, dataFolder))
	s := startServer(t, o)
	require.Equal(t, "1", ask(t, s.URL("postgres"), "SELECT '1'"))
	require.False(t, exists(o.Dir, halfDoneFolder))
}

func TestDataOfAnotherMajorVersionIsNamed(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	for name, body := range map[string]string{markerFile: "", "data/PG_VERSION": "14\n"} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(body), 0o600))
	}
	_, err := Start(t.Context(), Options{Dir: dir, Volatile: true})
	require.ErrorIs(t, err, ErrVersion)
	require.ErrorContains(t, err, dir)
	require.ErrorContains(t, err, "the data is of 14")
	require.NoError(t, os.Remove(filepath.Join(dir, "data/PG_VERSION")))
	_, err = Start(t.Context(), Options{Dir: dir, Volatile: true})
	require.ErrorContains(t, err, "damaged")
	startServer(t, Options{Dir: dir, Volatile: true, Fresh: true})
}

func TestLitterOfKilledLaunchersIsSwept(t *testing.T) {
	t.Parallel()
	base := openDir(t)
	dirs := map[string]string{"litter": markerFile, "used": markerFile, "inthemaking": lockFile}
	for name, file := range dirs {
		dir := filepath.Join(base, tempPrefix+name)
		require.NoError(t, os.Mkdir(dir, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, file), nil, 0o600))
	}
	lock, err := lockFolder(filepath.Join(base, tempPrefix+"used"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, lock.Close()) })
	sweep(base)
	require.False(t, exists(base, tempPrefix+"litter"))
	require.True(t, exists(base, tempPrefix+"used"))
	require.True(t, exists(base, tempPrefix+"inthemaking"))
}

func TestTheCommandLineOfADeadProcessIsEmpty(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "true")
	require.NoError(t, cmd.Run())
	require.Empty(t, commandLine(t.Context(), cmd.Process.Pid))
	require.Empty(t, commandLine(t.Context(), 0))
	require.Contains(t, commandLine(t.Context(), os.Getpid()), "privatepg")
}
