package privatepg

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func environment(values map[string]string) func(string) string {
	return func(name string) string { return values[name] }
}

// fakeBinaries makes a folder with programs that answer --version, and a pg_config that names bindir.
func fakeBinaries(t *testing.T, version, bindir string) string {
	t.Helper()
	dir := openDir(t)
	programs := map[string]string{"pg_config": "echo " + bindir}
	if version != "" {
		programs["initdb"] = "exit 1"
		programs["postgres"] = "echo 'postgres (PostgreSQL) " + version + "'"
	}
	for name, body := range programs {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+body+"\n"), 0o755))
	}
	return dir
}

func TestBinariesAreFoundInOrderOfIntent(t *testing.T) {
	t.Parallel()
	named, onPath := fakeBinaries(t, "16.1", ""), fakeBinaries(t, "17.1", "")
	configured := fakeBinaries(t, "18.1", "")
	onlyConfig := fakeBinaries(t, "", configured)
	dirs := FindBinaries(t.Context(), environment(map[string]string{
		"PG_BIN_DIR": named,
		"PATH":       strings.Join([]string{onPath, onlyConfig, onPath, "relative"}, ":"),
	}))
	require.GreaterOrEqual(t, len(dirs), 3)
	require.Equal(t, []string{named, onPath, configured}, dirs[:3])
	for _, dir := range dirs {
		require.NotEqual(t, onlyConfig, dir, "a folder without a server is no find")
	}
}

func TestTheVersionThatFitsIsChosen(t *testing.T) {
	t.Parallel()
	old, mid := fakeBinaries(t, "14.9", ""), fakeBinaries(t, "16.1", "")
	latest := fakeBinaries(t, "18beta1", "")
	o := Options{Env: environment(map[string]string{"PATH": old + ":" + latest + ":" + mid})}
	for major, want := range map[int]string{0: latest, 16: mid, 18: latest} {
		b, err := chooseBinaries(t.Context(), o, nil, major)
		require.NoError(t, err)
		require.Equal(t, want, b.dir)
	}
	_, err := chooseBinaries(t.Context(), Options{BinDir: old}, nil, 0)
	require.ErrorIs(t, err, ErrVersion)
	require.ErrorContains(t, err, "14.9, older than 15")
	_, err = chooseBinaries(t.Context(), Options{BinDir: mid}, nil, 18)
	require.ErrorContains(t, err, "16.1, the data is of 18")
	_, err = chooseBinaries(t.Context(), Options{BinDir: openDir(t)}, nil, 0)
	require.ErrorIs(t, err, ErrVersion)
}

func TestVersionsAreRead(t *testing.T) {
	t.Parallel()
	for out, want := range map[string]int{
		"postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n": 15,
		"postgres (PostgreSQL) 17.5\n":                           17,
		"postgres (PostgreSQL) 18beta1\n":                        18,
		"postgres (PostgreSQL) devel\n":                          0,
		"postgres (PostgreSQL) ":                                 0,
		"something else":                                         0,
	} {
		b, err := parseVersion("/dir", out)
		require.Equal(t, want, b.major, out)
		require.Equal(t, want == 0, err != nil, out)
	}
	for path, want := range map[string]int{
		"/usr/lib/postgresql/15/bin": 15, "/opt/homebrew/opt/postgresql@17/bin": 17,
		"/usr/pgsql-16/bin": 16, "/usr/local/pgsql/bin": 0, "/opt/local/lib/postgresql18/bin": 18,
	} {
		require.Equal(t, want, majorInPath(path), path)
	}
}

func TestADownloadIsTheLastResort(t *testing.T) {
	t.Parallel()
	_, err := downloaded(t.Context(), Options{})
	require.ErrorIs(t, err, ErrNoBinaries)
	require.ErrorContains(t, err, "PG_BIN_DIR")
	broken := errors.New("no network")
	o := Options{Download: func(context.Context) (string, error) { return "/binaries", broken }}
	_, err = downloaded(t.Context(), o)
	require.ErrorIs(t, err, ErrNoBinaries)
	require.ErrorIs(t, err, broken)
	broken = nil
	dirs, err := downloaded(t.Context(), o)
	require.NoError(t, err)
	require.Equal(t, []string{"/binaries"}, dirs)
}

func TestAdviceFitsTheMachine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		goos            string
		euid            int
		hasSudo, hasApt bool
		want            string
	}{
		{"linux", 0, false, true, "run `apt-get update && apt-get install -y postgresql`"},
		{"linux", 0, true, true, "run `apt-get update && apt-get install -y postgresql`"},
		{"linux", 1000, true, true, "run `sudo apt-get update && sudo apt-get install -y postgresql`"},
		{"linux", 1000, false, true, "as root run `apt-get install postgresql`"},
		{"linux", 1000, true, false, "run `sudo dnf install postgresql-server` (Fedora)"},
		{"linux", 0, false, false, "run `dnf install postgresql-server` (Fedora)"},
		{"darwin", 501, true, false, "run `brew install postgresql@17`"},
	} {
		got := Advice(c.goos, c.euid, c.hasSudo, c.hasApt)
		require.True(t, strings.HasPrefix(got, c.want), got)
		require.Contains(t, got, "or set DATABASE_URL")
		require.Contains(t, got, "or PG_BIN_DIR")
	}
	require.NotEmpty(t, adviceHere(nil))
}

func TestOutputKeepsTheEndAndHandsLinesOn(t *testing.T) {
	t.Parallel()
	var lines []string
	o := &output{line: func(l string) { lines = append(lines, l) }}
	for _, chunk := range []string{"one\ntw", "o\n", strings.Repeat("x", 2*outputMaxBytes), "\nlast"} {
		n, err := o.Write([]byte(chunk))
		require.NoError(t, err)
		require.Equal(t, len(chunk), n)
	}
	require.Equal(t, []string{"one", "two"}, lines[:2])
	require.LessOrEqual(t, len(o.String()), outputMaxBytes)
	require.True(t, strings.HasSuffix(o.String(), "\nlast"))
}
