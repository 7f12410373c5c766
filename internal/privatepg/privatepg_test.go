package privatepg

import (
	"bytes"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestAServerIsDurableUnlessAskedOtherwise(t *testing.T) {
	t.Parallel()
	s := startServer(t, Options{Params: map[string]string{"shared_buffers": "64MB"}})
	for name, want := range map[string]string{
		"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "jit": "off",
		"wal_compression": "pglz", "autovacuum_naptime": "10s", "listen_addresses": "",
		"shared_buffers": "64MB",
	} {
		require.Equal(t, want, ask(t, s.URL("postgres"), "SHOW "+name), name)
	}
	require.Empty(t, s.TCPURL("postgres"))
	require.True(t, strings.HasPrefix(ask(t, s.URL("postgres"), "SHOW server_version"), s.Version()))
	require.Contains(t, commandLine(t.Context(), s.PID()), s.Dir())
}

func TestAVolatileServerKeepsCommitsThroughItsOwnCrash(t *testing.T) {
	t.Parallel()
	s := startServer(t, Options{Volatile: true})
	require.Equal(t, "off", ask(t, s.URL("postgres"), "SHOW fsync"))
	require.Equal(t, "on", ask(t, s.URL("postgres"), "SHOW synchronous_commit"))
}

func TestOnlyTheOwnerEntersTheFolder(t *testing.T) {
	t.Parallel()
	s := startServer(t, Options{Volatile: true})
	for _, dir := range []string{s.Dir(), s.folder.socket, s.folder.data()} {
		fi, err := os.Stat(dir)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o700), fi.Mode().Perm(), dir)
	}
}

func TestStopRemovesATemporaryFolderAndMayBeRepeated(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s, err := Start(t.Context(), Options{Volatile: true, Log: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	require.NoError(t, s.Stop())
	require.NoError(t, s.Stop())
	<-s.Done()
	require.False(t, exists(s.Dir()))
	require.Contains(t, log.String(), "private postgres is ready")
}

func TestTCPListensOnAFreePortOfThisMachine(t *testing.T) {
	t.Parallel()
	s := startServer(t, Options{Volatile: true, TCP: true})
	require.Equal(t, "127.0.0.1", ask(t, s.TCPURL("postgres"), "SHOW listen_addresses"))
	require.Equal(t, "1", ask(t, s.URL("postgres"), "SELECT '1'"))
}

func TestATakenPortIsNamed(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	number, err := strconv.Atoi(port)
	require.NoError(t, err)
	dir := keptDir(t)
	_, err = Start(t.Context(), Options{Dir: dir, Volatile: true, TCP: true, Port: number})
	require.ErrorContains(t, err, "Address already in use")
	startServer(t, Options{Dir: dir, Volatile: true}) // and the folder was given back
}

func TestALongFolderPathHasItsSocketElsewhere(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(keptDir(t), strings.Repeat("long", 30))
	s := startServer(t, Options{Dir: dir, Volatile: true})
	require.LessOrEqual(t, len(filepath.Join(s.folder.socket, ".s.PGSQL.65535")), socketMaxBytes)
	require.Equal(t, "1", ask(t, s.URL("postgres"), "SELECT '1'"))
	require.NoError(t, s.Stop())
	require.False(t, exists(s.folder.socket))
	require.True(t, exists(s.folder.data()))
}

func TestTheCallersEnvironmentDoesNotReachTheServer(t *testing.T) {
	t.Setenv("PGDATA", "/nonexistent")
	t.Setenv("PGPORT", "1")
	s := startServer(t, Options{Volatile: true, Environ: []string{"PGTZ=Asia/Tokyo"}})
	require.Equal(t, strconv.Itoa(socketPort), ask(t, s.URL("postgres"), "SHOW port"))
}

func BenchmarkColdStartVolatile(b *testing.B) { benchmarkCold(b, Options{Volatile: true}) }
func BenchmarkColdStartDurable(b *testing.B)  { benchmarkCold(b, Options{}) }

func benchmarkCold(b *testing.B, o Options) {
	b.Helper()
	for b.Loop() {
		s, err := Start(b.Context(), o)
		require.NoError(b, err)
		b.StopTimer()
		require.NoError(b, s.Stop())
		b.StartTimer()
	}
}

func BenchmarkWarmStartDurable(b *testing.B) {
	dir, err := os.MkdirTemp("/tmp", "hf-") //nolint:usetesting // too deep for a socket
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, os.RemoveAll(dir)) })
	o := Options{Dir: dir}
	s, err := Start(b.Context(), o)
	require.NoError(b, err)
	require.NoError(b, s.Stop())
	benchmarkCold(b, o)
}

func TestAServerThatWasKilledComesBackWithWhatWasCommitted(t *testing.T) {
	t.Parallel()
	s := startServer(t, Options{})
	url := s.URL("postgres")
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "CREATE TABLE kept AS SELECT 1 AS n")
	require.NoError(t, err)
	s.Kill()
	_, err = pgx.Connect(t.Context(), url)
	require.Error(t, err)
	require.NoError(t, s.Relaunch(t.Context()))
	require.Equal(t, url, s.URL("postgres"))
	require.Equal(t, "1", ask(t, url, "SELECT count(*)::text FROM kept"))
}
