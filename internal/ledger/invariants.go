package ledger

import "example.com/holdfast/internal/invariant"

// Invariants lists what always holds about accounts, balances, holds, entries and postings. The hot
// tables have no foreign keys, so these checks also stand in for them.
func Invariants() []invariant.Invariant {
	return []invariant.Invariant{
		{
			Name: "money_conserved", SQL: moneyConservedSQL,
			Doc: "All postings of a tenant sum to zero in each currency.",
		},
		{
			Name: "entries_balanced", SQL: entriesBalancedSQL,
			Doc: "The postings of an entry sum to zero in each currency, and there are at least two.",
		},
		{
			Name: "entries_complete", SQL: entriesCompleteSQL,
			Doc: "Every posting has its entry and every entry has postings.",
		},
		{
			Name: "captures_posted", SQL: capturesPostedSQL,
			Doc: "A hold is captured exactly if the entry with its id debits what was captured.",
		},
		{
			Name: "accounts_complete", SQL: accountsCompleteSQL,
			Doc: "An account has its balance; a balance, hold or posting has its account and currency.",
		},
		{
			Name: "balances_equal_postings", SQL: balancesEqualPostingsSQL,
			Doc: "What is posted on an account is the sum of its postings, and its version is their number.",
		},
		{
			Name: "held_equals_holds", SQL: heldEqualsHoldsSQL,
			Doc: "What is held on an account is the sum of its active holds.",
		},
		{
			Name: "never_overdrawn", SQL: neverOverdrawnSQL,
			Doc: "Available funds are not below an account's floor, and what was posted never was.",
		},
		{
			Name: "history_unbroken", SQL: historyUnbrokenSQL,
			Doc: "Versions have no gap, each posting carries the balance after it, time never runs back.",
		},
	}
}

const moneyConservedSQL = `
SELECT format('tenant %s: postings in %s sum to %s', p.tenant_id, p.currency, sum(p.amount)) AS what
  FROM postings p
 GROUP BY p.tenant_id, p.currency
HAVING sum(p.amount) <> 0`

const entriesBalancedSQL = `
SELECT format('entry %s: %s postings in %s sum to %s', p.entry_id, count(*), p.currency,
              sum(p.amount)) AS what
  FROM postings p
 GROUP BY p.tenant_id, p.entry_id, p.currency
HAVING sum(p.amount) <> 0 OR count(*) < 2`

const entriesCompleteSQL = `
SELECT format('entry %s: %s', coalesce(e.id, p.entry_id),
              CASE WHEN e.id IS NULL THEN 'missing for its postings' ELSE 'without postings' END) AS what
  FROM entries e
  FULL JOIN (SELECT DISTINCT d.tenant_id, d.entry_id FROM postings d) p
    ON p.tenant_id = e.tenant_id AND p.entry_id = e.id
 WHERE e.id IS NULL OR p.entry_id IS NULL`

const capturesPostedSQL = `
SELECT format('hold %s: captured %s, the entry says %s', coalesce(h.id, e.id), h.captured, e.paid) AS what
  FROM (SELECT c.tenant_id, c.id, c.account_id, c.captured FROM holds c WHERE c.status = 'captured') h
  FULL JOIN (SELECT n.tenant_id, n.id, p.account_id, -p.amount AS paid
               FROM entries n
               JOIN postings p ON p.tenant_id = n.tenant_id AND p.entry_id = n.id AND p.amount < 0
              WHERE n.kind = 'transfer') e
    ON e.tenant_id = h.tenant_id AND e.id = h.id AND e.account_id = h.account_id
 WHERE e.paid IS DISTINCT FROM h.captured`

const accountsCompleteSQL = `
SELECT format('account %s: %s', u.id, u.lack) AS what
  FROM (SELECT a.id, 'no balance' AS lack
          FROM accounts a
          LEFT JOIN balances b ON b.tenant_id = a.tenant_id AND b.account_id = a.id
         WHERE b.account_id IS NULL
        UNION ALL
        SELECT b.account_id, 'has a balance and does not exist'
          FROM balances b
          LEFT JOIN accounts a ON a.tenant_id = b.tenant_id AND a.id = b.account_id
         WHERE a.id IS NULL
        UNION ALL
        SELECT h.account_id, 'has a hold and does not exist'
          FROM holds h
          LEFT JOIN accounts a ON a.tenant_id = h.tenant_id AND a.id = h.account_id
         WHERE a.id IS NULL
        UNION ALL
        SELECT p.account_id, format('posting %s has no account in %s', p.account_version, p.currency)
          FROM postings p
          LEFT JOIN accounts a ON a.tenant_id = p.tenant_id AND a.id = p.account_id
                              AND a.currency = p.currency
         WHERE a.id IS NULL) u`

const balancesEqualPostingsSQL = `
SELECT format('account %s: posted %s at version %s, but %s postings up to version %s sum to %s', b.account_id,
              b.posted, b.version, coalesce(p.n, 0), coalesce(p.last, 0), coalesce(p.total, 0)) AS what
  FROM balances b
  LEFT JOIN (SELECT s.tenant_id, s.account_id, count(*) AS n, max(s.account_version) AS last,
                    sum(s.amount) AS total
               FROM postings s
              GROUP BY s.tenant_id, s.account_id) p
    ON p.tenant_id = b.tenant_id AND p.account_id = b.account_id
 WHERE (b.posted, b.version, b.version) IS DISTINCT FROM
       (coalesce(p.total, 0), coalesce(p.last, 0), coalesce(p.n, 0))`

const heldEqualsHoldsSQL = `
SELECT format('account %s: held %s, active holds %s', b.account_id, b.held, coalesce(h.total, 0)) AS what
  FROM balances b
  LEFT JOIN (SELECT a.tenant_id, a.account_id, sum(a.amount) AS total
               FROM holds a
              WHERE a.status = 'active'
              GROUP BY a.tenant_id, a.account_id) h
    ON h.tenant_id = b.tenant_id AND h.account_id = b.account_id
 WHERE b.held <> coalesce(h.total, 0)`

const neverOverdrawnSQL = `
SELECT format('account %s: %s below its floor of %s', u.account_id, u.low, u.floor) AS what
  FROM (SELECT b.account_id, b.floor, format('available %s is', b.posted - b.held) AS low
          FROM balances b
         WHERE b.posted - b.held < b.floor
        UNION ALL
        SELECT b.account_id, b.floor, format('%s at version %s was', r.posted, r.account_version)
          FROM balances b
          JOIN (SELECT p.tenant_id, p.account_id, p.account_version,
                       sum(p.amount) OVER (PARTITION BY p.tenant_id, p.account_id
                                           ORDER BY p.account_version) AS posted
                  FROM postings p) r
            ON r.tenant_id = b.tenant_id AND r.account_id = b.account_id
         WHERE r.posted < b.floor) u`

const historyUnbrokenSQL = `
SELECT format('account %s: posting %s is number %s, says %s for %s, at %s after %s', r.account_id,
              r.account_version, r.n, r.posted_after, r.posted, r.at, r.before) AS what
  FROM (SELECT p.account_id, p.account_version, p.posted_after, p.at,
               row_number() OVER history AS n, sum(p.amount) OVER history AS posted,
               lag(p.at) OVER history AS before
          FROM postings p
        WINDOW history AS (PARTITION BY p.tenant_id, p.account_id ORDER BY p.account_version)) r
 WHERE r.account_version <> r.n OR r.posted_after <> r.posted OR r.at < r.before`
