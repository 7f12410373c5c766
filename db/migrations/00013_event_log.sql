-- The way of events out: outbox holds what was written and has no place in the log yet, event_log is the log.
--
-- A row of both names the events of one transaction and tenant, 64 at most, each aggregate's in the order of
-- seq. The outbox is filled by a trigger, so that no writer of events can forget it: neither a program of the
-- version before nor a person at psql. A relay takes rows from the outbox and gives them their places, in a
-- transaction that holds the lock on event_log_head until its end. So places become visible in their order, and
-- whoever reads by "last > cursor" misses nothing; a cursor on a sequence would (docs/adr/0018).
--
-- Invariant: outbox ids of one aggregate follow its seq. Whoever writes seq n+1 has seen n committed, and
-- draws its id afterwards.
-- Invariant: last is the place of the last event of a row; the first one has last - cardinality(seqs) + 1, and
-- places have no gaps.
--
-- No foreign keys, as for events. What is in the log before forgotten was deleted for its age.
--
-- Events that are there already get into the outbox by this migration: on a large database it takes its time.

-- +goose Up
CREATE TABLE outbox (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id  uuid        NOT NULL,
    aggregates uuid[]      NOT NULL,
    seqs       integer[]   NOT NULL,
    created_at timestamptz NOT NULL,
    CHECK (cardinality(aggregates) = cardinality(seqs) AND cardinality(seqs) BETWEEN 1 AND 64)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

CREATE TABLE event_log (
    last       bigint      PRIMARY KEY,
    tenant_id  uuid        NOT NULL,
    aggregates uuid[]      NOT NULL,
    seqs       integer[]   NOT NULL,
    at         timestamptz NOT NULL
);
CREATE INDEX event_log_tenant ON event_log (tenant_id, last);

CREATE TABLE event_log_head (
    only_one  boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    last      bigint  NOT NULL CHECK (last >= 0),
    forgotten bigint  NOT NULL CHECK (forgotten BETWEEN 0 AND last)
) WITH (fillfactor = 10);
INSERT INTO event_log_head (last, forgotten) VALUES (0, 0);

-- event_sinks are the readers of the whole log that remember here how far they are, each held by one process.
-- claims counts its holders: who was replaced changes nothing any more.
CREATE TABLE event_sinks (
    name       text        PRIMARY KEY CHECK (name <> ''),
    last       bigint      NOT NULL CHECK (last >= 0),
    holder     text        NOT NULL,
    claims     bigint      NOT NULL CHECK (claims > 0),
    held_until timestamptz NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- +goose StatementBegin
CREATE FUNCTION put_into_outbox() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO outbox (tenant_id, aggregates, seqs, created_at)
    SELECT f.tenant_id, array_agg(f.aggregate_id ORDER BY f.nth), array_agg(f.seq ORDER BY f.nth), min(f.at)
      FROM (SELECT e.tenant_id, e.aggregate_id, e.seq, e.at,
                   row_number() OVER (PARTITION BY e.tenant_id ORDER BY e.aggregate_id, e.seq) AS nth
              FROM fresh e) f
     GROUP BY f.tenant_id, (f.nth - 1) / 64
     ORDER BY f.tenant_id, (f.nth - 1) / 64;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER events_outbox AFTER INSERT ON events REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION put_into_outbox();

INSERT INTO outbox (tenant_id, aggregates, seqs, created_at)
SELECT f.tenant_id, array_agg(f.aggregate_id ORDER BY f.nth), array_agg(f.seq ORDER BY f.nth), min(f.at)
  FROM (SELECT e.tenant_id, e.aggregate_id, e.seq, e.at,
               row_number() OVER (PARTITION BY e.tenant_id ORDER BY e.aggregate_id, e.seq) AS nth
          FROM events e) f
 GROUP BY f.tenant_id, (f.nth - 1) / 64
 ORDER BY f.tenant_id, (f.nth - 1) / 64;

-- +goose Down
DROP TRIGGER events_outbox ON events;
DROP FUNCTION put_into_outbox();
DROP TABLE event_sinks, event_log_head, event_log, outbox;
