package app

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/inventory"
	"example.com/holdfast/internal/ledger"
	"example.com/holdfast/internal/tenancy"
)

// The demo tenant.
const (
	demoTenant  = "demo"
	demoEnv     = "dev"
	demoBalance = 1_000_000_00
	// demoCurrency is that of everything in the demo.
	demoCurrency = "EUR"
)

// Demo is what a newcomer needs to send a first transfer and to place a first order. The keys are new at
// each start, since only
// their hashes are stored.
type Demo struct {
	TenantID uuid.UUID
	Key      string
	AdminKey string
	Accounts []uuid.UUID
	// World is the account outside: what is sent there is paid out by the payout rail.
	World uuid.UUID
	// SKUs are in stock at Location; Slots are delivery slots of tomorrow there.
	SKUs, Slots []uuid.UUID
	Location    string
}

// Seed makes sure that there is a demo tenant with two funded accounts and a catalogue, and gives it new
// keys.
func Seed(ctx context.Context, pool *pgxpool.Pool, now func() time.Time) (Demo, error) {
	keys := tenancy.NewService(pool, now)
	tenantID, err := keys.CreateTenant(ctx, demoTenant)
	if err != nil {
		return Demo{}, fmt.Errorf("seed: %w", err)
	}
	d := Demo{TenantID: tenantID, Location: demoLocation}
	all, err := demoAccounts(ctx, ledger.NewService(pool), tenantID)
	if err != nil {
		return Demo{}, fmt.Errorf("seed: %w", err)
	}
	d.World, d.Accounts = all[0], all[1:]
	shop := catalogue{tenantID: tenantID, stock: inventory.NewService(pool)}
	if d.SKUs, d.Slots, err = shop.seed(ctx, now()); err != nil {
		return Demo{}, fmt.Errorf("seed: %w", err)
	}
	if d.Key, err = keys.CreateKey(ctx, tenantID, demoEnv, tenancy.Scopes(), "standard"); err != nil {
		return Demo{}, fmt.Errorf("seed: %w", err)
	}
	if d.AdminKey, err = keys.CreateAdminKey(ctx, "demo operator", demoEnv, tenancy.Operator); err != nil {
		return Demo{}, fmt.Errorf("seed: %w", err)
	}
	return d, nil
}

// demoAccounts finds the account outside and the two funded ones, or opens them, in this order.
func demoAccounts(ctx context.Context, l *ledger.Service, tenantID uuid.UUID) ([]uuid.UUID, error) {
	found, err := l.Accounts(ctx, tenantID, uuid.Nil, 3)
	if err != nil {
		return nil, err
	}
	if len(found) == 3 {
		return []uuid.UUID{found[0].ID, found[1].ID, found[2].ID}, nil
	}
	world, err := l.Seed(ctx, tenantID, uuid.Nil, demoAccount("world", ledger.KindExternal), 0)
	if err != nil {
		return nil, err
	}
	accounts := []uuid.UUID{world.ID}
	for _, name := range []string{"alice", "bob"} {
		a, err := l.Seed(ctx, tenantID, world.ID, demoAccount(name, ledger.KindUser), demoBalance)
		if err != nil {
			return nil, err
		}
		accounts = append(accounts, a.ID)
	}
	return accounts, nil
}

func demoAccount(name, kind string) ledger.NewAccount {
	return ledger.NewAccount{Name: name, Kind: kind, Currency: demoCurrency}
}
