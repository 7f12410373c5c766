-- One row per (tenant, key): it exists if and only if the outcome it tells exists, because both
-- are written by one transaction.

-- +goose Up
CREATE TABLE idempotency_keys (
    tenant_id      uuid        NOT NULL,
    key            text        NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 255),
    request_sha256 bytea       NOT NULL CHECK (length(request_sha256) = 32),
    status         smallint    NOT NULL CHECK (status BETWEEN 200 AND 499),
    location       text,
    body           bytea       NOT NULL,
    created_at     timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, key)
);
-- Rows arrive in time order, so a block range index finds the expired ones for almost nothing.
CREATE INDEX idempotency_keys_created ON idempotency_keys USING brin (created_at)
    WITH (autosummarize = on);

-- +goose Down
DROP TABLE idempotency_keys;
