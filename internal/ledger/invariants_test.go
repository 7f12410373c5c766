package ledger_test

import (
	"errors"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/ledger"
)

var errTakeBack = errors.New("take it back")

// broken names the invariants that do not hold, each with what it found.
func broken(t *testing.T, tx pgx.Tx) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	for _, i := range ledger.Invariants() {
		rows, err := tx.Query(t.Context(), i.SQL)
		require.NoError(t, err, i.Name)
		require.Equal(t, "what", rows.FieldDescriptions()[0].Name)
		breaks, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err, i.Name)
		if len(breaks) > 0 {
			found[i.Name] = breaks
		}
	}
	return found
}

// unlock takes away every lock of the schema, as somebody with direct access to the tables could.
const unlock = `
SET LOCAL session_replication_role = replica;
ALTER TABLE balances DROP CONSTRAINT balances_not_overdrawn;
ALTER TABLE holds DROP CONSTRAINT holds_captured_says_how_much;`

// TestEveryInvariantFindsItsPlantedBug corrupts a sound ledger in one way at a time.
func TestEveryInvariantFindsItsPlantedBug(t *testing.T) {
	t.Parallel()
	b := setup(t)
	anna, bob := b.user(t, 100), b.user(t, 50)
	paid, waiting := uuid.New(), uuid.New()
	require.NoError(t, b.do(t.Context(), []ledger.Ref{anna, bob}, func(book *ledger.Book) error {
		return errors.Join(book.Hold(anna, paid, 30, book.Now()), book.Hold(anna, waiting, 20, book.Now()))
	}))
	require.NoError(t, b.do(t.Context(), []ledger.Ref{anna, bob}, func(book *ledger.Book) error {
		return book.Settle(anna, bob, paid, 30, 30)
	}))
	b.requireInvariants(t)

	args := pgx.NamedArgs{
		"tenant": b.tenant, "anna": anna.ID, "bob": bob.ID, "paid": paid, "waiting": waiting,
	}
	bugs := plantedBugs()
	for _, i := range ledger.Invariants() {
		assert.NotEmpty(t, bugs[i.Name], "%s: no planted bug turns it red", i.Name)
	}
	for invariant, planted := range bugs {
		for name, bug := range planted {
			err := pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
				_, err := tx.Exec(t.Context(), unlock)
				require.NoError(t, err)
				done, err := tx.Exec(t.Context(), bug, args)
				require.NoError(t, err, name)
				require.Positive(t, done.RowsAffected(), name)
				assert.Contains(t, broken(t, tx), invariant, name)
				return errTakeBack
			})
			require.ErrorIs(t, err, errTakeBack)
		}
	}
	b.requireInvariants(t)
}

// plantedBugs are the ways to corrupt the ledger, by the invariant that has to notice.
func plantedBugs() map[string]map[string]string {
	return map[string]map[string]string{
		"money_conserved": {
			"money appears": "UPDATE postings SET amount = 31 WHERE account_id = @bob AND entry_id = @paid",
		},
		"entries_balanced": {
			"one leg is lost": "DELETE FROM postings WHERE account_id = @bob AND entry_id = @paid",
			"an entry has one leg": `INSERT INTO postings
				VALUES (@tenant, @anna, 3, gen_random_uuid(), 5, 75, 'EUR', now())`,
			"legs in two currencies": "UPDATE postings SET currency = 'USD' WHERE account_id = @bob",
		},
		"entries_complete": {
			"an entry is lost": "DELETE FROM entries WHERE id = @paid",
			"an empty entry":   "INSERT INTO entries VALUES (@tenant, @waiting, 'opening', NULL, now())",
		},
		"captures_posted": {
			"a payment without a hold":       "DELETE FROM holds WHERE id = @paid",
			"a payment of a released hold":   "UPDATE holds SET status = 'released' WHERE id = @paid",
			"a payment of another amount":    "UPDATE holds SET captured = 29 WHERE id = @paid",
			"a payment from another account": "UPDATE holds SET account_id = @bob WHERE id = @paid",
			"a capture without a payment": `UPDATE holds SET status = 'captured', captured = 20
				WHERE id = @waiting`,
		},
		"accounts_complete": {
			"a balance is lost":  "DELETE FROM balances WHERE account_id = @bob",
			"an account is lost": "DELETE FROM accounts WHERE id = @bob",
			"a hold of nobody":   "UPDATE holds SET account_id = gen_random_uuid() WHERE id = @waiting",
			"another currency":   "UPDATE accounts SET currency = 'USD' WHERE id = @bob",
		},
		"balances_equal_postings": {
			"a balance is edited": "UPDATE balances SET posted = posted + 1 WHERE account_id = @bob",
			"a version is lost":   "UPDATE balances SET version = version - 1 WHERE account_id = @bob",
		},
		"held_equals_holds": {
			"held is edited":                  "UPDATE balances SET held = 0 WHERE account_id = @anna",
			"a hold is lost":                  "DELETE FROM holds WHERE id = @waiting",
			"a hold ends and keeps its funds": "UPDATE holds SET status = 'expired' WHERE id = @waiting",
		},
		"never_overdrawn": {
			"more is held than there is": "UPDATE balances SET held = 71 WHERE account_id = @anna",
			"a floor is raised":          "UPDATE balances SET floor = 51 WHERE account_id = @anna",
			"a balance fell below its floor and came back": `UPDATE postings
				SET amount = CASE account_version WHEN 1 THEN -100 ELSE 170 END WHERE account_id = @anna`,
		},
		"history_unbroken": {
			"a version is left out":      "UPDATE postings SET account_version = 9 WHERE entry_id = @paid",
			"a running balance is wrong": "UPDATE postings SET posted_after = 1 WHERE entry_id = @paid",
			"time runs back":             "UPDATE postings SET at = 'epoch' WHERE entry_id = @paid",
		},
	}
}

func TestABreakSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	b := setup(t)
	anna := b.user(t, 100)
	_, err := b.pool.Exec(t.Context(), "UPDATE balances SET posted = 120 WHERE account_id = $1", anna.ID)
	require.NoError(t, err)
	err = pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
		require.Equal(t, map[string][]string{
			"balances_equal_postings": {
				"account " + anna.ID.String() +
					": posted 120 at version 1, but 1 postings up to version 1 sum to 100",
			},
		}, broken(t, tx))
		return nil
	})
	require.NoError(t, err)
}
