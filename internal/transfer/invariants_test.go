package transfer_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/invariant"
	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/internal/transfer/transfertest"
)

func invariantNamed(t *testing.T, name string) invariant.Invariant {
	t.Helper()
	for _, i := range transfer.Invariants() {
		if i.Name == name {
			return i
		}
	}
	t.Fatalf("no invariant is called %s", name)
	return invariant.Invariant{}
}

// bugs are statements that break one invariant each, on a world with one settled, one reversed, one
// canceled, one paid out and one open transfer. Guards of the schema are taken away first.
func bugs() map[string][]string {
	event := func(columns string) string {
		return "INSERT INTO events (tenant_id, aggregate_id, seq, type, from_state, to_state, actor, at) " +
			"SELECT tenant_id, id, version + 1, " + columns + ", 'bug', now() FROM transfers WHERE "
	}
	const due = "UPDATE transfers SET wake_at = now() - interval '11 seconds' WHERE state = 'accepted';"
	return map[string][]string{
		"transfer_events_complete": {
			"DELETE FROM events WHERE to_state = 'approved'",
			"DELETE FROM events WHERE to_state = 'canceled'",
			"UPDATE events SET from_state = 'in_review' WHERE to_state = 'settled'",
			"UPDATE events SET type = 'transfer.failed' WHERE to_state = 'settled'",
			"UPDATE transfers SET version = version + 1 WHERE state = 'accepted'",
			"UPDATE transfers SET state = 'approved' WHERE state = 'accepted'",
			"DELETE FROM transfers WHERE state = 'canceled'",
		},
		"transfer_moves_legal": {
			event("'transfer.approved', 'accepted', 'settled'") + "state = 'accepted'",
			event("'transfer.accepted', 'settled', 'accepted'") + "state = 'settled'",
			"UPDATE events SET to_state = 'approved' WHERE seq = 1",
		},
		"transfer_ends_once": {event("'transfer.canceled', 'settled', 'canceled'") + "state = 'settled'"},
		"transfer_promise_kept": {
			"UPDATE transfers SET promise_at = now() - interval '6 seconds' WHERE state = 'accepted'",
		},
		"transfer_end_has_reason": {"UPDATE transfers SET reason = '' WHERE state = 'canceled'"},
		"transfer_reference_once": {"UPDATE transfers SET client_reference = 'twice'"},
		"transfer_holds_agree": {
			"UPDATE holds SET status = 'released' WHERE status = 'active'",
			"UPDATE holds SET amount = amount + 1 WHERE status = 'active'",
			"UPDATE holds SET captured = captured - 1 WHERE status = 'captured'",
			"UPDATE holds SET account_id = gen_random_uuid() WHERE status = 'active'",
			"UPDATE holds SET status = 'active' WHERE status = 'released'",
			"DELETE FROM holds WHERE status = 'active'",
			"DELETE FROM transfers WHERE state = 'canceled'",
		},
		"transfer_entries_agree": {
			"DELETE FROM entries WHERE kind = 'transfer'",
			"DELETE FROM postings p USING transfers t WHERE t.id = p.entry_id AND p.amount > 0",
			"UPDATE postings p SET amount = 2 * p.amount FROM transfers t WHERE t.id = p.entry_id",
			"UPDATE postings p SET account_id = gen_random_uuid() FROM transfers t " +
				"WHERE t.id = p.entry_id AND p.amount < 0",
			"UPDATE postings p SET currency = 'USD' FROM transfers t WHERE t.id = p.entry_id",
			"UPDATE transfers SET state = 'failed' WHERE state = 'settled'",
			"INSERT INTO entries SELECT tenant_id, id, 'transfer', NULL, now() FROM transfers " +
				"WHERE state = 'accepted'",
		},
		"transfer_reversals_bounded": {
			"UPDATE transfers SET reversed = reversed + 1 WHERE state = 'settled' AND reverses IS NULL",
			"UPDATE transfers SET reversed = 0",
			"UPDATE transfers SET reverses = gen_random_uuid() WHERE state = 'accepted'",
			"UPDATE transfers SET to_account = gen_random_uuid() WHERE reverses IS NOT NULL",
		},
		"transfer_payouts_agree": {
			"UPDATE transfers SET payout = true WHERE state = 'canceled'",
			"UPDATE transfers SET payout = false WHERE payout",
			"UPDATE transfers SET rail_reference = NULL WHERE payout",
			"UPDATE accounts SET kind = 'user' WHERE kind = 'external'",
			"UPDATE events SET type = 'transfer.gone' WHERE to_state = 'settling'",
			"UPDATE transfers SET state = 'settling' WHERE state = 'accepted'",
		},
		"transfer_never_forgotten": {
			due + "DELETE FROM river_job",
			due + "UPDATE river_job SET state = 'completed', finalized_at = now()",
		},
		"transfer_notified_at_end": {
			"UPDATE transfers SET notification = 'sent' WHERE state = 'accepted'",
			"UPDATE transfers SET notification = 'none' WHERE state = 'settled'",
			"UPDATE transfers SET wake_at = NULL WHERE state = 'accepted'",
			"UPDATE transfers SET wake_at = now() WHERE notification = 'sent'",
		},
	}
}

