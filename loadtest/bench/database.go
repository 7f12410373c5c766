package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/holdfast/db/migrations"
	"example.com/holdfast/internal/app"
	"example.com/holdfast/internal/config"
	"example.com/holdfast/internal/inventory"
	"example.com/holdfast/internal/ledger"
	"example.com/holdfast/internal/privatepg"
	"example.com/holdfast/internal/tenancy"
)

const (
	// templateDB is migrated and filled once; each system under test gets a copy.
	templateDB = "bench_template"
	// seedersMax is how many accounts are opened at once.
	seedersMax = 4
)

// serverSettings are those of a small real server: no checkpoint falls into a phase.
func serverSettings() map[string]string {
	return map[string]string{
		"shared_buffers": "1GB", "max_wal_size": "8GB", "checkpoint_timeout": "15min", "jit": "off",
	}
}

// seeds is what the load is about.
type seeds struct {
	Tenant   uuid.UUID
	Key      string
	Accounts []uuid.UUID
	Shop     shop
}

// database is the run's PostgreSQL.
type database struct {
	server *privatepg.Server
	seeds  seeds
}

func startDatabase(ctx context.Context, o Options) (*database, error) {
	server, err := privatepg.Start(ctx, privatepg.Options{
		Env: o.Env, Volatile: o.Volatile, Params: serverSettings(),
	})
	if err != nil {
		return nil, fmt.Errorf("start database: %w", err)
	}
	d := &database{server: server}
	if err := d.fill(ctx, o); err != nil {
		return nil, errors.Join(err, server.Stop())
	}
	return d, nil
}

// fill makes the template: the schema, a tenant with a key, its accounts, and a shop with a merchant.
func (d *database) fill(ctx context.Context, o Options) error {
	if err := d.admin(ctx, "CREATE DATABASE "+templateDB); err != nil {
		return err
	}
	url := d.server.URL(templateDB)
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
	keys := tenancy.NewService(pool, o.Now)
	if d.seeds.Tenant, err = keys.CreateTenant(ctx, "bench"); err != nil {
		return err
	}
	d.seeds.Key, err = keys.CreateKey(ctx, d.seeds.Tenant, "bench", tenancy.Scopes(), "standard")
	if err != nil {
		return err
	}
	users, err := openAccounts(ctx, ledger.NewService(pool), d.seeds.Tenant, o.Accounts+1)
	if err != nil {
		return err
	}
	d.seeds.Shop.Merchant, d.seeds.Accounts = users[0], users[1:]
	d.seeds.Shop.SKUs, err = fillShop(ctx, inventory.NewService(pool), d.seeds.Tenant)
	return err
}

// openAccounts opens funded accounts, some at a time.
func openAccounts(ctx context.Context, l *ledger.Service, tenant uuid.UUID, n int) ([]uuid.UUID, error) {
	world, err := l.Seed(ctx, tenant, uuid.Nil,
		ledger.NewAccount{Name: "world", Kind: ledger.KindExternal, Currency: "EUR"}, 0)
	if err != nil {
		return nil, err
	}
	ids := make([]uuid.UUID, n)
	errs := make([]error, seedersMax)
	var next atomic.Int64
	var group sync.WaitGroup
	for seeder := range errs {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				a, err := l.Seed(ctx, tenant, world.ID,
					ledger.NewAccount{Name: "user", Kind: ledger.KindUser, Currency: "EUR"}, openingBalance)
				if err != nil {
					errs[seeder] = err
					return
				}
				ids[i] = a.ID
			}
		})
	}
	group.Wait()
	return ids, errors.Join(errs...)
}

// copyOf makes a fresh copy of the template and returns its URL.
func (d *database) copyOf(ctx context.Context, name string) (string, error) {
	err := d.admin(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()+" TEMPLATE "+templateDB)
	return d.server.URL(name), err
}

// admin runs one statement in the server's own database.
func (d *database) admin(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, d.server.URL("postgres"))
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
