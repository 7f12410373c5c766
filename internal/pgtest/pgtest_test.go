package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	if _, bare := os.LookupEnv(probeBare); bare {
		m.Run()
		return
	}
	Main(m)
}

func makeTable(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "CREATE TABLE notes (note text)")
	return errors.Join(err, conn.Close(ctx))
}

func TestNewHasTheSchema(t *testing.T) {
	t.Parallel()
	pool := New(t)
	var tables int
	require.NoError(t, pool.QueryRow(t.Context(),
		"SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").Scan(&tables))
	require.Positive(t, tables)
	require.EqualValues(t, poolConnsMax, pool.Config().MaxConns)
}

func TestDeadlocksAreSeenAtOnce(t *testing.T) {
	t.Parallel()
	var timeout string
	require.NoError(t, Empty(t).Pool.QueryRow(t.Context(), "SHOW deadlock_timeout").Scan(&timeout))
	require.Equal(t, deadlockTimeout, timeout)
}

//nolint:tparallel // the group has to end, with its parallel clones, before the checks below it
func TestATemplateIsBuiltOnceAndClonesAreApart(t *testing.T) {
	t.Parallel()
	var built atomic.Int64
	tmpl := Template{Name: nextName(), Migrate: func(ctx context.Context, url string) error {
		built.Add(1)
		return makeTable(ctx, url)
	}}
	var names sync.Map
	t.Run("clones", func(t *testing.T) {
		for range 6 {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				db := NewWith(t, tmpl)
				_, err := db.Pool.Exec(t.Context(), "INSERT INTO notes VALUES ('mine')")
				require.NoError(t, err)
				var count int
				require.NoError(t, db.Pool.QueryRow(t.Context(), "SELECT count(*) FROM notes").Scan(&count))
				require.Equal(t, 1, count)
				_, taken := names.LoadOrStore(db.Name, true)
				require.False(t, taken)
			})
		}
	})
	require.EqualValues(t, 1, built.Load())
	names.Range(func(name, _ any) bool {
		require.False(t, databaseExists(t, name.(string)), "%s is dropped when its test ends", name)
		return true
	})
}

func TestABrokenMigrationFailsEachTestAndLeavesNothing(t *testing.T) {
	t.Parallel()
	srv, err := shared.get(t.Context())
	require.NoError(t, err)
	broken := errors.New("broken")
	calls := 0
	tmpl := Template{Name: nextName(), Migrate: func(ctx context.Context, url string) error {
		calls++
		return errors.Join(makeTable(ctx, url), broken)
	}}
	for range 2 {
		_, err := srv.ensureTemplate(t.Context(), tmpl)
		require.ErrorIs(t, err, broken)
	}
	require.Equal(t, 1, calls)
	require.False(t, databaseExists(t, templatePrefix+tmpl.Name))
	require.False(t, databaseExists(t, templatePrefix+tmpl.Name+"_new"))
}

func TestAnUnfinishedTemplateIsBuiltAnew(t *testing.T) {
	t.Parallel()
	srv, err := shared.get(t.Context())
	require.NoError(t, err)
	tmpl := Template{Name: nextName(), Migrate: makeTable}
	require.NoError(t, srv.exec(t.Context(), "CREATE DATABASE "+quote(templatePrefix+tmpl.Name+"_new")))
	NewWith(t, tmpl)
	require.False(t, databaseExists(t, templatePrefix+tmpl.Name+"_new"))
}

func TestProcessesBuildATemplateOnce(t *testing.T) {
	t.Parallel()
	one, err := shared.get(t.Context())
	require.NoError(t, err)
	var built atomic.Int64
	tmpl := Template{Name: nextName(), Migrate: func(ctx context.Context, url string) error {
		built.Add(1)
		return makeTable(ctx, url)
	}}
	var group sync.WaitGroup
	for range 4 { // each with a memory of its own, as processes have
		process := &server{base: one.base, tuned: one.tuned, templates: map[string]error{}}
		group.Go(func() {
			_, err := process.ensureTemplate(t.Context(), tmpl)
			assert.NoError(t, err)
		})
	}
	group.Wait()
	require.EqualValues(t, 1, built.Load())
}

func TestATemplateNameThatWouldBeCutIsRefused(t *testing.T) {
	t.Parallel()
	srv, err := shared.get(t.Context())
	require.NoError(t, err)
	_, err = srv.ensureTemplate(t.Context(), Template{Name: strings.Repeat("n", 60), Migrate: makeTable})
	require.ErrorContains(t, err, "the limit is 63")
}

func TestOwnServerIsCrashedAndComesBackWithItsCommits(t *testing.T) {
	t.Parallel()
	s := Server(t)
	require.NoError(t, makeTable(t.Context(), s.URL("postgres")))
	again := Crash(t, s)
	require.Equal(t, s.URL("postgres"), again.URL("postgres"))
	require.NotEqual(t, s.PID(), again.PID())
	require.Error(t, makeTable(t.Context(), again.URL("postgres")), "the table is there already")
}

func databaseExists(t *testing.T, name string) bool {
	t.Helper()
	var found bool
	require.NoError(t, Empty(t).Pool.QueryRow(t.Context(),
		"SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&found))
	return found
}

// failures is a test that notes what went wrong with it.
type failures struct {
	testing.TB
	cleanups []func()
	errors   []string
}

func (f *failures) Cleanup(do func())         { f.cleanups = append(f.cleanups, do) }
func (f *failures) Errorf(s string, a ...any) { f.errors = append(f.errors, fmt.Sprintf(s, a...)) }

func TestAConnectionThatIsNotReleasedFailsItsTest(t *testing.T) {
	t.Parallel()
	db := Empty(t)
	careless := &failures{TB: t}
	pool := openPool(careless, db.URL)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, closePool(ctx, pool), context.Canceled)
	conn.Release()
	for _, do := range careless.cleanups {
		do()
	}
	require.Empty(t, careless.errors)
}

func BenchmarkClone(b *testing.B) {
	DB(b) // builds the template outside of the measure
	srv, err := shared.get(b.Context())
	require.NoError(b, err)
	for b.Loop() {
		name := nextName()
		require.NoError(b, srv.create(b.Context(), name, templatePrefix+schema().Name))
		b.StopTimer()
		require.NoError(b, srv.exec(b.Context(), "DROP DATABASE "+quote(name)))
		b.StartTimer()
	}
}

func BenchmarkNewAndDrop(b *testing.B) {
	DB(b)
	srv, err := shared.get(b.Context())
	require.NoError(b, err)
	for b.Loop() {
		name := nextName()
		require.NoError(b, srv.create(b.Context(), name, templatePrefix+schema().Name))
		require.NoError(b, srv.exec(b.Context(), "DROP DATABASE "+quote(name)))
	}
}
