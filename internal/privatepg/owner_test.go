package privatepg

import (
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOnlyRootLendsAnotherUser(t *testing.T) {
	t.Parallel()
	owner, err := ownerFor(1000)
	require.NoError(t, err)
	require.Nil(t, owner)
	owner, err = ownerFor(0)
	require.NoError(t, err)
	require.NotZero(t, owner.Uid)
}

func TestRootIsToldWhichFolderTheServerMayNotEnter(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root runs the server as another user")
	}
	closed := filepath.Join(openDir(t), "closed")
	require.NoError(t, os.Mkdir(closed, 0o700))
	_, err := Start(t.Context(), Options{Dir: filepath.Join(closed, "pg"), Volatile: true})
	require.ErrorContains(t, err, "may not enter "+closed)
}

func TestAnUnprivilegedUserRunsItsOwnServer(t *testing.T) {
	t.Parallel()
	dir, as := openDir(t), (*syscall.Credential)(nil)
	if os.Geteuid() == 0 {
		nobody, err := user.Lookup("nobody")
		require.NoError(t, err)
		uid, err := strconv.Atoi(nobody.Uid)
		require.NoError(t, err)
		as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}
		require.NoError(t, os.Chown(dir, uid, uid))
	}
	h, end := startHelper(t, filepath.Join(dir, "pg"), as)
	if as != nil {
		require.Equal(t, strconv.Itoa(int(as.Uid)), h.uid)
	}
	require.Equal(t, "1", ask(t, h.url, "SELECT '1'"))
	require.NoError(t, end())
	require.True(t, gone(h.pid)())
}

func TestTheFirstClosedFolderOnTheWayIsNamed(t *testing.T) {
	t.Parallel()
	base := openDir(t)
	stranger := &syscall.Credential{Uid: 54321, Gid: 54321}
	for _, c := range []struct {
		mode    os.FileMode
		blocked bool
	}{{0o755, false}, {0o711, false}, {0o750, true}, {0o700, true}} {
		dir := filepath.Join(base, c.mode.String())
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "below"), 0o755))
		require.NoError(t, os.Chmod(dir, c.mode))
		want := ""
		if c.blocked {
			want = dir
		}
		require.Equal(t, want, firstBlocked(filepath.Join(dir, "below"), stranger))
	}
	self := &syscall.Credential{Uid: uint32(os.Getuid()), Gid: 54321}
	require.Empty(t, firstBlocked(filepath.Join(base, os.FileMode(0o700).String()), self))
	group := &syscall.Credential{Uid: 54321, Gid: uint32(os.Getgid())}
	require.Empty(t, firstBlocked(filepath.Join(base, os.FileMode(0o750).String()), group))
	require.Equal(t, filepath.Join(base, "missing"), firstBlocked(filepath.Join(base, "missing"), stranger))
}
