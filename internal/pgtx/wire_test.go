package pgtx_test

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// wire stands between the client and the server: it counts round trips and can lose a reply.
type wire struct {
	mu      sync.Mutex
	writing bool
	trips   int
	lose    bool
}

// loseNextReply lets the server do what it is told next and keeps the answer from the client.
func (w *wire) loseNextReply() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lose = true
}

// reset begins to count again.
func (w *wire) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trips, w.writing = 0, false
}

func (w *wire) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.trips
}

func (w *wire) wrote() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.writing {
		w.trips++
	}
	w.writing = true
}

func (w *wire) read() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writing = false
	return w.lose
}

type wiredConn struct {
	net.Conn
	wire *wire
}

// Write passes the bytes on.
func (c wiredConn) Write(p []byte) (int, error) {
	c.wire.wrote()
	return c.Conn.Write(p)
}

// Read passes the server's answer on, or waits for it and drops it with the connection.
func (c wiredConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err == nil && c.wire.read() {
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

// bundle is a database with a table of notes, reached by one connection at a time over a wire.
type bundle struct {
	pool *pgxpool.Pool
	wire *wire
	// beside is another way to the same database.
	beside *pgxpool.Pool
}

func setup(t *testing.T) bundle {
	t.Helper()
	db := pgtest.Empty(t)
	_, err := db.Pool.Exec(t.Context(), `
		CREATE TABLE notes (note text PRIMARY KEY,
			late int CONSTRAINT notes_late UNIQUE DEFERRABLE INITIALLY DEFERRED)`)
	require.NoError(t, err)
	cfg, err := pgxpool.ParseConfig(db.URL)
	require.NoError(t, err)
	b := bundle{wire: &wire{}, beside: db.Pool}
	cfg.MaxConns = 1
	dial := cfg.ConnConfig.DialFunc
	cfg.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		b.wire.mu.Lock()
		b.wire.lose = false
		b.wire.mu.Unlock()
		conn, err := dial(ctx, network, addr)
		return wiredConn{conn, b.wire}, err
	}
	b.pool, err = pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(b.pool.Close)
	return b
}

// requireNotes holds the table to what is expected, and the pool, which has one connection, to its own
// promise: after every outcome the next statement works.
func (b bundle) requireNotes(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	require.NoError(t, b.beside.QueryRow(t.Context(),
		"SELECT coalesce(array_agg(note ORDER BY note), '{}') FROM notes").Scan(&got))
	require.ElementsMatch(t, want, got)
	require.NoError(t, b.pool.QueryRow(t.Context(), "SELECT '{}'::text[]").Scan(&got))
}
