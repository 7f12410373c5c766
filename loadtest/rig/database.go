package rig

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/db/migrations"
	"example.com/holdfast/internal/app"
	"example.com/holdfast/internal/config"
	"example.com/holdfast/internal/privatepg"
)

// templateDB is migrated and filled once; each system under test gets a copy.
const templateDB = "rig_template"

// ServerSettings are those of a small real server: no checkpoint falls into a phase.
func ServerSettings() map[string]string {
	return map[string]string{
		"shared_buffers": "1GB", "max_wal_size": "8GB", "checkpoint_timeout": "15min", "jit": "off",
	}
}

// Database is a private PostgreSQL with a template.
type Database struct {
	Server *privatepg.Server
}

// StartDatabase starts a server and makes its template: the schema, and what fill puts into it.
func StartDatabase(
	ctx context.Context, o privatepg.Options, fill func(context.Context, *pgxpool.Pool) error,
) (*Database, error) {
	server, err := privatepg.Start(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("start database: %w", err)
	}
	d := &Database{Server: server}
	if err := d.fill(ctx, fill); err != nil {
		return nil, errors.Join(err, server.Stop())
	}
	return d, nil
}

func (d *Database) fill(ctx context.Context, fill func(context.Context, *pgxpool.Pool) error) error {
	if err := d.Admin(ctx, "CREATE DATABASE "+templateDB); err != nil {
		return err
	}
	url := d.Server.URL(templateDB)
	if err := migrations.Up(ctx, url); err != nil {
		return err
	}
	cfg, err := config.Load([]string{"DATABASE_URL=" + url})
	if err != nil {
		return err
	}
	pool, err := app.OpenAPIPool(ctx, cfg)
	if err != nil {
		return err
	}
	defer pool.Close()
	return fill(ctx, pool)
}

// CopyOf makes a fresh copy of the template and returns its URL.
func (d *Database) CopyOf(ctx context.Context, name string) (string, error) {
	err := d.Admin(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()+" TEMPLATE "+templateDB)
	return d.Server.URL(name), err
}

// Drop removes a copy: its rows would keep autovacuum busy in the next system's time.
func (d *Database) Drop(ctx context.Context, name string) error {
	return d.Admin(ctx, "DROP DATABASE "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)")
}

// Admin runs one statement in the server's own database.
func (d *Database) Admin(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, d.Server.URL("postgres"))
	if err != nil {
		return fmt.Errorf("connect to database: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

// clockSkew is how far PostgreSQL's clock is before ours.
func clockSkew(ctx context.Context, conn *pgx.Conn, now func() time.Time) (time.Duration, error) {
	before := now()
	var theirs time.Time
	if err := conn.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&theirs); err != nil {
		return 0, fmt.Errorf("read database clock: %w", err)
	}
	after := now()
	return theirs.Sub(before.Add(after.Sub(before) / 2)), nil
}
