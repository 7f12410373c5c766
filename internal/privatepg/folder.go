package privatepg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

const (
	tempPrefix = "holdfast-pg-"
	// socketMaxBytes is the longest path that fits sockaddr_un on every system (104 on macOS, with
	// its closing zero).
	socketMaxBytes = 103
	markerFile     = "made-by-holdfast"
	markerText     = "This folder belongs to a private PostgreSQL of Holdfast, which may delete its data.\n"
	lockFile       = "lock"
	dataFolder     = "data"
	halfDoneFolder = "data.tmp" // becomes data when initdb has finished
	socketFolder   = "sock"
)

// folder is what one server owns on disk.
//
// Invariant: while lock is open no other launcher has this folder.
type folder struct {
	path      string
	temporary bool
	lock      *os.File
	socket    string
	owner     *syscall.Credential // nil: the caller itself
}

func (f *folder) data() string { return filepath.Join(f.path, dataFolder) }

// claimFolder makes or takes over the folder of o, or says why that would harm someone.
func claimFolder(ctx context.Context, o Options) (*folder, error) {
	owner, err := ownerFor(os.Geteuid())
	if err != nil {
		return nil, err
	}
	f := &folder{owner: owner, temporary: o.Dir == ""}
	if f.path, err = makeFolder(o); err != nil {
		return nil, err
	}
	if f.lock, err = lockFolder(f.path); err != nil {
		return nil, err
	}
	if err := f.prepare(ctx, o); err != nil {
		return nil, errors.Join(err, f.release())
	}
	return f, nil
}

func makeFolder(o Options) (string, error) {
	if o.Dir == "" {
		base := tempBase(o.Volatile)
		sweep(base)
		return os.MkdirTemp(base, tempPrefix)
	}
	path, err := filepath.Abs(o.Dir)
	if err != nil {
		return "", err
	}
	//nolint:gosec // the server's user has to pass through the parents; the folder itself is closed
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return path, refuseForeign(path)
}

// refuseForeign accepts a folder with our marker, and an empty one.
func refuseForeign(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	if exists(path, markerFile) {
		return nil
	}
	for _, e := range entries {
		if e.Name() != lockFile {
			return fmt.Errorf("%w: %s holds %s and no %s: choose an empty or new folder",
				ErrForeign, path, e.Name(), markerFile)
		}
	}
	return nil
}

// prepare runs under the lock.
func (f *folder) prepare(ctx context.Context, o Options) error {
	if err := os.WriteFile(filepath.Join(f.path, markerFile), []byte(markerText), 0o600); err != nil {
		return err
	}
	if err := f.endOrphan(ctx); err != nil {
		return err
	}
	if o.Fresh {
		if err := f.discardData(); err != nil {
			return err
		}
	}
	if err := f.hand(f.path); err != nil {
		return err
	}
	if f.owner != nil {
		if blocked := firstBlocked(f.path, f.owner); blocked != "" {
			return fmt.Errorf("PostgreSQL does not run as root; user id %d runs it and may not enter %s:"+
				" choose a folder outside of it or allow it to be entered (chmod o+x %s)",
				f.owner.Uid, blocked, blocked)
		}
	}
	return f.makeSocketFolder()
}

// discardData turns data into half-done data, which the next initialize removes: a crash in between
// leaves the old data or none, never a part of it.
func (f *folder) discardData() error {
	halfDone := filepath.Join(f.path, halfDoneFolder)
	if err := os.RemoveAll(halfDone); err != nil {
		return err
	}
	if err := os.Rename(f.data(), halfDone); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// hand gives a folder to the server's user and closes it to others.
func (f *folder) hand(path string) error {
	if f.owner != nil {
		if err := os.Chown(path, int(f.owner.Uid), int(f.owner.Gid)); err != nil {
			return err
		}
	}
	return os.Chmod(path, 0o700) //nolint:gosec // a folder has to be entered
}

// makeSocketFolder puts the socket beside the data or, where that path is too long for a socket,
// into a short temporary folder.
func (f *folder) makeSocketFolder() error {
	f.socket = filepath.Join(f.path, socketFolder)
	if longest := filepath.Join(f.socket, ".s.PGSQL.65535"); len(longest) > socketMaxBytes {
		dir, err := os.MkdirTemp("/tmp", tempPrefix+"sock-")
		if err != nil {
			return err
		}
		f.socket = dir
	} else if err := os.Mkdir(f.socket, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return f.hand(f.socket)
}

// release gives the folder back; it is the last thing that an owner does.
func (f *folder) release() error {
	var errs []error
	if f.socket != "" && filepath.Dir(f.socket) != f.path {
		errs = append(errs, os.RemoveAll(f.socket))
	}
	if f.temporary {
		errs = append(errs, os.RemoveAll(f.path))
	}
	return errors.Join(append(errs, f.lock.Close())...)
}

// dataMajor returns the major version of the PostgreSQL that made the data, 0 if there is none yet.
func (f *folder) dataMajor() (int, error) {
	if !exists(f.data()) {
		return 0, nil
	}
	text, err := os.ReadFile(filepath.Join(f.data(), "PG_VERSION"))
	if err != nil {
		return 0, fmt.Errorf("data of %s is damaged: %w", f.path, err)
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("data of %s is damaged: PG_VERSION: %w", f.path, err)
	}
	return major, nil
}
