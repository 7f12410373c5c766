// Package pgtest gives every test a PostgreSQL database of its own.
//
// A database is a clone of a template that is built once per server for each state of the migrations,
// so it costs milliseconds. The server is the one that HOLDFAST_TEST_DATABASE_URL or DATABASE_URL
// names, and otherwise a private one per test process. To share one private server among the packages
// of a run: `go run ./internal/pgtest/cmd/withpg -- go test ./...`.
//
// A package whose tests use this one calls [Main] from its TestMain, which stops the private server.
// The package never touches a database that it did not make: its own are named hf_test_ and hf_tmpl_.
// A killed run on a server of yours leaves its hf_test_ databases there; they may be dropped.
//
// Invariant: no two tests share a database.
package pgtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// poolConnsMax keeps some thirty parallel tests below a server's connection limit.
	poolConnsMax = 8
	// setupWait bounds the making of a database, with the server's start and the migrations.
	setupWait = 3 * time.Minute
	// cleanupWait bounds the return of a test's connections and the drop of its database.
	cleanupWait = 15 * time.Second
)

// Database is one test's own.
type Database struct {
	Name string
	// URL connects to it; a test that starts a program hands this on.
	URL string
	// Pool is open until the test ends.
	Pool *pgxpool.Pool
}

// Template names a state of the schema and can make it.
type Template struct {
	// Name identifies the state: two templates of one name are taken for the same.
	Name string
	// Migrate brings an empty database to that state and keeps no connection to it.
	Migrate func(ctx context.Context, databaseURL string) error
}

// Empty returns a database without any schema.
func Empty(tb testing.TB) *Database {
	tb.Helper()
	return NewWith(tb, Template{})
}

// NewWith returns a clone of the template, which is built if the server does not have it yet.
func NewWith(tb testing.TB, tmpl Template) *Database {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), setupWait)
	defer cancel()
	srv, err := shared.get(ctx)
	if err != nil {
		tb.Fatalf("pgtest: server: %v", err)
	}
	source, err := srv.ensureTemplate(ctx, tmpl)
	if err != nil {
		tb.Fatalf("pgtest: template %q: %v", tmpl.Name, err)
	}
	db := &Database{Name: nextName()}
	if db.URL, err = srv.url(db.Name); err != nil {
		tb.Fatalf("pgtest: database %s: %v", db.Name, err)
	}
	if err := srv.create(ctx, db.Name, source); err != nil {
		tb.Fatalf("pgtest: database %s: %v", db.Name, err)
	}
	cleanup(tb, "drop database "+db.Name, func(ctx context.Context) error {
		return srv.exec(ctx, "DROP DATABASE IF EXISTS "+quote(db.Name)+" WITH (FORCE)")
	})
	db.Pool = openPool(tb, db.URL)
	return db
}

// openPool returns a pool that the test's end closes. A connection that a test keeps is its failure,
// not a hanging run.
func openPool(tb testing.TB, url string) *pgxpool.Pool {
	tb.Helper()
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		tb.Fatalf("pgtest: pool: %v", err)
	}
	cfg.MaxConns = poolConnsMax
	pool, err := pgxpool.NewWithConfig(tb.Context(), cfg)
	if err != nil {
		tb.Fatalf("pgtest: pool: %v", err)
	}
	cleanup(tb, "close pool: a connection was not released", func(ctx context.Context) error {
		return closePool(ctx, pool)
	})
	return pool
}

// closePool leaves a goroutine behind that waits for the missing connection: its test has failed.
func closePool(ctx context.Context, pool *pgxpool.Pool) error {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		pool.Close()
	}()
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func cleanup(tb testing.TB, what string, do func(context.Context) error) {
	tb.Helper()
	ctx := context.WithoutCancel(tb.Context())
	tb.Cleanup(func() {
		tb.Helper()
		ctx, cancel := context.WithTimeout(ctx, cleanupWait)
		defer cancel()
		if err := do(ctx); err != nil {
			tb.Errorf("pgtest: %s: %v", what, err)
		}
	})
}

// nextName is random: packages share a server, and a killed run leaves names of its own there.
func nextName() string {
	return fmt.Sprintf("%s%016x", testPrefix, rand.Uint64())
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }
