package migrations_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/db/migrations"
	"example.com/holdfast/internal/pgtest"
)

const beforePayouts = 10

// oldTransfer is a transfer as it was stored before there were payouts.
const oldTransfer = `
INSERT INTO transfers (tenant_id, id, from_account, to_account, amount, currency, state, version, wake_at,
                       promise_at, created_at, updated_at)
VALUES ($1, $2, gen_random_uuid(), $3, 100, 'EUR', $4, 1, CASE WHEN $4 <> 'settled' THEN now() END,
        now(), now(), now())`

func TestOpenTransfersToTheWorldOutsideBecomePayouts(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	require.NoError(t, migrations.UpTo(t.Context(), db.URL, beforePayouts))
	tenant, world, user := uuid.New(), uuid.New(), uuid.New()
	run(t, db.Pool, "INSERT INTO tenants (id, name) VALUES ($1, 'old')", tenant)
	for id, kind := range map[uuid.UUID]string{world: "external", user: "user"} {
		run(t, db.Pool, `INSERT INTO accounts (tenant_id, id, kind, currency, name, created_at)
		                 VALUES ($1, $2, $3, 'EUR', 'old', now())`, tenant, id, kind)
	}
	want := map[uuid.UUID]bool{}
	for _, state := range []string{"accepted", "in_review", "approved", "settled"} {
		out, inside := uuid.New(), uuid.New()
		run(t, db.Pool, oldTransfer, tenant, out, world, state)
		run(t, db.Pool, oldTransfer, tenant, inside, user, state)
		want[out], want[inside] = state != "settled", false // what is settled was paid by nobody
	}
	require.NoError(t, migrations.Up(t.Context(), db.URL))
	for id, payout := range want {
		var got bool
		require.NoError(t, db.Pool.QueryRow(t.Context(),
			"SELECT payout FROM transfers WHERE id = $1", id).Scan(&got))
		require.Equal(t, payout, got)
	}
}

func TestADowngradeForgetsNoMoneyThatMayHaveLeft(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	require.NoError(t, migrations.Up(t.Context(), db.URL))
	id := uuid.New()
	run(t, db.Pool, insertTransfer, id, id, "settling")
	require.ErrorContains(t, migrations.Down(t.Context(), db.URL), "transfers are settling")
	run(t, db.Pool, moveTransfer, id, "failed", 1)
	require.NoError(t, migrations.Down(t.Context(), db.URL))
}
