-- InsertHolds stores new active holds; the amount is added to held in the same transaction.
-- name: InsertHolds :exec
INSERT INTO holds (tenant_id, id, account_id, amount, expires_at, created_at, updated_at)
SELECT u.tenant_id, u.id, u.account_id, u.amount, u.expires_at, @now::timestamptz, @now::timestamptz
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@ids::uuid[]) AS id,
               unnest(@accounts::uuid[]) AS account_id, unnest(@amounts::bigint[]) AS amount,
               unnest(@expires_at::timestamptz[]) AS expires_at) AS u;

-- EndHolds captures, releases or expires active holds. One that is not active any more, or that is not
-- of this account and amount, stops the whole transaction: held would lose what it does not hold.
-- name: EndHolds :exec
WITH ended AS (
    UPDATE holds h
       SET status = u.status, captured = u.captured, updated_at = @now::timestamptz
      FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@ids::uuid[]) AS id,
                   unnest(@accounts::uuid[]) AS account_id, unnest(@amounts::bigint[]) AS amount,
                   unnest(@statuses::text[]) AS status, unnest(@captured::bigint[]) AS captured) AS u
     WHERE h.tenant_id = u.tenant_id AND h.id = u.id AND h.status = 'active'
       AND h.account_id = u.account_id AND h.amount = u.amount
    RETURNING 1
)
SELECT assert_rows(count(*), cardinality(@ids::uuid[]), 'holds') AS reached FROM ended;
