package transfer

import "example.com/holdfast/internal/invariant"

// Invariants lists what always holds about transfers, their events, holds, entries and wake-ups. The
// hot tables have no foreign keys, so these checks also stand in for them.
func Invariants() []invariant.Invariant {
	return []invariant.Invariant{
		{
			Name: "transfer_events_complete", SQL: eventsCompleteSQL,
			Doc: "A transfer's events are numbered 1 to its version, each begins where the one before " +
				"ended, and the last one ends in the transfer's state.",
		},
		{
			Name: "transfer_moves_legal", SQL: movesLegalSQL,
			Doc: "A transfer begins accepted, and every later event is a move of the table.",
		},
		{
			Name: "transfer_ends_once", SQL: endsOnceSQL,
			Doc: "A transfer has at most one event that ends it.",
		},
		{
			Name: "transfer_promise_kept", SQL: promiseKeptSQL,
			Doc: "No transfer is open for more than five seconds past its promise.",
		},
		{
			Name: "transfer_end_has_reason", SQL: endHasReasonSQL,
			Doc: "What ended without being settled says why.",
		},
		{
			Name: "transfer_reference_once", SQL: referenceOnceSQL,
			Doc: "A client_reference names one transfer of a tenant.",
		},
		{
			Name: "transfer_holds_agree", SQL: holdsAgreeSQL,
			Doc: "An open transfer has an active hold of its amount on its debit account, a settled one a " +
				"captured hold, any other a hold that was given back; and every hold has its transfer.",
		},
		{
			Name: "transfer_entries_agree", SQL: entriesAgreeSQL,
			Doc: "Exactly the settled transfers have an entry, of two postings of the amount.",
		},
		{
			Name: "transfer_reversals_bounded", SQL: reversalsBoundedSQL,
			Doc: "What is reversed of a transfer is the sum of its open and settled reversals and at most " +
				"its amount, and a reversal goes the other way between the same accounts.",
		},
		{
			Name: "transfer_payouts_agree", SQL: payoutsAgreeSQL,
			Doc: "Exactly the transfers that went by the rail have a move to settling, a settled one has " +
				"the rail's reference, and it went to an external account.",
		},
		{
			Name: "transfer_never_forgotten", SQL: neverForgottenSQL,
			Doc: "Whatever has been due for more than ten seconds is named by a live job.",
		},
		{
			Name: "transfer_notified_at_end", SQL: notifiedAtEndSQL,
			Doc: "A notification belongs to every ended transfer and to no open one, and wake_at is set " +
				"exactly while there is something to do.",
		},
	}
}

const eventsCompleteSQL = `
SELECT format('transfer %s: %s at version %s, but %s events up to %s end in %s and %s do not follow',
              coalesce(t.id, e.aggregate_id), coalesce(t.state, 'missing'), coalesce(t.version, 0),
              coalesce(e.n, 0), coalesce(e.last, 0), coalesce(e.ends, 'nothing'),
              coalesce(e.broken, 0)) AS what
  FROM transfers t
  FULL JOIN (SELECT s.tenant_id, s.aggregate_id, count(*) AS n, max(s.seq) AS last,
                    (array_agg(s.to_state ORDER BY s.seq DESC))[1] AS ends,
                    count(*) FILTER (WHERE s.from_state IS DISTINCT FROM s.was
                                        OR s.type <> 'transfer.' || s.to_state) AS broken
               FROM (SELECT v.*, lag(v.to_state) OVER (PARTITION BY v.tenant_id, v.aggregate_id
                                                       ORDER BY v.seq) AS was
                       FROM events v
                      WHERE v.type LIKE 'transfer.%') s
              GROUP BY s.tenant_id, s.aggregate_id) e
    ON e.tenant_id = t.tenant_id AND e.aggregate_id = t.id
 WHERE (t.version, t.version, t.state, 0) IS DISTINCT FROM (e.n, e.last, e.ends, e.broken)`

