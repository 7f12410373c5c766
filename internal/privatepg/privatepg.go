// Package privatepg runs a PostgreSQL server of one's own from binaries that are already on the
// machine: for `up` on a laptop, for tests, for drills and for load runs.
//
// It refuses to run as a production database: authentication is trust, kept safe by a unix socket
// in a folder that only one user can enter; the TCP port, on request, is open to every user of the
// machine. It installs nothing, and it never touches a folder or a server that it did not make.
//
// Invariant: a folder has at most one server, held by a lock that dies with its launcher.
// Invariant: on Linux the server ends with its launcher, however that ends. Elsewhere a server whose
// launcher was killed stays until the next start on its folder, which ends it and recovers.
package privatepg

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	superuser = "postgres"
	// socketPort names the socket file when no TCP port is asked for.
	socketPort = 5432
	// readyWait bounds a start: it has to leave room for crash recovery of a kept folder.
	readyWait = 120 * time.Second
	readyPoll = 10 * time.Millisecond
	// stopWait bounds a fast shutdown; then the server is killed and recovers at its next start.
	stopWait = 10 * time.Second
)

var (
	// ErrInUse is returned for a folder that another launcher or server holds.
	ErrInUse = errors.New("folder is in use")
	// ErrForeign is returned for a folder with content that this package did not make.
	ErrForeign = errors.New("folder is not a private PostgreSQL's")
	// ErrVersion is returned when no binaries fit: too old, or of another major version than the data.
	ErrVersion = errors.New("no PostgreSQL of a fitting version")
)

// Options says which server to run. The zero value is a durable server in a temporary folder.
type Options struct {
	// BinDir holds initdb and postgres; empty means search as FindBinaries does.
	BinDir string
	// Env reads PG_BIN_DIR and PATH for the search; nil reads nothing.
	Env func(string) string
	// Download is asked for a folder with binaries when the search finds none.
	Download func(ctx context.Context) (string, error)
	// Dir keeps the data; empty means a temporary folder that Stop removes.
	Dir string
	// Fresh throws the kept data of Dir away first.
	Fresh bool
	// Volatile trades safety against a crash of the machine for speed. A crash of the server alone
	// still loses nothing that was committed.
	Volatile bool
	// TCP also listens on 127.0.0.1, on Port or, if that is 0, on a free port.
	TCP  bool
	Port int
	// Params are settings of the server that override those of this package.
	Params map[string]string
	// Environ is added to the server's environment ("KEY=value").
	Environ []string
	// Log gets the launcher's own events and, at debug level, the server's output; nil is silent.
	Log *slog.Logger
}

// Server is a running PostgreSQL. Its methods are safe for concurrent use.
type Server struct {
	opts     Options
	bin      binaries
	folder   *folder
	port     int
	process  *process
	output   *output
	stopOnce sync.Once
	stopErr  error
}

// Start brings a server up and returns when it accepts connections. The server outlives ctx.
func Start(ctx context.Context, o Options) (*Server, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, readyWait,
		fmt.Errorf("private postgres was not ready within %s", readyWait))
	defer cancel()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	f, err := claimFolder(ctx, o)
	if err != nil {
		return nil, err
	}
	s, err := startIn(ctx, f, o)
	if err != nil {
		return nil, errors.Join(err, f.release())
	}
	o.Log.LogAttrs(ctx, slog.LevelInfo, "private postgres is ready",
		slog.String("dir", f.path), slog.Int("pid", s.PID()), slog.String("version", s.Version()))
	return s, nil
}

func startIn(ctx context.Context, f *folder, o Options) (*Server, error) {
	major, err := f.dataMajor()
	if err != nil {
		return nil, err
	}
	bin, err := chooseBinaries(ctx, o, f.owner, major)
	if err != nil {
		return nil, fmt.Errorf("folder %s: %w", f.path, err)
	}
	if major == 0 {
		if err := f.initialize(ctx, bin, o.Volatile); err != nil {
			return nil, err
		}
	}
	s := &Server{opts: o, bin: bin, folder: f, output: &output{}}
	if err := s.launchPatiently(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// URL returns the connection string of a database over the unix socket.
func (s *Server) URL(db string) string {
	q := url.Values{
		"host":    {s.folder.socket},
		"port":    {strconv.Itoa(s.port)},
		"user":    {superuser},
		"sslmode": {"disable"},
	}
	u := url.URL{Scheme: "postgres", Path: "/" + db, RawQuery: q.Encode()}
	return u.String()
}

// TCPURL returns the connection string of a database over TCP, or "" if Options.TCP was not set.
func (s *Server) TCPURL(db string) string {
	if !s.opts.TCP {
		return ""
	}
	u := url.URL{
		Scheme:   "postgres",
		User:     url.User(superuser),
		Host:     "127.0.0.1:" + strconv.Itoa(s.port),
		Path:     "/" + db,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// PID returns the process id of the postmaster, the parent of all other processes of the server.
func (s *Server) PID() int { return s.process.cmd.Process.Pid }

// Dir returns the folder of the server: data, lock and usually the socket.
func (s *Server) Dir() string { return s.folder.path }

// Version returns the version of the binaries, such as "15.18".
func (s *Server) Version() string { return s.bin.version }

// Done is closed when the server has ended, by Stop or by itself.
func (s *Server) Done() <-chan struct{} { return s.process.done }

// Output returns the last lines that the server wrote.
func (s *Server) Output() string { return s.output.String() }

// Stop shuts the server down and gives its folder back; a temporary folder is removed. A server that
// has already died is not an error. Later calls return the first one's result.
func (s *Server) Stop() error {
	s.stopOnce.Do(func() {
		s.process.stop(stopWait)
		s.stopErr = s.folder.release()
	})
	return s.stopErr
}

// Kill ends all processes of the server at once, without a checkpoint, as a crash of its machine does. What
// was committed is there again after Relaunch.
func (s *Server) Kill() {
	_ = s.process.cmd.Process.Signal(syscall.SIGQUIT) // an error means that it has already ended
	<-s.process.done
}

// Relaunch starts a server again that has ended, in its folder: URL stays as it is unless it names a port
// that was free.
func (s *Server) Relaunch(ctx context.Context) error { return s.launchPatiently(ctx) }

func exists(path ...string) bool {
	_, err := os.Lstat(filepath.Join(path...))
	return err == nil
}
