package pgtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"example.com/holdfast/internal/privatepg"
)

const (
	testPrefix     = "hf_test_"
	templatePrefix = "hf_tmpl_"
	// deadlockTimeout lets a test that provokes deadlocks see them at once instead of after a second.
	deadlockTimeout = "20ms"
	// nameMaxBytes is PostgreSQL's limit; a longer name would be cut silently.
	nameMaxBytes = 63
)

// Params returns the settings of a private test server.
func Params() map[string]string {
	return map[string]string{
		"deadlock_timeout": deadlockTimeout,
		"max_connections":  "300", // packages run in parallel, each with parallel tests of 8 connections
	}
}

// server is where databases are made. Each statement has a connection of its own, so that a test
// process holds none between tests.
type server struct {
	base      *url.URL
	private   *privatepg.Server // nil: someone else's server
	tuned     bool              // the server has our deadlock_timeout by itself
	mu        sync.Mutex
	templates map[string]error // those that this process has ensured
}

// host starts at most one server per test process.
type host struct {
	mu     sync.Mutex
	server *server
	err    error
}

var shared host //nolint:gochecknoglobals // one server per test process; tests cannot hand it around

func (h *host) get(ctx context.Context) (*server, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.server == nil && h.err == nil {
		h.server, h.err = connect(ctx)
	}
	return h.server, h.err
}

func (h *host) stop() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.server == nil || h.server.private == nil {
		return nil
	}
	return h.server.private.Stop()
}

// Main runs the tests of a package and then stops the private server if one was started. Call it from
// TestMain, which after it may only return.
func Main(m *testing.M) {
	m.Run()
	if err := shared.stop(); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "pgtest: stop the private server:", err)
	}
}

func connect(ctx context.Context) (*server, error) {
	//nolint:forbidigo // test side: the environment says which server a run uses
	given := cmp.Or(os.Getenv("HOLDFAST_TEST_DATABASE_URL"), os.Getenv("DATABASE_URL"))
	s := &server{templates: map[string]error{}}
	if given == "" {
		var err error
		if s.private, err = privatepg.Start(ctx, options()); err != nil {
			return nil, err
		}
		given = s.private.URL("postgres")
	}
	base, err := url.Parse(given)
	if err != nil || !strings.HasPrefix(base.Scheme, "postgres") {
		return nil, errors.New("DATABASE_URL has to look like postgres://user:password@host:port/database")
	}
	s.base = base
	return s, s.checkTuned(ctx)
}

func options() privatepg.Options {
	return privatepg.Options{
		Env:      os.Getenv, //nolint:forbidigo // test side: nobody above hands the environment down
		Volatile: true,
		Params:   Params(),
	}
}

func (s *server) checkTuned(ctx context.Context) error {
	return s.withConn(ctx, func(conn *pgx.Conn) error {
		var have string
		err := conn.QueryRow(ctx, "SELECT current_setting('deadlock_timeout')").Scan(&have)
		s.tuned = have == deadlockTimeout
		return err
	})
}

// url returns the connection string of another database on the same server.
func (s *server) url(db string) (string, error) {
	if len(db) > nameMaxBytes {
		return "", fmt.Errorf("name has %d bytes, the limit is %d", len(db), nameMaxBytes)
	}
	u := *s.base
	u.Path = "/" + db
	return u.String(), nil
}

func (s *server) withConn(ctx context.Context, do func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, s.base.String())
	if err != nil {
		return err
	}
	return errors.Join(do(conn), conn.Close(ctx))
}

func (s *server) exec(ctx context.Context, statements ...string) error {
	return s.withConn(ctx, func(conn *pgx.Conn) error { return execAll(ctx, conn, statements...) })
}

// execAll sends the statements one by one: CREATE DATABASE and DROP DATABASE refuse a transaction.
func execAll(ctx context.Context, conn *pgx.Conn, statements ...string) error {
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}
