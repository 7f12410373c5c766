package privatepg

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// ownerFor returns the user who runs the server: nil means the caller itself. PostgreSQL refuses to
// run as root, so root lends it an unprivileged user.
func ownerFor(euid int) (*syscall.Credential, error) {
	if euid != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "_postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(errUID, errGID); err != nil {
			return nil, fmt.Errorf("user %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is no user postgres or nobody")
}

// firstBlocked returns the topmost folder on the way to dir that owner may not enter, or "".
func firstBlocked(dir string, owner *syscall.Credential) string {
	var way []string
	for d := filepath.Clean(dir); ; d = filepath.Dir(d) {
		way = append([]string{d}, way...)
		if d == filepath.Dir(d) {
			break
		}
	}
	for _, d := range way {
		fi, err := os.Stat(d)
		if err != nil || !mayEnter(fi, owner) {
			return d
		}
	}
	return ""
}

func mayEnter(fi fs.FileInfo, owner *syscall.Credential) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return true
	}
	mode := fi.Mode().Perm()
	switch {
	case st.Uid == owner.Uid:
		return mode&0o100 != 0
	case st.Gid == owner.Gid:
		return mode&0o010 != 0
	}
	return mode&0o001 != 0
}
