package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// processFolder tells of processes where the kernel has one.
const processFolder = "/proc"

// cannotFreeze says why a server's processes cannot be found here, or "".
func cannotFreeze() string {
	if _, err := os.Stat(processFolder + "/self/stat"); err != nil {
		return "processes are not listed in " + processFolder
	}
	return ""
}

// children lists the processes of a parent.
func children(parent int) ([]int, error) {
	found, err := filepath.Glob(processFolder + "/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var all []int
	for _, path := range found {
		text, err := os.ReadFile(path) //nolint:gosec // a pattern of our own
		if err != nil {
			continue // it has ended meanwhile
		}
		// The name in parentheses may hold anything; after it come the state and the parent.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err == nil && len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			all = append(all, pid)
		}
	}
	return all, nil
}

// freeze stops all processes of the private PostgreSQL with SIGSTOP for a while: it does not refuse, break or
// answer anything, like a machine whose disk hangs. The first one goes first, so that it starts no other.
func (s *stage) freeze(ctx context.Context, d time.Duration) {
	server := s.world.Server.PID()
	var stopped []int
	signal := func(pid int, what syscall.Signal) error {
		if err := syscall.Kill(pid, what); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("signal PostgreSQL: %w", err)
		}
		return nil
	}
	s.do(func() error {
		stopped = append(stopped, server)
		if err := signal(server, syscall.SIGSTOP); err != nil {
			return err
		}
		backends, err := children(server)
		for _, pid := range backends {
			stopped = append(stopped, pid)
			err = errors.Join(err, signal(pid, syscall.SIGSTOP))
		}
		return err
	})
	s.wait(ctx, d)
	for _, pid := range stopped { // also when something failed: nothing may stay stopped
		if err := signal(pid, syscall.SIGCONT); err != nil && s.err == nil {
			s.err = err
		}
	}
}
