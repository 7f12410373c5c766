package privatepg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// minMajor is the first version with MERGE, UNIQUE NULLS NOT DISTINCT and STRATEGY file_copy.
	minMajor = 15
	// probeWait bounds each question to a binary (pg_config --bindir, postgres --version).
	probeWait = 5 * time.Second
)

// ErrNoBinaries is returned when the machine has no PostgreSQL server; its wrapping says what to do.
var ErrNoBinaries = errors.New("no PostgreSQL server binaries found")

// binaries is one installation that this user can run.
type binaries struct {
	dir     string
	version string
	major   int
}

// places are the folders of the usual packages; * is the version.
func places() []string {
	return []string{
		"/usr/lib/postgresql/*/bin",          // Debian, Ubuntu and the PGDG packages for them
		"/usr/pgsql-*/bin",                   // PGDG packages for Fedora, Red Hat, SUSE
		"/usr/lib/postgresql*/bin",           // SUSE
		"/usr/libexec/postgresql*",           // Alpine
		"/opt/homebrew/opt/postgresql@*/bin", // Homebrew on Apple silicon
		"/usr/local/opt/postgresql@*/bin",    // Homebrew on Intel
		"/Applications/Postgres.app/Contents/Versions/*/bin",
		"/opt/local/lib/postgresql*/bin", // MacPorts
		"/usr/local/pgsql/bin",           // built from source
	}
}

// FindBinaries lists the folders that hold both initdb and postgres: PG_BIN_DIR, PATH and pg_config
// as env names them, then the places of the usual packages, newest version first.
func FindBinaries(ctx context.Context, env func(string) string) []string {
	found := namedByEnv(ctx, env)
	var packaged []string
	for _, pattern := range places() {
		if m, err := filepath.Glob(pattern); err == nil {
			packaged = append(packaged, m...)
		}
	}
	slices.SortStableFunc(packaged, func(a, b string) int { return majorInPath(b) - majorInPath(a) })
	var dirs []string
	for _, d := range append(found, packaged...) {
		if !slices.Contains(dirs, d) && isProgram(d, "initdb") && isProgram(d, "postgres") {
			dirs = append(dirs, d)
		}
	}
	return dirs
}

func namedByEnv(ctx context.Context, env func(string) string) []string {
	if env == nil {
		return nil
	}
	var dirs []string
	if d := env("PG_BIN_DIR"); d != "" {
		dirs = append(dirs, d)
	}
	for _, d := range filepath.SplitList(env("PATH")) {
		if !filepath.IsAbs(d) {
			continue
		}
		if p, err := filepath.EvalSymlinks(filepath.Join(d, "initdb")); err == nil {
			dirs = append(dirs, filepath.Dir(p))
		}
		if !isProgram(d, "pg_config") {
			continue
		}
		if out, err := probe(ctx, nil, filepath.Join(d, "pg_config"), "--bindir"); err == nil {
			dirs = append(dirs, strings.TrimSpace(out))
		}
	}
	return dirs
}

// majorInPath reads 15 from /usr/lib/postgresql/15/bin; 0 if there is none.
func majorInPath(path string) int {
	major := 0
	notDigit := func(r rune) bool { return r < '0' || r > '9' }
	for _, digits := range strings.FieldsFunc(path, notDigit) {
		if n, err := strconv.Atoi(digits); err == nil && n < 100 {
			major = n
		}
	}
	return major
}

func isProgram(dir, name string) bool {
	fi, err := os.Stat(filepath.Join(dir, name))
	return err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0
}

func probe(ctx context.Context, owner *syscall.Credential, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, probeWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...) //nolint:gosec // a program of the PostgreSQL found
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: owner}
	cmd.Dir = "/"
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", program, strings.Join(args, " "), err)
	}
	return string(out), nil
}

// chooseBinaries takes the first installation that is of major (any supported one if that is 0) and
// that owner can run.
func chooseBinaries(ctx context.Context, o Options, owner *syscall.Credential, major int) (binaries, error) {
	dirs, err := candidates(ctx, o)
	if err != nil {
		return binaries{}, err
	}
	var refused []string
	for _, dir := range dirs {
		b, err := inspect(ctx, dir, owner)
		switch {
		case err != nil:
			refused = append(refused, err.Error())
		case b.major < minMajor:
			refused = append(refused, fmt.Sprintf("%s has %s, older than %d", dir, b.version, minMajor))
		case major != 0 && b.major != major:
			refused = append(refused, fmt.Sprintf("%s has %s, the data is of %d", dir, b.version, major))
		default:
			return b, nil
		}
	}
	return binaries{}, fmt.Errorf("%w: %s", ErrVersion, strings.Join(refused, "; "))
}

func candidates(ctx context.Context, o Options) ([]string, error) {
	if o.BinDir != "" {
		return []string{o.BinDir}, nil
	}
	if dirs := FindBinaries(ctx, o.Env); len(dirs) > 0 {
		return dirs, nil
	}
	return downloaded(ctx, o)
}

func downloaded(ctx context.Context, o Options) ([]string, error) {
	if o.Download == nil {
		return nil, fmt.Errorf("%w: %s", ErrNoBinaries, adviceHere(o.Env))
	}
	dir, err := o.Download(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w, nor downloaded: %w: %s", ErrNoBinaries, err, adviceHere(o.Env))
	}
	return []string{dir}, nil
}

// inspect asks the binaries for their version as the user who is going to run them.
func inspect(ctx context.Context, dir string, owner *syscall.Credential) (binaries, error) {
	if owner != nil {
		if blocked := firstBlocked(dir, owner); blocked != "" {
			return binaries{}, fmt.Errorf("%s cannot be run by user id %d: it may not enter %s",
				dir, owner.Uid, blocked)
		}
	}
	out, err := probe(ctx, owner, filepath.Join(dir, "postgres"), "--version")
	if err != nil {
		return binaries{}, err
	}
	return parseVersion(dir, out)
}

// parseVersion reads "postgres (PostgreSQL) 15.18 (Debian 15.18-1)", "... 18beta1" and the like.
func parseVersion(dir, out string) (binaries, error) {
	_, rest, ok := strings.Cut(out, "(PostgreSQL) ")
	fields := strings.Fields(rest)
	if !ok || len(fields) == 0 {
		return binaries{}, fmt.Errorf("%s has no PostgreSQL: its version is %q", dir, out)
	}
	end := strings.IndexFunc(fields[0], func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(fields[0])
	}
	major, err := strconv.Atoi(fields[0][:end])
	if err != nil {
		return binaries{}, fmt.Errorf("%s has no PostgreSQL: its version is %q", dir, out)
	}
	return binaries{dir: dir, version: fields[0], major: major}, nil
}
