package pgtest

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/db/migrations"
)

// hashMaxBytes of the schema's hash tell states apart and leave room in a database name.
const hashMaxBytes = 16

// New returns a pool to a database with the newest schema.
func New(tb testing.TB) *pgxpool.Pool {
	tb.Helper()
	return DB(tb).Pool
}

// DB returns a database with the newest schema.
func DB(tb testing.TB) *Database {
	tb.Helper()
	return NewWith(tb, schema())
}

func schema() Template {
	hash := migrations.Hash()
	if len(hash) > hashMaxBytes {
		hash = hash[:hashMaxBytes]
	}
	return Template{Name: "schema_" + hash, Migrate: migrations.Up}
}
