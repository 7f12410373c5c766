-- Events for consumers in this program: deliveries are still to be handled, inbox says what was.
--
-- A delivery is written by the transaction that writes its event, with the job that wakes the consumer.
-- The consumer handles it in one transaction: inbox row, effect, delivery gone. So an event that comes
-- twice changes nothing, and one that is lost does not exist.
--
-- Invariant: a delivery has a live job with its wake_at; the sweeper looks for those that have none.
--
-- deliveries is slim: it holds what is under way only. It is rewritten all the time, so it is vacuumed
-- by count.

-- +goose Up
CREATE TABLE deliveries (
    consumer     text        NOT NULL,
    tenant_id    uuid        NOT NULL,
    aggregate_id uuid        NOT NULL,
    seq          integer     NOT NULL CHECK (seq > 0),
    type         text        NOT NULL,
    reference    text        NOT NULL,
    wake_at      timestamptz NOT NULL,
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (consumer, tenant_id, aggregate_id, seq)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
CREATE INDEX deliveries_wake ON deliveries (consumer, wake_at);

CREATE TABLE inbox (
    consumer     text        NOT NULL,
    tenant_id    uuid        NOT NULL,
    aggregate_id uuid        NOT NULL,
    seq          integer     NOT NULL CHECK (seq > 0),
    at           timestamptz NOT NULL,
    PRIMARY KEY (consumer, tenant_id, aggregate_id, seq)
);
CREATE TRIGGER inbox_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON inbox
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();

-- +goose Down
DROP TABLE inbox, deliveries;
