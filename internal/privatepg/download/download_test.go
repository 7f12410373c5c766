package download

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// repositoryOf serves one archive under every path, and checksum beside it ("" for none).
func repositoryOf(t *testing.T, archive []byte, checksum string) (string, *atomic.Int64) {
	t.Helper()
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		switch {
		case !strings.HasSuffix(r.URL.Path, ".sha256"):
			_, _ = w.Write(archive)
		case checksum == "":
			http.NotFound(w, r)
		default:
			_, _ = w.Write([]byte(checksum))
		}
	}))
	t.Cleanup(s.Close)
	return s.URL, &asked
}

// archiveOf packs programs as the repository does: an xz-compressed tar in a zip.
func archiveOf(t *testing.T, programs ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath("xz"); err != nil {
		t.Skip("packing an archive for the test takes xz")
	}
	var packed bytes.Buffer
	w := tar.NewWriter(&packed)
	for _, name := range programs {
		body := "#!/bin/sh\nexit 1\n"
		h := &tar.Header{Name: "bin/" + name, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(body))}
		require.NoError(t, w.WriteHeader(h))
		_, err := w.Write([]byte(body))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	xz := exec.CommandContext(t.Context(), "xz", "--check=crc32")
	xz.Stdin = &packed
	compressed, err := xz.Output()
	require.NoError(t, err)
	var jar bytes.Buffer
	z := zip.NewWriter(&jar)
	entry, err := z.Create("postgres.txz")
	require.NoError(t, err)
	_, err = entry.Write(compressed)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return jar.Bytes()
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func requireEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}

func TestBinariesAreFetchedOnceAndCountEvenIfTheTrialStartFails(t *testing.T) {
	t.Parallel()
	archive := archiveOf(t, "initdb", "postgres", "pg_ctl")
	repo, asked := repositoryOf(t, archive, sum(archive))
	dir := t.TempDir()
	for range 2 {
		bin, err := fetchFrom(t.Context(), dir, repo)
		require.NoError(t, err)
		require.FileExists(t, filepath.Join(bin, "postgres"))
	}
	require.EqualValues(t, 2, asked.Load(), "the archive and its checksum, once")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1)
}

func TestABadArchiveLeavesNothing(t *testing.T) {
	t.Parallel()
	archive := archiveOf(t, "initdb", "postgres", "pg_ctl")
	for what, c := range map[string]struct {
		archive  []byte
		checksum string
		want     string
	}{
		"damaged":     {archive, sum([]byte("other")), "checksums do not match"},
		"no checksum": {archive, "", "answered 404"},
		"no zip":      {[]byte("<html>"), sum([]byte("<html>")), "not a valid zip"},
		"no server":   {archiveOf(t, "psql"), sum(archiveOf(t, "psql")), "has no server"},
	} {
		repo, _ := repositoryOf(t, c.archive, c.checksum)
		dir := t.TempDir()
		_, err := fetchFrom(t.Context(), dir, repo)
		require.ErrorContains(t, err, c.want, what)
		require.ErrorContains(t, err, repo, what)
		requireEmpty(t, dir)
	}
}

func TestAnAbsentRepositoryIsNamed(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	dir := t.TempDir()
	_, err := fetchFrom(t.Context(), dir, gone.URL)
	require.ErrorContains(t, err, gone.URL)
	require.ErrorContains(t, err, "connection refused")
	requireEmpty(t, dir)
}

func TestASilentRepositoryEndsWithItsContext(t *testing.T) {
	t.Parallel()
	giveUp := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel(giveUp)
		<-r.Context().Done()
	}))
	t.Cleanup(silent.Close)
	dir := t.TempDir()
	_, err := fetchFrom(ctx, dir, silent.URL)
	require.ErrorIs(t, err, giveUp)
	requireEmpty(t, dir)
}

func TestFetchRefusesAFolderThatItCannotMake(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := Fetch(t.Context(), filepath.Join(file, "below"))
	require.ErrorContains(t, err, "not a directory")
}
