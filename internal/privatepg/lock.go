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
	"time"
)

// lockFolder takes the folder's lock, which the kernel frees when this process ends, however it ends.
func lockFolder(path string) (*os.File, error) {
	//nolint:gosec // the folder that the caller chose
	lock, err := os.OpenFile(filepath.Join(path, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer func() { _ = lock.Close() }()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", lock.Name(), err)
		}
		launcher, _ := os.ReadFile(lock.Name())
		postmaster := postmasterPID(filepath.Join(path, dataFolder))
		return nil, fmt.Errorf("%w: %s, by process %s (its postgres is process %d): stop that first",
			ErrInUse, path, strings.TrimSpace(string(launcher)), postmaster)
	}
	if err := writePID(lock); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

func writePID(lock *os.File) error {
	if err := lock.Truncate(0); err != nil {
		return err
	}
	_, err := lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// postmasterPID reads the process id from postmaster.pid, which a crash leaves behind; 0 without one.
func postmasterPID(data string) int {
	text, err := os.ReadFile(filepath.Join(data, "postmaster.pid")) //nolint:gosec // in our own folder
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}

// endOrphan shuts down a server of ours whose launcher has died: the lock is ours, so nobody uses it.
// A server that someone started on this data by other means is left alone and refused.
func (f *folder) endOrphan(ctx context.Context) error {
	pid := postmasterPID(f.data())
	command := commandLine(ctx, pid)
	if !strings.Contains(command, f.data()) {
		return nil // gone, or the number belongs to another program now; Postgres checks again
	}
	if !strings.Contains(command, clusterName) {
		return fmt.Errorf("%w: %s, by a PostgreSQL that was started by other means (process %d)",
			ErrInUse, f.path, pid)
	}
	if err := syscall.Kill(pid, syscall.SIGINT); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop process %d, left over in %s: %w", pid, f.path, err)
	}
	return awaitGone(ctx, pid, f.data())
}

func awaitGone(ctx context.Context, pid int, data string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, stopWait,
		fmt.Errorf("process %d, left over in %s, did not stop within %s", pid, data, stopWait))
	defer cancel()
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for strings.Contains(commandLine(ctx, pid), data) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// commandLine returns the arguments of a live process, "" if there is none.
func commandLine(ctx context.Context, pid int) string {
	if pid <= 0 {
		return ""
	}
	if exists("/proc/self/cmdline") {
		line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
		if err != nil {
			return ""
		}
		return strings.ReplaceAll(string(line), "\x00", " ")
	}
	//nolint:gosec // the only variable is a number
	out, err := exec.CommandContext(ctx, "ps", "-ww", "-o", "args=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return ""
	}
	return string(out)
}

// sweep removes temporary folders whose launcher was killed. A folder without a marker may just be
// in the making by another process and is left alone.
func sweep(base string) {
	left, err := filepath.Glob(filepath.Join(base, tempPrefix+"*"))
	if err != nil {
		return
	}
	for _, path := range left {
		if !exists(path, markerFile) || postmasterAlive(path) {
			continue
		}
		lock, err := lockFolder(path)
		if err != nil {
			continue // in use, or another user's
		}
		_ = os.RemoveAll(path) // litter: whoever comes next tries again
		_ = lock.Close()
	}
}

func postmasterAlive(path string) bool {
	pid := postmasterPID(filepath.Join(path, dataFolder))
	return pid > 0 && !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}
