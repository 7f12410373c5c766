package pgtest

import (
	"context"
	"os"
	"syscall"
	"testing"

	"example.com/holdfast/internal/privatepg"
)

// Server starts a PostgreSQL for this test alone, to be crashed and started again with [Crash]. It is
// volatile: it keeps what was committed through a crash of its own, which is all that a test can cause.
// It is stopped when the test ends, with every server that Crash made from it.
func Server(tb testing.TB) *privatepg.Server {
	tb.Helper()
	dir, err := os.MkdirTemp("/tmp", "hf-pgtest-") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		tb.Fatalf("pgtest: own server: %v", err)
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			tb.Errorf("pgtest: own server: %v", err)
		}
	})
	return startOwn(tb, dir)
}

// Crash kills the postmaster of a server from [Server] without warning and starts a new one on its
// data, under the same URL.
func Crash(tb testing.TB, s *privatepg.Server) *privatepg.Server {
	tb.Helper()
	if err := syscall.Kill(s.PID(), syscall.SIGKILL); err != nil {
		tb.Fatalf("pgtest: kill server: %v", err)
	}
	if err := s.Stop(); err != nil {
		tb.Fatalf("pgtest: release folder of the killed server: %v", err)
	}
	return startOwn(tb, s.Dir())
}

func startOwn(tb testing.TB, dir string) *privatepg.Server {
	tb.Helper()
	o := options()
	o.Dir = dir
	ctx, cancel := context.WithTimeout(tb.Context(), setupWait)
	defer cancel()
	s, err := privatepg.Start(ctx, o)
	if err != nil {
		tb.Fatalf("pgtest: own server: %v", err)
	}
	tb.Cleanup(func() {
		if err := s.Stop(); err != nil {
			tb.Errorf("pgtest: own server: %v", err)
		}
	})
	return s
}
