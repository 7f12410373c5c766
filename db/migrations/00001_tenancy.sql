-- Who may call: tenants and their API keys, and the operators' keys of the admin listener.
-- Keys are random 256-bit values, so a fast hash is enough: only SHA-256 of the secret is kept.

-- +goose Up
CREATE TABLE tenants (
    id         uuid        PRIMARY KEY,
    name       text        NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 200),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE api_keys (
    id            text        PRIMARY KEY CHECK (length(id) BETWEEN 8 AND 32),
    tenant_id     uuid        NOT NULL REFERENCES tenants (id),
    secret_sha256 bytea       NOT NULL CHECK (length(secret_sha256) = 32),
    scopes        text[]      NOT NULL,
    traffic_class text        NOT NULL DEFAULT 'standard'
                              CHECK (traffic_class IN ('critical', 'standard', 'sheddable')),
    created_at    timestamptz NOT NULL DEFAULT now(),
    revoked_at    timestamptz
);
CREATE INDEX api_keys_tenant ON api_keys (tenant_id);

CREATE TABLE admin_keys (
    id            text        PRIMARY KEY CHECK (length(id) BETWEEN 8 AND 32),
    name          text        NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    secret_sha256 bytea       NOT NULL CHECK (length(secret_sha256) = 32),
    role          text        NOT NULL CHECK (role IN ('viewer', 'operator', 'approver')),
    created_at    timestamptz NOT NULL DEFAULT now(),
    revoked_at    timestamptz
);

-- +goose Down
DROP TABLE admin_keys;
DROP TABLE api_keys;
DROP TABLE tenants;
