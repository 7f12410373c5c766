package rig

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/mode"
	"example.com/holdfast/internal/pgtx"
)

// PinMode keeps a mode in force for as long as a load may take: the controller switches nothing. Normal too:
// what is measured is not to change by itself.
func PinMode(ctx context.Context, pool *pgxpool.Pool, m mode.Mode) error {
	policy, err := mode.Load("")
	if err != nil {
		return err
	}
	o := mode.Override{
		Control: mode.Pinned, Mode: m, For: mode.ForMax, Actor: "load test",
		Reason: "what is measured is this mode",
	}
	return pgtx.Run(ctx, pool, "pin mode", func(ctx context.Context, tx pgx.Tx) error {
		_, err := mode.Set(ctx, tx, policy, o)
		return err
	})
}
