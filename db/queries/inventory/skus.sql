-- InsertSKU stores what is sold. A code that the tenant uses already is a unique violation.
-- name: InsertSKU :exec
INSERT INTO skus (tenant_id, id, code, name, price, currency, created_at)
VALUES (@tenant_id, @id, @code, @name, @price, @currency, @created_at);

-- FindCode says which SKU has a code.
-- name: FindCode :one
SELECT k.id FROM skus k WHERE k.tenant_id = @tenant_id AND k.code = @code;

-- GetSKU reads one SKU of a tenant.
-- name: GetSKU :one
SELECT k.* FROM skus k WHERE k.tenant_id = @tenant_id AND k.id = @id;

-- ReadSKUs reads SKUs by id. One that is missing does not exist.
-- name: ReadSKUs :many
SELECT k.*
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@ids::uuid[]) AS id) AS u
  JOIN skus k ON k.tenant_id = u.tenant_id AND k.id = u.id;

-- ListSKUs pages through a tenant's SKUs by id, oldest first.
-- name: ListSKUs :many
SELECT k.* FROM skus k
 WHERE k.tenant_id = @tenant_id AND k.id > @after
 ORDER BY k.id
 LIMIT @page_size;
