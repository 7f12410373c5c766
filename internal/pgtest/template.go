package pgtest

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
)

// lockKey is the advisory lock under which the processes of a run build templates one at a time.
const lockKey = 0x686f6c64666173 // "holdfas"

// pristine is the template of a database without any schema.
const pristine = "template0"

// ensureTemplate returns the name of the database to clone, which exists and allows no connections.
func (s *server) ensureTemplate(ctx context.Context, tmpl Template) (string, error) {
	if tmpl.Migrate == nil {
		return pristine, nil
	}
	name := templatePrefix + tmpl.Name
	s.mu.Lock()
	defer s.mu.Unlock()
	err, known := s.templates[name]
	if !known {
		err = s.withConn(ctx, func(conn *pgx.Conn) error { return s.build(ctx, conn, name, tmpl.Migrate) })
		s.templates[name] = err // a broken migration fails each test at once, not after another try
	}
	return name, err
}

// build makes the template under another name and renames it when it is whole. Closing conn frees the
// lock.
func (s *server) build(
	ctx context.Context, conn *pgx.Conn, name string, migrate func(context.Context, string) error,
) error {
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", lockKey); err != nil {
		return err
	}
	var found bool
	const find = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)"
	if err := conn.QueryRow(ctx, find, name).Scan(&found); err != nil || found {
		return err
	}
	unfinished := name + "_new"
	target, err := s.url(unfinished)
	if err != nil {
		return err
	}
	drop := "DROP DATABASE IF EXISTS " + quote(unfinished) + " WITH (FORCE)"
	create := "CREATE DATABASE " + quote(unfinished) + " TEMPLATE " + pristine
	if err := execAll(ctx, conn, drop, create); err != nil {
		return err
	}
	if err := migrate(ctx, target); err != nil {
		return errors.Join(err, execAll(ctx, conn, drop))
	}
	return execAll(ctx, conn,
		"ALTER DATABASE "+quote(unfinished)+" WITH ALLOW_CONNECTIONS false",
		"ALTER DATABASE "+quote(unfinished)+" RENAME TO "+quote(name))
}

// create clones source. Copying files beats copying through the WAL threefold for so small a database.
func (s *server) create(ctx context.Context, name, source string) error {
	create := "CREATE DATABASE " + quote(name) + " TEMPLATE " + quote(source) + " STRATEGY file_copy"
	if s.tuned {
		return s.exec(ctx, create)
	}
	return s.exec(ctx, create, "ALTER DATABASE "+quote(name)+" SET deadlock_timeout = '"+deadlockTimeout+"'")
}
