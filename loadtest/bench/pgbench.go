package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/holdfast/internal/privatepg"
)

const (
	commitsDB     = "bench_commits"
	commitsTable  = "CREATE TABLE bench_rows (id bigserial PRIMARY KEY, payload text NOT NULL)"
	commitsInsert = "INSERT INTO bench_rows (payload) VALUES (repeat('x', 100));"
	// pgbenchThreads fit the machine that the goals are for.
	pgbenchThreads = 2
	pgbenchGrace   = 30 * time.Second
)

// commits measures what the machine's PostgreSQL does at best: a row inserted and committed.
func (r *run) commits(ctx context.Context) error {
	if err := r.db.Admin(ctx, "CREATE DATABASE "+commitsDB); err != nil {
		return err
	}
	url := r.db.Server.URL(commitsDB)
	if err := execute(ctx, url, commitsTable); err != nil {
		return err
	}
	program := r.findPgbench(ctx)
	for _, clients := range []int{1, 64} {
		c := Commits{Clients: clients, By: "pgbench -M prepared"}
		var err error
		if program == "" {
			c.By = "own loop, not pgbench"
			c.PerSecond, err = ownCommits(ctx, url, clients, r.o.Phase, r.o.Now)
		} else {
			c.PerSecond, err = r.pgbench(ctx, program, url, clients)
		}
		if err != nil {
			return err
		}
		r.say("commits with %d clients: %.0f/s (%s)", clients, c.PerSecond, c.By)
		r.report.Commits = append(r.report.Commits, c)
	}
	return nil
}

// findPgbench is the path of pgbench, or empty: then our own loop has to do.
func (r *run) findPgbench(ctx context.Context) string {
	if r.o.PgbenchSeconds == 0 {
		return ""
	}
	for _, dir := range privatepg.FindBinaries(ctx, r.o.Env) {
		program := filepath.Join(dir, "pgbench")
		if info, err := os.Stat(program); err == nil && info.Mode()&0o111 != 0 {
			return program
		}
	}
	return ""
}

// tps is pgbench's closing line.
var tps = regexp.MustCompile(`(?m)^tps = ([0-9.]+) `)

func (r *run) pgbench(ctx context.Context, program, url string, clients int) (float64, error) {
	dir, err := os.MkdirTemp("", "holdfast-bench-")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	script := filepath.Join(dir, "insert.sql")
	if err := os.WriteFile(script, []byte(commitsInsert+"\n"), 0o600); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(r.o.PgbenchSeconds)*time.Second+pgbenchGrace)
	defer cancel()
	//nolint:gosec // the program that was found beside postgres
	out, err := exec.CommandContext(ctx, program, "--no-vacuum", "--protocol=prepared", "--file="+script,
		"--client="+strconv.Itoa(clients), "--jobs="+strconv.Itoa(min(clients, pgbenchThreads)),
		"--time="+strconv.Itoa(r.o.PgbenchSeconds), url).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("pgbench: %w\n%s", err, out)
	}
	found := tps.FindSubmatch(out)
	if found == nil {
		return 0, fmt.Errorf("pgbench: no rate in\n%s", out)
	}
	return strconv.ParseFloat(string(found[1]), 64)
}

func execute(ctx context.Context, url, sql string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, sql)
	return err
}

// ownCommits does what pgbench would.
func ownCommits(
	ctx context.Context, url string, clients int, duration time.Duration, now func() time.Time,
) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, duration+pgbenchGrace)
	defer cancel()
	conns := make([]*pgx.Conn, clients)
	for i := range conns {
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return 0, err
		}
		defer func() { _ = conn.Close(ctx) }() //nolint:revive // all stay open to the end
		conns[i] = conn
	}
	var committed atomic.Int64
	var failed atomic.Pointer[error]
	begin := now()
	var group sync.WaitGroup
	for _, conn := range conns {
		group.Go(func() {
			for now().Sub(begin) < duration && failed.Load() == nil {
				if _, err := conn.Exec(ctx, commitsInsert); err != nil {
					failed.Store(&err)
					return
				}
				committed.Add(1)
			}
		})
	}
	group.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(committed.Load()) / now().Sub(begin).Seconds(), nil
}
