-- name: SystemFindAPIKey :one
SELECT k.tenant_id, k.secret_sha256, k.scopes, k.traffic_class
  FROM api_keys k WHERE k.id = @id AND k.revoked_at IS NULL;

-- name: SystemFindAdminKey :one
SELECT k.name, k.secret_sha256, k.role
  FROM admin_keys k WHERE k.id = @id AND k.revoked_at IS NULL;

-- name: SystemInsertTenant :exec
INSERT INTO tenants (id, name) VALUES (@id, @name);

-- name: SystemFindTenant :one
SELECT id FROM tenants WHERE name = @name;

-- name: InsertAPIKey :exec
INSERT INTO api_keys (id, tenant_id, secret_sha256, scopes, traffic_class)
VALUES (@id, @tenant_id, @secret_sha256, @scopes, @traffic_class);

-- name: SystemInsertAdminKey :exec
INSERT INTO admin_keys (id, name, secret_sha256, role) VALUES (@id, @name, @secret_sha256, @role);

-- name: SystemRevokeAPIKey :execrows
UPDATE api_keys SET revoked_at = now() WHERE id = @id AND revoked_at IS NULL;

-- name: SystemRevokeAdminKey :execrows
UPDATE admin_keys SET revoked_at = now() WHERE id = @id AND revoked_at IS NULL;