const movesLegalSQL = `
SELECT format('transfer %s: event %s goes from %s to %s', e.aggregate_id, e.seq,
              coalesce(e.from_state, 'nothing'), e.to_state) AS what
  FROM events e
  LEFT JOIN transfer_transitions l ON l.from_state = e.from_state AND l.to_state = e.to_state
 WHERE e.type LIKE 'transfer.%'
   AND CASE WHEN e.seq = 1 THEN e.from_state IS NOT NULL OR e.to_state <> 'accepted'
            ELSE l.event IS NULL END`

const endsOnceSQL = `
SELECT format('transfer %s: ended %s times', e.aggregate_id, count(*)) AS what
  FROM events e
 WHERE e.type IN ('transfer.settled', 'transfer.blocked', 'transfer.canceled', 'transfer.expired',
                  'transfer.failed')
 GROUP BY e.tenant_id, e.aggregate_id
HAVING count(*) > 1`

const promiseKeptSQL = `
SELECT format('transfer %s: still %s, promised for %s', t.id, t.state, t.promise_at) AS what
  FROM transfers t
 WHERE t.wake_at IS NOT NULL AND t.state IN ('accepted', 'in_review', 'approved', 'settling')
   AND t.promise_at < now() - interval '5 seconds'`

const endHasReasonSQL = `
SELECT format('transfer %s: %s without a reason', t.id, t.state) AS what
  FROM transfers t
 WHERE t.state IN ('blocked', 'canceled', 'expired', 'failed') AND coalesce(t.reason, '') = ''`

const referenceOnceSQL = `
SELECT format('tenant %s: client_reference %s names %s transfers', t.tenant_id, t.client_reference,
              count(*)) AS what
  FROM transfers t
 WHERE t.client_reference IS NOT NULL
 GROUP BY t.tenant_id, t.client_reference
HAVING count(*) > 1`

const holdsAgreeSQL = `
SELECT format('transfer %s: %s with %s of account %s, its hold is %s with %s of account %s, %s captured',
              coalesce(t.id, h.id), coalesce(t.state, 'missing'), t.amount, t.from_account,
              coalesce(h.status, 'missing'), h.amount, h.account_id, h.captured) AS what
  FROM transfers t
  FULL JOIN holds h ON h.tenant_id = t.tenant_id AND h.id = t.id
 WHERE (t.amount, t.from_account, CASE WHEN t.state = 'settled' THEN t.amount ELSE 0 END)
       IS DISTINCT FROM (h.amount, h.account_id, h.captured)
    OR h.status IS DISTINCT FROM CASE t.state
         WHEN 'accepted' THEN 'active' WHEN 'in_review' THEN 'active' WHEN 'approved' THEN 'active'
         WHEN 'settling' THEN 'active'
         WHEN 'settled' THEN 'captured' WHEN 'expired' THEN 'expired' ELSE 'released' END`

const entriesAgreeSQL = `
SELECT format('transfer %s: %s, its entry has %s postings and pays %s of %s', coalesce(t.id, e.id),
              coalesce(t.state, 'missing'), coalesce(e.n, 0), coalesce(e.paid, 0), t.amount) AS what
  FROM (SELECT s.* FROM transfers s WHERE s.state = 'settled') t
  FULL JOIN (SELECT n.tenant_id, n.id, count(p.entry_id) AS n, sum(abs(p.amount)) / 2 AS paid,
                    min(p.account_id::text) FILTER (WHERE p.amount < 0) AS debit,
                    min(p.account_id::text) FILTER (WHERE p.amount > 0) AS credit,
                    min(p.currency) AS currency
               FROM entries n
               LEFT JOIN postings p ON p.tenant_id = n.tenant_id AND p.entry_id = n.id
              WHERE n.kind = 'transfer'
              GROUP BY n.tenant_id, n.id) e
    ON e.tenant_id = t.tenant_id AND e.id = t.id
 WHERE (t.amount, t.from_account::text, t.to_account::text, t.currency, 2)
       IS DISTINCT FROM (e.paid, e.debit, e.credit, e.currency, e.n)`