func TestEveryInvariantFindsItsPlantedBugs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.reverse(t, "r1", w.settled(t, 250), 100)
	w.runAll(t.Context(), t)
	w.act(t, "c1", w.Create(t, "k2", 10), transfer.Cancel, "")
	w.runAll(t.Context(), t)
	w.createPayout(t, "k4", 7)
	w.runAll(t.Context(), t)
	open := w.Create(t, "k3", 5)
	w.CheckInvariants(t)
	w.Exec(t, `
DROP TRIGGER events_append_only ON events; DROP TRIGGER entries_append_only ON entries;
DROP TRIGGER postings_append_only ON postings; DROP TRIGGER transfers_legal_moves ON transfers;
ALTER TABLE transfers DROP CONSTRAINT transfers_open_is_woken, DROP CONSTRAINT transfers_end_has_reason,
	DROP CONSTRAINT transfers_only_payouts_settle_outside, DROP CONSTRAINT transfers_payout_has_reference;
ALTER TABLE holds DROP CONSTRAINT holds_captured_says_how_much;
DROP INDEX transfers_client_reference`)

	planted := bugs()
	for _, i := range transfer.Invariants() {
		require.NotEmpty(t, i.Doc)
		require.NotEmpty(t, planted[i.Name], "invariant %s has no planted bug", i.Name)
		for _, bug := range planted[i.Name] {
			require.NotEmpty(t, w.breaksAfter(t, i, bug), "%s does not see: %s", i.Name, bug)
		}
	}
	require.Len(t, planted, len(transfer.Invariants()))
	w.CheckInvariants(t)
	require.Equal(t, transfer.Accepted, w.Get(t, open).State)
}

// breaksAfter does a bug, lists the breaks of an invariant, and takes the bug back.
func (w world) breaksAfter(t *testing.T, i invariant.Invariant, bug string) []string {
	t.Helper()
	tx, err := w.Pool.Begin(t.Context()) //nolint:forbidigo // rolled back, so that each bug is alone
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Rollback(t.Context())) }()
	for statement := range strings.SplitSeq(bug, ";") {
		tag, err := tx.Exec(t.Context(), statement)
		require.NoError(t, err, bug)
		require.NotZero(t, tag.RowsAffected(), "the bug has no effect: %s", statement)
	}
	rows, err := tx.Query(t.Context(), i.SQL)
	require.NoError(t, err, bug)
	defer rows.Close()
	var breaks []string
	for rows.Next() {
		var what string
		require.NoError(t, rows.Scan(&what))
		breaks = append(breaks, what)
	}
	require.NoError(t, rows.Err())
	return breaks
}

func TestABreakNamesTheTransfer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.Create(t, "k1", 5)
	w.endPromise(t)
	w.Exec(t, "UPDATE transfers SET promise_at = now() - interval '1 minute'")
	breaks := w.Breaks(t, invariantNamed(t, "transfer_promise_kept"))
	require.Len(t, breaks, 1)
	require.Contains(t, breaks[0], id.String())
	require.NotEqual(t, uuid.Nil, id)
	require.Equal(t, transfertest.Currency, w.Get(t, id).Amount.Currency)
}
