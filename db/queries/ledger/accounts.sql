-- InsertAccount opens an account; its balance is inserted by the same transaction.
-- name: InsertAccount :exec
INSERT INTO accounts (tenant_id, id, name, kind, currency, created_at)
VALUES (@tenant_id, @id, @name, @kind, @currency, @created_at);

-- GetAccount reads an account with its balance, both at one moment.
-- name: GetAccount :one
SELECT a.id, a.name, a.kind, a.currency, a.created_at, b.status, b.floor, b.posted, b.held, b.version
  FROM accounts a
  JOIN balances b ON b.tenant_id = a.tenant_id AND b.account_id = a.id
 WHERE a.tenant_id = @tenant_id AND a.id = @id;

-- ListAccounts pages through a tenant's accounts by id, oldest first.
-- name: ListAccounts :many
SELECT a.id, a.name, a.kind, a.currency, a.created_at, b.status, b.floor, b.posted, b.held, b.version
  FROM accounts a
  JOIN balances b ON b.tenant_id = a.tenant_id AND b.account_id = a.id
 WHERE a.tenant_id = @tenant_id AND a.id > @after
 ORDER BY a.id
 LIMIT @page_size;
