package migrations_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/pgtest"
)

// The SQLSTATEs with which the schema refuses.
const (
	codeNotNull     = "23502"
	codeForeignKey  = "23503"
	codeUnique      = "23505"
	codeCheck       = "23514"
	codeRowsMissed  = "HF001"
	codeAppendOnly  = "HF002"
	codeIllegalMove = "HF003"
)

func code(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}

// attempt does sql in a transaction of its own and takes it back; it returns the SQLSTATE, "" if the
// database let it happen.
func attempt(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) string {
	t.Helper()
	var got string
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), sql, args...)
		got = code(err)
		if err != nil && got == "" {
			return err
		}
		return errTakeBack
	})
	require.ErrorIs(t, err, errTakeBack)
	return got
}

var errTakeBack = errors.New("take it back")

func run(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	_, err := pool.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

func TestHistoryIsAppendOnly(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	id := uuid.New()
	run(t, pool, `INSERT INTO entries VALUES ($1, $1, 'transfer', NULL, now())`, id)
	run(t, pool, `INSERT INTO postings VALUES ($1, $1, 1, $1, 5, 5, 'EUR', now())`, id)
	run(t, pool, `INSERT INTO events (tenant_id, aggregate_id, seq, type, to_state, actor, at)
	              VALUES ($1, $1, 1, 'transfer.accepted', 'accepted', 'test', now())`, id)
	for _, table := range []string{"entries", "postings", "events"} {
		for _, sql := range []string{
			"UPDATE %s SET at = now()", "DELETE FROM %s", "TRUNCATE %s",
			"UPDATE %s SET at = now() WHERE false", // not even when it would reach nothing
		} {
			assert.Equal(t, codeAppendOnly, attempt(t, pool, fmt.Sprintf(sql, table)), sql, table)
		}
	}
}

// edges is written down once more, by hand: the test holds the trigger, not its table, to the design.
func edges() map[string][]string {
	return map[string][]string{
		"accepted":  {"approved", "in_review", "blocked", "canceled", "expired", "failed"},
		"in_review": {"approved", "blocked", "canceled", "expired", "failed"},
		"approved":  {"settling", "settled", "canceled", "expired", "failed"},
		"settling":  {"settled", "failed"},
		"settled":   nil, "blocked": nil, "canceled": nil, "expired": nil, "failed": nil,
	}
}

// reachable says whether exactly that many legal steps lead there. None goes through settling: that is
// committed before the rail is called.
func reachable(from, to string, steps int) bool {
	if steps == 0 {
		return from == to
	}
	for _, next := range edges()[from] {
		if (next != "settling" || steps == 1) && reachable(next, to, steps-1) {
			return true
		}
	}
	return false
}

const insertTransfer = `
INSERT INTO transfers (tenant_id, id, from_account, to_account, amount, currency, state, version, reason,
                       payout, rail_reference, wake_at, promise_at, created_at, updated_at)
VALUES ($1, $2, gen_random_uuid(), gen_random_uuid(), 100, 'EUR', $3, 7, 'because', true, 'r',
        CASE WHEN $3 IN ('accepted', 'in_review', 'approved', 'settling') THEN now() END,
        now(), now(), now())`

const moveTransfer = `
UPDATE transfers SET state = $2, version = version + $3,
       wake_at = CASE WHEN $2 IN ('accepted', 'in_review', 'approved', 'settling') THEN now() END
 WHERE id = $1`

func TestTheTriggerRefusesIllegalMoves(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	for from := range edges() {
		id := uuid.New()
		run(t, pool, insertTransfer, id, id, from)
		for to := range edges() {
			for step := -1; step <= 3; step++ {
				want := codeIllegalMove
				if 0 <= step && step <= 2 && reachable(from, to, step) {
					want = ""
				}
				got := attempt(t, pool, moveTransfer, id, to, step)
				assert.Equal(t, want, got, "%s to %s with version %+d", from, to, step)
			}
		}
	}
}

func TestTheTriggerSeesEveryRowOfAStatement(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	ids := []uuid.UUID{uuid.New(), uuid.New(), uuid.New()}
	for i, state := range []string{"approved", "settled", "approved"} {
		run(t, pool, insertTransfer, ids[i], ids[i], state)
	}
	const settle = `UPDATE transfers SET state = 'settled', version = version + 1, wake_at = NULL
		WHERE id = ANY ($1)`
	require.Equal(t, codeIllegalMove, attempt(t, pool, settle, ids), "one of three had already ended")
	require.Empty(t, attempt(t, pool, settle, []uuid.UUID{ids[0], ids[2]}))
	require.Equal(t, codeIllegalMove, attempt(t, pool,
		"UPDATE transfers SET id = gen_random_uuid() WHERE id = $1", ids[0]),
		"a changed key does not hide the move")
}

func TestTransferChecks(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	id := uuid.New()
	run(t, pool, insertTransfer, id, id, "accepted")
	run(t, pool, "UPDATE transfers SET client_reference = 'order-1' WHERE id = $1", id)
	for _, c := range []struct{ name, set, code string }{
		{"open and forgotten", "wake_at = NULL", codeCheck},
		{"ended and still woken", "state = 'settled', version = 8", codeCheck},
		{"ended for no reason", "state = 'failed', version = 8, wake_at = NULL, reason = NULL", codeCheck},
		{"ended", "state = 'blocked', version = 8, wake_at = NULL", ""},
		{"ended with a notification to send", "state = 'blocked', version = 8, notification = 'pending'", ""},
		{"unknown state", "state = 'lost'", codeCheck},
		{"unknown notification", "notification = 'maybe'", codeCheck},
		{"no amount", "amount = 0", codeCheck},
		{"to itself", "to_account = from_account", codeCheck},
		{"reversed by more than it was", "reversed = 101", codeCheck},
		{"reversed by less than nothing", "reversed = -1", codeCheck},
		{"empty reference", "client_reference = ''", codeCheck},
		{"reference of 255 bytes", "client_reference = repeat('x', 255)", ""},
		{"reference of 256 bytes", "client_reference = repeat('é', 128)", codeCheck},
	} {
		assert.Equal(t, c.code, attempt(t, pool, "UPDATE transfers SET "+c.set), c.name)
	}
	const again = `INSERT INTO transfers SELECT (t).* FROM (SELECT jsonb_populate_record(o, $2) AS t
		FROM transfers o WHERE o.id = $1) x`
	other := map[string]any{"id": uuid.New()}
	assert.Equal(t, codeUnique, attempt(t, pool, again, id, other), "a client_reference is used once")
	other["tenant_id"] = uuid.New()
	assert.Empty(t, attempt(t, pool, again, id, other), "for each tenant")
}

func TestLedgerChecks(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	tenant, account := uuid.New(), uuid.New()
	run(t, pool, "INSERT INTO tenants (id, name) VALUES ($1, 'acme')", tenant)
	run(t, pool, `INSERT INTO accounts (tenant_id, id, name, kind, currency)
	              VALUES ($1, $2, 'till', 'user', 'EUR')`, tenant, account)
	run(t, pool, "INSERT INTO balances (tenant_id, account_id, posted) VALUES ($1, $2, 100)", tenant, account)
	run(t, pool, "INSERT INTO holds VALUES ($1, $2, $2, 10, 0, 'active', now(), now(), now())",
		tenant, account)
	for _, c := range []struct{ name, sql, code string }{
		{"spend to the floor", "UPDATE balances SET posted = 0", ""},
		{"overdraw", "UPDATE balances SET posted = -1", codeCheck},
		{"hold all", "UPDATE balances SET held = 100", ""},
		{"hold more than all", "UPDATE balances SET held = 101", codeCheck},
		{"hold less than nothing", "UPDATE balances SET held = -1", codeCheck},
		{"raise the floor above what is there", "UPDATE balances SET floor = 101", codeCheck},
		{"a balance of nobody", "UPDATE balances SET account_id = gen_random_uuid()", codeForeignKey},
		{"unknown status", "UPDATE balances SET status = 'asleep'", codeCheck},
		{"unknown kind", "UPDATE accounts SET kind = 'secret'", codeCheck},
		{"a currency in small letters", "UPDATE accounts SET currency = 'eur'", codeCheck},
		{"capture a part", "UPDATE holds SET status = 'captured', captured = 1", ""},
		{"capture nothing", "UPDATE holds SET status = 'captured'", codeCheck},
		{"capture more than was held", "UPDATE holds SET status = 'captured', captured = 11", codeCheck},
		{"release and capture", "UPDATE holds SET status = 'released', captured = 1", codeCheck},
		{"an empty hold", "UPDATE holds SET amount = 0", codeCheck},
		{"an empty posting", "INSERT INTO postings VALUES ($1, $1, 1, $1, 0, 5, 'EUR', now())", codeCheck},
		{"posting 0", "INSERT INTO postings VALUES ($1, $1, 0, $1, 1, 5, 'EUR', now())", codeCheck},
		{"an entry of no kind", "INSERT INTO entries VALUES ($1, $1, 'gift', NULL, now())", codeCheck},
	} {
		var args []any
		if c.sql[0] == 'I' {
			args = []any{tenant}
		}
		assert.Equal(t, c.code, attempt(t, pool, c.sql, args...), c.name)
	}
}

func TestKeyAndEventChecks(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	const key = "INSERT INTO idempotency_keys VALUES (gen_random_uuid(), $1, $2, $3, NULL, '{}', now())"
	const event = `INSERT INTO events (tenant_id, aggregate_id, seq, type, to_state, actor, at)
		VALUES (gen_random_uuid(), gen_random_uuid(), $1, 'transfer.accepted', $2, 'test', now())`
	hash := make([]byte, 32)
	for _, c := range []struct {
		name, sql, code string
		args            []any
	}{
		{"a key", key, "", []any{"k", hash, 202}},
		{"no key", key, codeCheck, []any{"", hash, 202}},
		{"a long key", key, codeCheck, []any{strings.Repeat("k", 256), hash, 202}},
		{"half a hash", key, codeCheck, []any{"k", hash[:16], 202}},
		{"a stored 500", key, codeCheck, []any{"k", hash, 500}},
		{"an event", event, "", []any{1, "accepted"}},
		{"an event before the first", event, codeCheck, []any{0, "accepted"}},
		{"an event that leads nowhere", event, codeNotNull, []any{1, nil}},
		{"all rows reached", "SELECT assert_rows($1, 2, 'balances')", "", []any{2}},
		{"a row missed", "SELECT assert_rows($1, 2, 'balances')", codeRowsMissed, []any{1}},
		{"a row too many", "SELECT assert_rows($1, 2, 'balances')", codeRowsMissed, []any{3}},
	} {
		assert.Equal(t, c.code, attempt(t, pool, c.sql, c.args...), c.name)
	}
}
