package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/privatepg"
	"example.com/holdfast/internal/tenancy"
	"example.com/holdfast/loadtest/rig"
	"example.com/holdfast/loadtest/simdep"
)

const (
	// privateMillis is what a call to a simulated dependency takes.
	privateMillis = 5
	// privateAccounts have the money that the load takes its own from.
	privateAccounts = 1
	// workersMax and tenantsMax bound what a private system consists of.
	workersMax = 16
	tenantsMax = 16
)

// PrivateOptions says how to start a system for a load that has none.
type PrivateOptions struct {
	// Command runs a child: a program that calls rig.Serve. Environ is what it gets besides.
	Command []string
	Environ []string
	// Workers is how many worker processes there are, Tenants how many have keys, one of each class.
	Workers, Tenants int
	// Now is the clock, Env reads PATH and PG_BIN_DIR for the search of PostgreSQL's programs.
	Now  func() time.Time
	Env  func(string) string
	Logs io.Writer
	// Volatile runs PostgreSQL without fsync.
	Volatile bool
}

// Private is a whole system on a private PostgreSQL: an api, workers, simulated dependencies.
type Private struct {
	URL      string
	Keys     []Key
	Database string
	stop     []func() error
}

// StartPrivate starts it. Stop has to be called in any case.
func StartPrivate(ctx context.Context, o PrivateOptions) (*Private, error) {
	p := &Private{}
	if o.Workers < 1 || o.Workers > workersMax || o.Tenants < 1 || o.Tenants > tenantsMax {
		return p, fmt.Errorf("load: a private system has 1 to %d workers and 1 to %d tenants", workersMax,
			tenantsMax)
	}
	db, err := rig.StartDatabase(ctx, privatepg.Options{
		Env: o.Env, Volatile: o.Volatile, Params: rig.ServerSettings(),
	}, func(ctx context.Context, pool *pgxpool.Pool) error { return p.seed(ctx, pool, o) })
	if err != nil {
		return p, err
	}
	p.stop = append(p.stop, db.Server.Stop)
	if p.Database, err = db.CopyOf(ctx, "load"); err != nil {
		return p, err
	}
	environ := []string{
		"DATABASE_URL=" + p.Database, "HOLDFAST_ADDR=127.0.0.1:0", "HOLDFAST_ADMIN_ADDR=127.0.0.1:0",
		"HOLDFAST_LOG_LEVEL=error", "HOLDFAST_LOG_FORMAT=text",
	}
	for _, setting := range []string{"HOLDFAST_RISK_URL", "HOLDFAST_NOTIFY_URL", "HOLDFAST_PAYOUT_URL"} {
		d, err := simdep.Start(context.WithoutCancel(ctx), simdep.Options{
			Knobs: simdep.Knobs{Latency: simdep.Latency{P50: privateMillis}},
		})
		if err != nil {
			return p, err
		}
		p.stop = append(p.stop, d.Close)
		environ = append(environ, setting+"="+d.URL())
	}
	roles := append([]string{rig.RoleAPI}, slices.Repeat([]string{rig.RoleWorker}, o.Workers)...)
	for _, role := range roles {
		if err := p.start(ctx, o, role, environ); err != nil {
			return p, err
		}
	}
	return p, nil
}

// start runs a process of the system.
func (p *Private) start(ctx context.Context, o PrivateOptions, role string, environ []string) error {
	var ready rig.Ready
	child, err := rig.StartChild(context.WithoutCancel(ctx), rig.Command{
		Args: o.Command, Stderr: o.Logs,
		Environ: slices.Concat(environ, []string{rig.RoleVariable + "=" + role}, o.Environ),
	}, &ready)
	if err != nil {
		return fmt.Errorf("%s: %w", role, err)
	}
	p.stop = append(p.stop, child.Stop)
	if role == rig.RoleAPI {
		p.URL = "http://" + ready.Addr
	}
	return nil
}

// seed makes tenants with money and with a key of each class.
func (p *Private) seed(ctx context.Context, pool *pgxpool.Pool, o PrivateOptions) error {
	keys := tenancy.NewService(pool, o.Now)
	for i := range o.Tenants {
		t, err := rig.SeedTenant(ctx, pool, o.Now, fmt.Sprintf("load-%d", i+1), privateAccounts)
		if err != nil {
			return err
		}
		made, err := makeKeys(ctx, keys, t.ID)
		if err != nil {
			return err
		}
		p.Keys = append(p.Keys, made...)
	}
	return nil
}

// Stop ends everything, the database last.
func (p *Private) Stop() error {
	var errs []error
	for _, stop := range slices.Backward(p.stop) {
		errs = append(errs, stop())
	}
	p.stop = nil
	return errors.Join(errs...)
}
