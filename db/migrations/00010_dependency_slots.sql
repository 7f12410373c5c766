-- The limit of a dependency over all processes together: slots that processes hold for a few seconds.
--
-- dependency_limits is the history of each limit; its highest version is in force. A slot has a row from
-- the first limit that counted it on; those at or above the limit in force are taken by nobody.
-- dependency_members are the processes among which the slots are shared.
--
-- Invariant: a process calls only while the slots that it holds have not expired. So they are as durable
-- as money: a crash that forgot a slot would lend it twice while its holder still calls.
--
-- Slots and members are rewritten twice a second: vacuum them by count.

-- +goose Up
CREATE TABLE dependency_limits (
    dependency text        NOT NULL CHECK (dependency <> ''),
    version    integer     NOT NULL CHECK (version > 0),
    places     integer     NOT NULL CHECK (places BETWEEN 1 AND 1000),
    actor      text        NOT NULL CHECK (actor <> ''),
    reason     text        NOT NULL CHECK (reason <> ''),
    set_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (dependency, version)
);
CREATE TRIGGER dependency_limits_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON dependency_limits
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();

CREATE TABLE dependency_slots (
    dependency text        NOT NULL,
    slot       integer     NOT NULL CHECK (slot >= 0),
    holder     text,
    expires_at timestamptz,
    PRIMARY KEY (dependency, slot),
    CHECK ((holder IS NULL) = (expires_at IS NULL))
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- round counts what a holder asked for, so that a statement that comes late changes nothing.
CREATE TABLE dependency_members (
    dependency text        NOT NULL,
    holder     text        NOT NULL,
    round      bigint      NOT NULL CHECK (round > 0),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (dependency, holder)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- +goose Down
DROP TABLE dependency_members, dependency_slots, dependency_limits;
