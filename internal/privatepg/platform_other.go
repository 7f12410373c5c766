//go:build unix && !linux

package privatepg

import (
	"os"
	"syscall"
)

// attributes puts a child into a process group of its own, so that a Ctrl-C in the terminal reaches
// the launcher alone. This kernel has no parent-death signal: endOrphan makes up for it.
func attributes(owner *syscall.Credential, _ syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: owner, Setpgid: true}
}

// tempBase returns the parent of temporary folders.
func tempBase(bool) string { return os.TempDir() }
