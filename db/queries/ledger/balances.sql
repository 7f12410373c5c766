-- LockBalances locks balances in id order and reads what decisions about them need. The lock is the
-- only thing that money safety rests on: whoever changes a balance, or a transfer that debits it,
-- holds this row until commit. FOR NO KEY UPDATE leaves foreign key checks of others alone.
-- name: LockBalances :many
SELECT b.tenant_id, b.account_id, a.kind, a.currency, b.status, b.floor, b.posted, b.held, b.version
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@accounts::uuid[]) AS account_id) AS u
  JOIN balances b ON b.tenant_id = u.tenant_id AND b.account_id = u.account_id
  JOIN accounts a ON a.tenant_id = b.tenant_id AND a.id = b.account_id
 ORDER BY b.tenant_id, b.account_id
   FOR NO KEY UPDATE OF b;

-- ReadBalances reads the same without a lock: enough to refuse a wrong counterparty early.
-- name: ReadBalances :many
SELECT b.tenant_id, b.account_id, a.kind, a.currency, b.status, b.floor, b.posted, b.held, b.version
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@accounts::uuid[]) AS account_id) AS u
  JOIN balances b ON b.tenant_id = u.tenant_id AND b.account_id = u.account_id
  JOIN accounts a ON a.tenant_id = b.tenant_id AND a.id = b.account_id;

-- WriteBalances writes what was decided on locked rows; every row has to be there.
-- name: WriteBalances :exec
WITH written AS (
    UPDATE balances b
       SET posted = u.posted, held = u.held, version = u.version
      FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@accounts::uuid[]) AS account_id,
                   unnest(@posted::bigint[]) AS posted, unnest(@held::bigint[]) AS held,
                   unnest(@versions::bigint[]) AS version) AS u
     WHERE b.tenant_id = u.tenant_id AND b.account_id = u.account_id
    RETURNING 1
)
SELECT assert_rows(count(*), cardinality(@accounts::uuid[]), 'balances') AS reached FROM written;

-- InsertBalance opens the balance of a new account.
-- name: InsertBalance :exec
INSERT INTO balances (tenant_id, account_id, floor) VALUES (@tenant_id, @account_id, @floor);

-- SetStatus changes the status of an account whose balance row is locked by this transaction.
-- name: SetStatus :exec
UPDATE balances SET status = @status WHERE tenant_id = @tenant_id AND account_id = @account_id;

-- SystemNow is the time that goes into rows: Postgres's, read after the locks were taken, so that it never
-- decreases along an account's versions.
-- name: SystemNow :one
SELECT clock_timestamp()::timestamptz AS now;
