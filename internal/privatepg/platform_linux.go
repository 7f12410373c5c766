package privatepg

import (
	"os"
	"syscall"
)

const (
	memoryFolder = "/dev/shm"
	// memoryFolderMinBytes is the free space that makes it worth using: a container's default of
	// 64 MB does not hold a server.
	memoryFolderMinBytes = 1 << 30
)

// attributes puts a child into a process group of its own, so that a Ctrl-C in the terminal reaches
// the launcher alone, and has the kernel send it atParentDeath when the launcher dies.
func attributes(owner *syscall.Credential, atParentDeath syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: owner, Setpgid: true, Pdeathsig: atParentDeath}
}

// tempBase returns the parent of temporary folders.
func tempBase(volatile bool) string {
	var st syscall.Statfs_t
	if volatile && syscall.Statfs(memoryFolder, &st) == nil {
		if st.Bavail*uint64(st.Bsize) >= memoryFolderMinBytes { //nolint:gosec // a block size is positive
			return memoryFolder
		}
	}
	return os.TempDir()
}
