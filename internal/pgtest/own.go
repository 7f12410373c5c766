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
func Server(t testing.TB) *privatepg.Server {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "hf-pgtest-") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatalf("pgtest: own server: %v", err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("pgtest: own server: %v", err)
		}
	})
	return startOwn(t, dir)
}

// Crash kills the postmaster of a server from [Server] without warning and starts a new one on its
// data, under the same URL.
func Crash(t testing.TB, s *privatepg.Server) *privatepg.Server {
	t.Helper()
	if err := syscall.Kill(s.PID(), syscall.SIGKILL); err != nil {
		t.Fatalf("pgtest: kill server: %v", err)
	}
	if err := s.Stop(); err != nil {
		t.Fatalf("pgtest: release folder of the killed server: %v", err)
	}
	return startOwn(t, s.Dir())
}

func startOwn(t testing.TB, dir string) *privatepg.Server {
	t.Helper()
	o := options()
	o.Dir = dir
	ctx, cancel := context.WithTimeout(t.Context(), setupWait)
	defer cancel()
	s, err := privatepg.Start(ctx, o)
	if err != nil {
		t.Fatalf("pgtest: own server: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("pgtest: own server: %v", err)
		}
	})
	return s
}
