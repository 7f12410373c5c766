package rig

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/inventory"
	"example.com/holdfast/internal/ledger"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/tenancy"
)

// What a tenant begins with.
const (
	// OpeningBalance of an account, in minor units: no run can empty it.
	OpeningBalance = 1_000_000_000
	// Location has OpeningStock of every SKU: no run can sell it out.
	Location     = "main"
	OpeningStock = 100_000_000
	// SKUCount is how many there are, and PriceMin the price of the first one, in minor units; each next
	// one costs a unit more.
	SKUCount = 50
	PriceMin = 200
	// seedersMax is how many accounts are opened at once.
	seedersMax = 4
)

// Tenant is who asks, and what about.
type Tenant struct {
	ID uuid.UUID
	// Key is of the standard class; Keys has one of each class.
	Key  string
	Keys map[string]string
	// World is outside: what goes there leaves by the payout rail.
	World uuid.UUID
	// Accounts are funded, Merchant is paid by orders of SKUs.
	Accounts []uuid.UUID
	Merchant uuid.UUID
	SKUs     []uuid.UUID
}

// SeedTenant makes a tenant with a key, funded accounts and a shop.
func SeedTenant(
	ctx context.Context, pool *pgxpool.Pool, now func() time.Time, name string, accounts int,
) (Tenant, error) {
	t := Tenant{}
	keys := tenancy.NewService(pool, now)
	var err error
	if t.ID, err = keys.CreateTenant(ctx, name); err != nil {
		return t, err
	}
	t.Keys = map[string]string{}
	for _, class := range []tenancy.Class{tenancy.Critical, tenancy.Standard, tenancy.Sheddable} {
		key, err := keys.CreateKey(ctx, t.ID, "rig", tenancy.Scopes(), class)
		if err != nil {
			return t, err
		}
		t.Keys[string(class)] = key
	}
	t.Key = t.Keys[string(tenancy.Standard)]
	if err := t.openAccounts(ctx, ledger.NewService(pool), accounts+1); err != nil {
		return t, err
	}
	t.SKUs, err = fillShop(ctx, inventory.NewService(pool), t.ID)
	return t, err
}

// openAccounts opens funded accounts, some at a time. The first one is the merchant's.
func (t *Tenant) openAccounts(ctx context.Context, l *ledger.Service, n int) error {
	world, err := l.Seed(ctx, t.ID, uuid.Nil,
		ledger.NewAccount{Name: "world", Kind: ledger.KindExternal, Currency: "EUR"}, 0)
	if err != nil {
		return err
	}
	ids := make([]uuid.UUID, n)
	errs := make([]error, seedersMax)
	var next atomic.Int64
	var group sync.WaitGroup
	for seeder := range errs {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				a, err := l.Seed(ctx, t.ID, world.ID,
					ledger.NewAccount{Name: "user", Kind: ledger.KindUser, Currency: "EUR"}, OpeningBalance)
				if err != nil {
					errs[seeder] = err
					return
				}
				ids[i] = a.ID
			}
		})
	}
	group.Wait()
	t.World, t.Merchant, t.Accounts = world.ID, ids[0], ids[1:]
	return errors.Join(errs...)
}

// fillShop makes the SKUs with their stock through the service.
func fillShop(ctx context.Context, stock *inventory.Service, tenant uuid.UUID) ([]uuid.UUID, error) {
	ids := make([]uuid.UUID, SKUCount)
	for i := range ids {
		n := inventory.NewSKU{
			Code: fmt.Sprintf("rig-%02d", i), Name: "Something to sell", Price: PriceMin + int64(i),
			Currency: "EUR",
		}
		_, err := stock.CreateSKU(ctx, seedKey(tenant, "sku "+n.Code), n,
			func(k inventory.SKU) idempotency.Response {
				ids[i] = k.ID
				return created()
			})
		if err != nil {
			return nil, err
		}
		_, err = stock.ChangeStock(ctx, seedKey(tenant, "stock "+n.Code), inventory.Change{
			SKU: ids[i], Location: Location, Kind: inventory.Restock, Quantity: OpeningStock,
			Reason: "opening stock",
		}, func(inventory.Stock) idempotency.Response { return created() })
		if err != nil {
			return nil, err
		}
	}
	return ids, nil
}

func created() idempotency.Response { return idempotency.Response{Status: http.StatusCreated} }

// seedKey has a space, so no request has it.
func seedKey(tenant uuid.UUID, what string) idempotency.Keyed {
	key := "seed " + what
	return idempotency.Keyed{
		Key: idempotency.Key{
			TenantID: tenant, Key: key, Hash: idempotency.Hash("", "seed", "1", []byte(key)),
		},
		Refuse: func(e *problem.Error) idempotency.Response {
			return idempotency.Response{Status: problem.MeaningOf(e.Code).Status, Body: []byte(e.Detail)}
		},
	}
}
