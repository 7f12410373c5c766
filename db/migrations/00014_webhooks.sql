-- Webhook endpoints of tenants, and how far each is in its tenant's events.
--
-- place is the cursor: every event of the tenant up to it was delivered, was not wanted, or is in
-- webhook_backlog. So an endpoint that works costs one row, however many events there are, and one that does
-- not answer costs no more: what it has not got stays in the log.
--
-- webhook_backlog holds what failed while others passed, and what waits behind it: an aggregate's events go out
-- in the order of seq. Only the first of an aggregate is due, or is dead. backlog counts the rows of an
-- endpoint.
--
-- An endpoint is in one process's hand until held_until; claims counts its holders, and every write of
-- progress compares it, so that who was replaced changes nothing any more. next_at is when it is looked at
-- again at the earliest: an endpoint that fails is left alone over processes and restarts.
--
-- webhook_tasks are what a tenant asked for: a ping, or events that go again. webhook_attempts is the log of
-- what was sent; it has no foreign key, so that it may end by its age alone. Secrets are nowhere: they are made
-- of a key that this database does not know, the endpoint's id and secret_version.

-- +goose Up
CREATE TABLE webhook_endpoints (
    id             uuid        PRIMARY KEY,
    tenant_id      uuid        NOT NULL REFERENCES tenants (id),
    url            text        NOT NULL CHECK (octet_length(url) BETWEEN 1 AND 2048),
    description    text        NOT NULL,
    types          text[]      NOT NULL,
    status         text        NOT NULL CHECK (status IN ('active', 'paused', 'disabled')),
    status_reason  text        NOT NULL,
    secret_version integer     NOT NULL CHECK (secret_version > 0),
    previous_until timestamptz,
    place          bigint      NOT NULL CHECK (place >= 0),
    backlog        integer     NOT NULL CHECK (backlog >= 0),
    failures       integer     NOT NULL CHECK (failures >= 0),
    failing_since  timestamptz,
    probes         integer     NOT NULL CHECK (probes >= 0),
    last_error     text        NOT NULL,
    next_at        timestamptz NOT NULL,
    holder         text        NOT NULL,
    claims         bigint      NOT NULL CHECK (claims >= 0),
    held_until     timestamptz NOT NULL,
    created_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL,
    CHECK (probes = 0 OR failing_since IS NOT NULL)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
CREATE INDEX webhook_endpoints_tenant ON webhook_endpoints (tenant_id, id);
CREATE INDEX webhook_endpoints_next ON webhook_endpoints (next_at) WHERE status = 'active';
CREATE INDEX webhook_endpoints_failing ON webhook_endpoints (failing_since) WHERE failing_since IS NOT NULL;
CREATE INDEX webhook_endpoints_disabled ON webhook_endpoints (updated_at) WHERE status = 'disabled';

CREATE TABLE webhook_backlog (
    endpoint_id     uuid        NOT NULL REFERENCES webhook_endpoints (id) ON DELETE CASCADE,
    tenant_id       uuid        NOT NULL,
    aggregate_id    uuid        NOT NULL,
    seq             integer     NOT NULL CHECK (seq > 0),
    type            text        NOT NULL,
    place           bigint      NOT NULL CHECK (place > 0),
    attempts        integer     NOT NULL CHECK (attempts >= 0),
    due_at          timestamptz,
    first_failed_at timestamptz,
    last_status     integer     NOT NULL,
    last_error      text        NOT NULL,
    dead_at         timestamptz,
    PRIMARY KEY (endpoint_id, aggregate_id, seq),
    CHECK ((attempts > 0) = (first_failed_at IS NOT NULL)),
    CHECK (dead_at IS NULL OR (attempts > 0 AND due_at IS NULL))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
CREATE INDEX webhook_backlog_due ON webhook_backlog (endpoint_id, due_at);
CREATE INDEX webhook_backlog_dead_of ON webhook_backlog (endpoint_id, place) WHERE dead_at IS NOT NULL;
CREATE INDEX webhook_backlog_dead ON webhook_backlog (dead_at) WHERE dead_at IS NOT NULL;

-- A task that goes again through events is done up to a place, and ends with last.
CREATE TABLE webhook_tasks (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    endpoint_id uuid        NOT NULL REFERENCES webhook_endpoints (id) ON DELETE CASCADE,
    tenant_id   uuid        NOT NULL,
    kind        text        NOT NULL CHECK (kind IN ('ping', 'resend')),
    done        bigint      NOT NULL,
    last        bigint      NOT NULL CHECK (last >= done),
    attempts    integer     NOT NULL CHECK (attempts >= 0),
    due_at      timestamptz NOT NULL,
    created_at  timestamptz NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
CREATE INDEX webhook_tasks_due ON webhook_tasks (endpoint_id, due_at);

CREATE TABLE webhook_attempts (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id   uuid        NOT NULL,
    endpoint_id uuid        NOT NULL,
    event_id    text        NOT NULL,
    event_type  text        NOT NULL,
    kind        text        NOT NULL CHECK (kind IN ('event', 'resend', 'ping')),
    attempt     integer     NOT NULL CHECK (attempt > 0),
    at          timestamptz NOT NULL,
    outcome     text        NOT NULL CHECK (outcome <> ''),
    status      integer     NOT NULL,
    took_us     bigint      NOT NULL CHECK (took_us >= 0),
    error       text        NOT NULL
);
CREATE INDEX webhook_attempts_endpoint ON webhook_attempts (endpoint_id, id);

-- +goose Down
DROP TABLE webhook_attempts, webhook_tasks, webhook_backlog, webhook_endpoints;
