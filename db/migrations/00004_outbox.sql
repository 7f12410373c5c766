-- events is audit trail and outbox in one: a row per transition, written in the transition's
-- transaction. seq is the aggregate's version after the transition, so gaps and doubles show.
-- No foreign keys and no second index: it is the hottest append-only table.

-- +goose Up
CREATE TABLE events (
    tenant_id    uuid        NOT NULL,
    aggregate_id uuid        NOT NULL,
    seq          integer     NOT NULL CHECK (seq > 0),
    type         text        NOT NULL,
    from_state   text,
    to_state     text        NOT NULL,
    reason       text,
    actor        text        NOT NULL,
    cause        text,
    trace        text,
    mode         text,
    manifest     text,
    data         json,
    at           timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, aggregate_id, seq)
);
CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();

-- +goose Down
DROP TABLE events;
