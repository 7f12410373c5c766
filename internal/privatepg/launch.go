package privatepg

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// clusterName marks our servers: it is on their command line.
	clusterName = "cluster_name=holdfast-private"
	// launchesMax times relaunchPause is how long a start waits for a dead server's last backends.
	launchesMax   = 25
	relaunchPause = 200 * time.Millisecond
)

// initialize makes the data beside its place and moves it there when it is whole, so that a killed
// initdb leaves nothing that looks like data.
func (f *folder) initialize(ctx context.Context, bin binaries, volatile bool) error {
	halfDone := filepath.Join(f.path, halfDoneFolder)
	if err := os.RemoveAll(halfDone); err != nil {
		return err
	}
	args := []string{
		"--pgdata=" + halfDone, "--username=" + superuser, "--auth=trust", "--encoding=UTF8",
		"--locale=C", "--no-instructions",
	}
	if volatile {
		args = append(args, "--no-sync")
	}
	out := &output{line: func(string) {}}
	cmd := command(ctx, f, bin, "initdb", args)
	cmd.SysProcAttr = attributes(f.owner, syscall.SIGKILL)
	cmd.Stdout, cmd.Stderr = out, out
	p, err := spawn(cmd)
	if err != nil {
		return fmt.Errorf("initdb in %s: %w", f.path, err)
	}
	<-p.done
	if p.err != nil {
		return fmt.Errorf("initdb in %s: %w\n%s", f.path, errors.Join(p.err, context.Cause(ctx)), out)
	}
	if err := os.Rename(halfDone, f.data()); err != nil {
		return err
	}
	return syncFolder(f.path)
}

// syncFolder makes a rename survive a power cut.
func syncFolder(path string) error {
	dir, err := os.Open(path) //nolint:gosec // our own folder
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// command leaves out the caller's environment: PGDATA, PGPORT and the like must not reach the server.
func command(ctx context.Context, f *folder, bin binaries, name string, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(bin.dir, name), args...) //nolint:gosec // found binaries
	cmd.Dir = f.path
	cmd.Env = []string{"LC_ALL=C", "HOME=" + f.path, "PATH=" + bin.dir + ":/usr/bin:/bin"}
	return cmd
}

// launchPatiently repeats a launch that failed for a reason that passes.
func (s *Server) launchPatiently(ctx context.Context) error {
	for n := 1; ; n++ {
		err := s.launch(ctx)
		if err == nil || n == launchesMax || !s.passes() {
			return err
		}
		select {
		case <-time.After(relaunchPause):
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// passes tells whether the output names a reason that goes away: a killed postmaster that nobody has
// reaped yet (endOrphan has seen that it does not live), its backends that have not noticed yet, or a
// free port that someone else took first.
func (s *Server) passes() bool {
	out := s.output.String()
	return strings.Contains(out, `lock file "postmaster.pid" already exists`) ||
		strings.Contains(out, "pre-existing shared memory block") ||
		s.opts.TCP && s.opts.Port == 0 && strings.Contains(out, "Address already in use")
}

func (s *Server) launch(ctx context.Context) error {
	if err := s.choosePort(ctx); err != nil {
		return err
	}
	logCtx := context.WithoutCancel(ctx) // the server outlives its start
	s.output = &output{line: func(l string) {
		s.opts.Log.LogAttrs(logCtx, slog.LevelDebug, "private postgres wrote", slog.String("line", l))
	}}
	cmd := command(logCtx, s.folder, s.bin, "postgres", s.arguments())
	cmd.Env = append(cmd.Env, s.opts.Environ...)
	cmd.SysProcAttr = attributes(s.folder.owner, syscall.SIGINT)
	cmd.Stdout, cmd.Stderr = s.output, s.output
	p, err := spawn(cmd)
	if err != nil {
		return fmt.Errorf("postgres in %s: %w", s.folder.path, err)
	}
	s.process = p
	if err := s.awaitReady(ctx); err != nil {
		p.stop(stopWait)
		return fmt.Errorf("postgres in %s: %w\n%s", s.folder.path, err, s.output)
	}
	return nil
}

func (s *Server) awaitReady(ctx context.Context) error {
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		if conn, err := pgx.Connect(ctx, s.URL("postgres")); err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-s.process.done:
			return fmt.Errorf("it ended at its start: %s", s.process.cmd.ProcessState)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func (s *Server) choosePort(ctx context.Context) error {
	s.port = s.opts.Port
	if s.port != 0 {
		return nil
	}
	if !s.opts.TCP {
		s.port = socketPort
		return nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("free port: %w", err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err := errors.Join(err, l.Close()); err != nil {
		return fmt.Errorf("free port: %w", err)
	}
	s.port, err = strconv.Atoi(port)
	return err
}

func (s *Server) arguments() []string {
	set := settings(s.opts.Volatile)
	set["unix_socket_directories"] = s.folder.socket
	set["listen_addresses"] = ""
	if s.opts.TCP {
		set["listen_addresses"] = "127.0.0.1"
	}
	set["port"] = strconv.Itoa(s.port)
	maps.Copy(set, s.opts.Params)
	args := []string{"-D", s.folder.data(), "-c", clusterName}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		args = append(args, "-c", name+"="+set[name])
	}
	return args
}

// settings returns what differs from PostgreSQL's defaults, each for its reason.
func settings(volatile bool) map[string]string {
	set := map[string]string{
		"fsync":              "on",    // what the promises rest on; said here so that nothing overrides it
		"synchronous_commit": "on",    // accepted means stored
		"shared_buffers":     "256MB", // a laptop's demo data fits
		"max_connections":    "200",   // pools of api, worker, River and admin beside tools
		"jit":                "off",   // compiles longer than our short statements run
		"wal_compression":    "on",    // full-page images are most of the WAL
		"autovacuum_naptime": "10s",   // queue tables turn over many times a minute
		"timezone":           "UTC",   // the same rendering on every machine
		"log_timezone":       "UTC",
		"log_min_messages":   "warning",
		"huge_pages":         "off", // do not take a share of what an administrator set aside
	}
	if volatile {
		maps.Copy(set, map[string]string{
			"fsync":              "off", // nothing has to survive the machine
			"full_page_writes":   "off", // they repair torn pages, which only a machine crash makes
			"wal_compression":    "off", // memory is the disk: CPU is dearer
			"wal_level":          "minimal",
			"max_wal_senders":    "0",     // demanded by wal_level=minimal
			"min_wal_size":       "32MB",  // keep recycled segments out of memory
			"shared_buffers":     "128MB", // test databases are small
			"autovacuum_naptime": "1min",  // many short-lived databases: visiting them all is the cost
		})
	}
	return set
}
