package load

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/app"
	"example.com/holdfast/internal/config"
	"example.com/holdfast/internal/ledger"
	"example.com/holdfast/internal/money"
	"example.com/holdfast/internal/tenancy"
)

const (
	// accountPrefix begins the names of the accounts that a load opens; the one that money comes from has
	// another name, so that it is not taken for one of them.
	accountPrefix = "load "
	funderName    = "funder of loads"
	worldName     = "world of loads"
	// openingFills is how often the accounts of a load can be filled from what a funder begins with.
	openingFills = 1_000
	// revokeMax bounds the end of keys, which also who is told to end waits for.
	revokeMax = 10 * time.Second
)

// TenantKeysOptions says whose keys to make where.
type TenantKeysOptions struct {
	// Database is that of the target, Tenant the name of a tenant, which is made if it is not there.
	Database, Tenant string
	// Accounts, Fund and Currency are those of the load: the tenant gets an account that can pay for them,
	// unless it has one.
	Accounts int
	Fund     int64
	Currency string
	Now      func() time.Time
}

// TenantKeys are keys for the time of one load, one of each class.
type TenantKeys struct {
	Keys []Key
	pool *pgxpool.Pool
	now  func() time.Time
}

// MakeTenantKeys makes keys in the database of the target, for a load to which nobody gave any. Revoke has to
// be called in any case.
func MakeTenantKeys(ctx context.Context, o TenantKeysOptions) (*TenantKeys, error) {
	t := &TenantKeys{now: o.Now}
	cfg, err := config.Load([]string{"DATABASE_URL=" + o.Database})
	if err != nil {
		return t, err
	}
	if t.pool, err = app.OpenAPIPool(ctx, cfg); err != nil {
		return t, err
	}
	id, err := tenancy.NewService(t.pool, o.Now).CreateTenant(ctx, o.Tenant)
	if err != nil {
		return t, err
	}
	if err := o.endow(ctx, ledger.NewService(t.pool), id); err != nil {
		return t, fmt.Errorf("load: give tenant %q money: %w", o.Tenant, err)
	}
	t.Keys, err = makeKeys(ctx, tenancy.NewService(t.pool, o.Now), id)
	return t, err
}

// makeKeys makes a key of each class, with all scopes. With an error it returns those that it made.
func makeKeys(ctx context.Context, keys *tenancy.Service, tenant uuid.UUID) ([]Key, error) {
	var made []Key
	for _, class := range []tenancy.Class{tenancy.Critical, tenancy.Standard, tenancy.Sheddable} {
		secret, err := keys.CreateKey(ctx, tenant, "load", tenancy.Scopes(), class)
		if err != nil {
			return made, err
		}
		made = append(made, Key{Class: string(class), Secret: secret})
	}
	return made, nil
}

// endow opens an account with money for the load, unless there is one among the tenant's first accounts.
func (o *TenantKeysOptions) endow(ctx context.Context, l *ledger.Service, tenant uuid.UUID) error {
	need := int64(o.Accounts) * o.Fund
	accounts, err := l.Accounts(ctx, tenant, uuid.Nil, pageSize)
	if err != nil {
		return err
	}
	for _, a := range accounts {
		if a.Kind == ledger.KindUser && a.Currency == o.Currency && a.Status == ledger.StatusActive &&
			a.Posted-a.Held >= need && !strings.HasPrefix(a.Name, accountPrefix) {
			return nil
		}
	}
	world, err := l.Seed(ctx, tenant, uuid.Nil,
		ledger.NewAccount{Name: worldName, Kind: ledger.KindExternal, Currency: o.Currency}, 0)
	if err != nil {
		return err
	}
	_, err = l.Seed(ctx, tenant, world.ID,
		ledger.NewAccount{Name: funderName, Kind: ledger.KindUser, Currency: o.Currency},
		min(need, money.MaxValue/openingFills)*openingFills)
	return err
}

// Revoke ends the keys, also when the load was told to end.
func (t *TenantKeys) Revoke(ctx context.Context) error {
	if t.pool == nil {
		return nil
	}
	defer t.pool.Close()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeMax)
	defer cancel()
	keys := tenancy.NewService(t.pool, t.now)
	var errs []error
	for _, k := range t.Keys {
		// The id is what stands between the second and the third underscore.
		_, err := keys.RevokeKey(ctx, strings.Split(k.Secret, "_")[2])
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
