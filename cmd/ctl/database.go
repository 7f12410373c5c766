package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/db/migrations"
	"example.com/holdfast/internal/app"
	"example.com/holdfast/internal/config"
	"example.com/holdfast/internal/tenancy"
)

var errNoDatabase = errors.New("DATABASE_URL is not set")

// database is the settings of commands that work on a database that is there.
func database() (config.Config, error) {
	cfg, err := config.Load(os.Environ())
	if err == nil && cfg.DatabaseURL == "" {
		err = errNoDatabase
	}
	return cfg, err
}

type migrateCmd struct {
	Down bool `help:"Take every table away again. All data is lost."`
	Yes  bool `help:"Confirm --down."`
}

// Run migrates the database that DATABASE_URL names.
func (c *migrateCmd) Run(ctx context.Context) error {
	cfg, err := database()
	if err != nil {
		return err
	}
	if c.Down && !c.Yes {
		return errors.New("--down loses all data; add --yes to confirm")
	}
	if c.Down {
		return migrations.Down(ctx, cfg.DatabaseURL)
	}
	return migrations.Up(ctx, cfg.DatabaseURL)
}

type seedCmd struct{}

// Run seeds the database that DATABASE_URL names and prints what a client needs as one JSON line.
func (*seedCmd) Run(ctx context.Context) error {
	cfg, err := database()
	if err != nil {
		return err
	}
	pool, err := app.OpenAPIPool(ctx, cfg)
	if err != nil {
		return err
	}
	defer pool.Close()
	demo, err := app.Seed(ctx, pool, time.Now)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"tenant": demo.TenantID, "key": demo.Key, "admin_key": demo.AdminKey, "accounts": demo.Accounts,
		"world": demo.World, "location": demo.Location, "skus": demo.SKUs, "slots": demo.Slots,
	})
}

//nolint:lll // help texts are struct tags
type keyCmd struct {
	Create      createKeyCmd      `cmd:"" help:"Create an API key of a tenant; the tenant is made if it is not there."`
	CreateAdmin createAdminKeyCmd `cmd:"" help:"Create a key for the admin API."`
	Revoke      revokeKeyCmd      `cmd:"" help:"Revoke a key by its id, the part between the second and third underscore."`
}

//nolint:lll // help texts are struct tags
type createKeyCmd struct {
	Tenant string          `required:"" help:"Name of the tenant."`
	Env    string          `default:"live" help:"Environment that the key names itself after."`
	Scopes []tenancy.Scope `default:"transfers:read,transfers:write,accounts:read,accounts:write" help:"What the key may do."`
	Class  string          `default:"standard" enum:"critical,standard,sheddable" help:"How long its requests are let in under load."`
}

// Run prints the key; it is not stored and cannot be shown again.
func (c *createKeyCmd) Run(ctx context.Context) error {
	return withKeys(ctx, func(keys *tenancy.Service) error {
		tenantID, err := keys.CreateTenant(ctx, c.Tenant)
		if err != nil {
			return err
		}
		key, err := keys.CreateKey(ctx, tenantID, c.Env, c.Scopes, tenancy.Class(c.Class))
		return printKey(tenantID, key, err)
	})
}

type createAdminKeyCmd struct {
	Name string       `required:"" help:"Who the key is for; it stands in the events."`
	Env  string       `default:"live" help:"Environment that the key names itself after."`
	Role tenancy.Role `default:"viewer" enum:"viewer,operator,approver" help:"What its holder may do."`
}

// Run prints the key; it is not stored and cannot be shown again.
func (c *createAdminKeyCmd) Run(ctx context.Context) error {
	return withKeys(ctx, func(keys *tenancy.Service) error {
		key, err := keys.CreateAdminKey(ctx, c.Name, c.Env, c.Role)
		return printKey(uuid.Nil, key, err)
	})
}

type revokeKeyCmd struct {
	ID    string `arg:"" help:"Id of the key."`
	Admin bool   `help:"The key is an admin key."`
}

// Run revokes a key; within seconds no instance takes it any more.
func (c *revokeKeyCmd) Run(ctx context.Context) error {
	return withKeys(ctx, func(keys *tenancy.Service) error {
		revoke := keys.RevokeKey
		if c.Admin {
			revoke = keys.RevokeAdminKey
		}
		was, err := revoke(ctx, c.ID)
		if err == nil && !was {
			return fmt.Errorf("no active key has the id %q", c.ID)
		}
		return err
	})
}

func withKeys(ctx context.Context, do func(*tenancy.Service) error) error {
	cfg, err := database()
	if err != nil {
		return err
	}
	pool, err := app.OpenAPIPool(ctx, cfg)
	if err != nil {
		return err
	}
	defer pool.Close()
	return do(tenancy.NewService(pool, time.Now))
}

func printKey(tenantID uuid.UUID, key string, err error) error {
	if err != nil {
		return err
	}
	out := map[string]any{"key": key}
	if tenantID != uuid.Nil {
		out["tenant"] = tenantID
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

type configCmd struct{}

// Run prints the settings.
func (*configCmd) Run() error {
	cfg, err := config.Load(os.Environ())
	if err != nil {
		return err
	}
	_, err = os.Stdout.WriteString(cfg.Redacted())
	return err
}
