package pgtest

import (
	"testing"

	"example.com/holdfast/db/migrations"
	"github.com/jackc/pgx/v5/pgxpool"
)

// hashMaxBytes of the schema's hash tell states apart and leave room in a database name.
const hashMaxBytes = 16

// New returns a pool to a database with the newest schema.
func New(t testing.TB) *pgxpool.Pool {
	t.Helper()
	return DB(t).Pool
}

// DB returns a database with the newest schema.
func DB(t testing.TB) *Database {
	t.Helper()
	hash := migrations.Hash()
	if len(hash) > hashMaxBytes {
		hash = hash[:hashMaxBytes]
	}
	return NewWith(t, Template{Name: "schema_" + hash, Migrate: migrations.Up})
}
