// Package migrations brings a database to the schema of this program: River's tables and ours, in
// one command, under one advisory lock, so that any number of processes may start at once.
//
// It refuses to run beside another migrator: the later one waits and then finds nothing to do.
//
// Invariant: every file goes up, down and up again; River's schema is the lower layer, so it is
// brought up first and taken down last.
package migrations

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

//go:embed *.sql
var files embed.FS

// lockID is the advisory lock of all migrators; the number has no meaning of its own.
const lockID = 7_146_020_001

// connsMax is enough for the session that holds the lock and for those that work meanwhile. A smaller
// limit in the URL would let the lock's holder wait for itself.
const connsMax = 4

// hashBytes of the schema's hash tell schemas apart and leave room in a database name.
const hashBytes = 8

// Up brings the database at url to the newest schema. It is safe to call from many processes.
func Up(ctx context.Context, url string) error {
	return locked(ctx, url, func(db *pgxpool.Pool) error {
		if err := riverTo(ctx, db, rivermigrate.DirectionUp); err != nil {
			return err
		}
		return ours(db, func(p *goose.Provider) error {
			_, err := p.Up(ctx)
			return wrap("apply migrations", err)
		})
	})
}

// Down takes everything away again, River's tables last. It loses all data.
func Down(ctx context.Context, url string) error {
	return locked(ctx, url, func(db *pgxpool.Pool) error {
		if err := ours(db, func(p *goose.Provider) error {
			_, err := p.DownTo(ctx, 0)
			return wrap("revert migrations", err)
		}); err != nil {
			return err
		}
		return riverTo(ctx, db, rivermigrate.DirectionDown)
	})
}

// Hash names the schema: it changes when a migration file or River's schema does.
func Hash() string {
	sum := sha256.New()
	for _, m := range riverMigrations() {
		_, _ = fmt.Fprintf(sum, "river %d %d:%s", m.Version, len(m.SQLUp), m.SQLUp)
	}
	_ = fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := files.ReadFile(path)
		_, _ = fmt.Fprintf(sum, "%s %d:%s", path, len(body), body)
		return err
	})
	return hex.EncodeToString(sum.Sum(nil)[:hashBytes])
}

// riverMigrations lists the steps of River's schema that this program was built with.
func riverMigrations() []rivermigrate.Migration {
	migrator, err := rivermigrate.New(riverpgxv5.New(nil), quiet())
	if err != nil {
		return nil // the same call fails in Up, which can say so
	}
	return migrator.AllVersions()
}

// locked runs fn while one session of its own holds the migration lock.
func locked(ctx context.Context, url string, fn func(*pgxpool.Pool) error) error {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return wrap("read database URL", err)
	}
	cfg.MaxConns = connsMax
	db, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return wrap("open database", err)
	}
	defer db.Close()
	conn, err := db.Acquire(ctx)
	if err != nil {
		return wrap("connect to database", err)
	}
	defer conn.Release()
	if _, err = conn.Exec(ctx, "SELECT pg_advisory_lock($1)", int64(lockID)); err != nil {
		return wrap("take migration lock", err)
	}
	err = fn(db)
	_, unlockErr := conn.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", int64(lockID))
	return errors.Join(err, wrap("release migration lock", unlockErr))
}

func ours(db *pgxpool.Pool, fn func(*goose.Provider) error) error {
	sqlDB := stdlib.OpenDBFromPool(db)
	defer func() { _ = sqlDB.Close() }()
	provider, err := goose.NewProvider(goose.DialectPostgres, sqlDB, files,
		goose.WithSlog(slog.New(slog.DiscardHandler)))
	if err != nil {
		return wrap("read migrations", err)
	}
	return fn(provider)
}

func riverTo(ctx context.Context, db *pgxpool.Pool, direction rivermigrate.Direction) error {
	migrator, err := rivermigrate.New(riverpgxv5.New(db), quiet())
	if err != nil {
		return wrap("prepare River's schema", err)
	}
	opts := &rivermigrate.MigrateOpts{}
	if direction == rivermigrate.DirectionDown {
		opts.TargetVersion = -1
	}
	_, err = migrator.Migrate(ctx, direction, opts)
	return wrap("migrate River's schema "+string(direction), err)
}

func quiet() *rivermigrate.Config {
	return &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)}
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
