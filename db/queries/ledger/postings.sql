-- InsertEntries stores what groups postings.
-- name: InsertEntries :exec
INSERT INTO entries (tenant_id, id, kind, description, at)
SELECT u.tenant_id, u.id, u.kind, nullif(u.description, ''), @now::timestamptz
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@ids::uuid[]) AS id,
               unnest(@kinds::text[]) AS kind, unnest(@descriptions::text[]) AS description) AS u;

-- InsertPostings stores the lines of entries. A version that an account already has is a unique
-- violation, so two writers of one version cannot both commit.
-- name: InsertPostings :exec
INSERT INTO postings (tenant_id, account_id, account_version, entry_id, amount, posted_after, currency, at)
SELECT u.tenant_id, u.account_id, u.account_version, u.entry_id, u.amount, u.posted_after, u.currency,
       @now::timestamptz
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@accounts::uuid[]) AS account_id,
               unnest(@versions::bigint[]) AS account_version, unnest(@entries::uuid[]) AS entry_id,
               unnest(@amounts::bigint[]) AS amount, unnest(@posted_after::bigint[]) AS posted_after,
               unnest(@currencies::text[]) AS currency) AS u;

-- ListPostings pages back through an account's history, newest first.
-- name: ListPostings :many
SELECT account_version, entry_id, amount, posted_after, currency, at
  FROM postings
 WHERE tenant_id = @tenant_id AND account_id = @account_id AND account_version < @before
 ORDER BY account_version DESC
 LIMIT @page_size;

-- PostingAt reads one posting by its version. Times never decrease along versions, so the balance at
-- a time is found by bisection over it.
-- name: PostingAt :one
SELECT account_version, posted_after, at
  FROM postings
 WHERE tenant_id = @tenant_id AND account_id = @account_id AND account_version = @account_version;