const reversalsBoundedSQL = `
SELECT format('transfer %s: %s of %s says reversed, its reversals sum to %s', o.id, o.reversed, o.amount,
              coalesce(r.total, 0)) AS what
  FROM transfers o
  LEFT JOIN (SELECT c.tenant_id, c.reverses, sum(c.amount) AS total
               FROM transfers c
              WHERE c.reverses IS NOT NULL AND c.state IN ('accepted', 'in_review', 'approved', 'settling',
                                                             'settled')
              GROUP BY c.tenant_id, c.reverses) r
    ON r.tenant_id = o.tenant_id AND r.reverses = o.id
 WHERE o.reversed <> coalesce(r.total, 0) OR o.reversed > o.amount
UNION ALL
SELECT format('reversal %s: does not mirror transfer %s, which is %s', c.id, c.reverses,
              coalesce(o.state, 'missing'))
  FROM transfers c
  LEFT JOIN transfers o ON o.tenant_id = c.tenant_id AND o.id = c.reverses
 WHERE c.reverses IS NOT NULL
   AND (o.state, o.reverses, o.from_account, o.to_account, o.currency)
       IS DISTINCT FROM ('settled', NULL::uuid, c.to_account, c.from_account, c.currency)`

const payoutsAgreeSQL = `
SELECT format('transfer %s: %s, payout %s to a %s account, rail reference %s, submitted %s times', t.id,
              t.state, t.payout, a.kind, coalesce(t.rail_reference, 'none'), coalesce(e.n, 0)) AS what
  FROM transfers t
  LEFT JOIN accounts a ON a.tenant_id = t.tenant_id AND a.id = t.to_account
  LEFT JOIN (SELECT v.tenant_id, v.aggregate_id, count(*) AS n
               FROM events v
              WHERE v.type = 'transfer.settling'
              GROUP BY v.tenant_id, v.aggregate_id) e
    ON e.tenant_id = t.tenant_id AND e.aggregate_id = t.id
 WHERE t.payout AND (a.kind IS DISTINCT FROM 'external'
                     OR t.state = 'settled' AND (t.rail_reference IS NULL OR e.n IS DISTINCT FROM 1))
    OR NOT t.payout AND (t.state = 'settling' OR e.n > 0)`

const neverForgottenSQL = `
WITH named AS (
    SELECT by_tenant.tenant_id::uuid AS tenant_id, id.id::uuid AS id
      FROM river_job j
     CROSS JOIN LATERAL jsonb_each(j.args -> 'transfers') AS by_tenant (tenant_id, ids)
     CROSS JOIN LATERAL jsonb_array_elements_text(by_tenant.ids) AS id (id)
     WHERE j.kind IN ('transfer_screen', 'transfer_settle', 'transfer_payout', 'transfer_notify')
       AND j.state IN ('available', 'running', 'retryable', 'scheduled', 'pending')
)
SELECT format('transfer %s: %s, due since %s, and no job names it', t.id, t.state, t.wake_at) AS what
  FROM transfers t
  LEFT JOIN named n ON n.tenant_id = t.tenant_id AND n.id = t.id
 WHERE t.wake_at < now() - interval '10 seconds' AND n.id IS NULL`

const notifiedAtEndSQL = `
SELECT format('transfer %s: %s, notification %s, wake_at %s', t.id, t.state, t.notification,
              coalesce(t.wake_at::text, 'not set')) AS what
  FROM transfers t
 WHERE (t.state IN ('accepted', 'in_review', 'approved', 'settling')) <> (t.notification = 'none')
    OR (t.wake_at IS NOT NULL) <>
       (t.state IN ('accepted', 'in_review', 'approved', 'settling') OR t.notification = 'pending')`
