package migrations

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pressly/goose/v3"
	"github.com/riverqueue/river/rivermigrate"
)

// UpTo brings the database at url to the schema of an earlier version of this program.
func UpTo(ctx context.Context, url string, version int64) error {
	return locked(ctx, url, func(db *pgxpool.Pool) error {
		if err := riverTo(ctx, db, rivermigrate.DirectionUp); err != nil {
			return err
		}
		return ours(db, func(p *goose.Provider) error {
			_, err := p.UpTo(ctx, version)
			return wrap("apply migrations", err)
		})
	})
}
