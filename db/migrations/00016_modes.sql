-- The mode of the service: one row that every process follows, its history, what was measured, and what each
-- process reports.
--
-- service_mode.level is what the controller judges; mode is what is in force, which is the level unless somebody
-- has overridden it. before is the mode that was in force before, so that a process that starts in the middle of
-- catching up knows it. Every change of a column that is told adds one to version and a row to the history; the
-- columns from above on are the controller's memory between two samples, and are rewritten with each.
--
-- Invariant: the row of the history with the highest version says what service_mode says.
--
-- mode_samples is what the controller saw, for as long as somebody may ask which mode another policy would have
-- had. mode_reports has one row for each living process.

-- +goose Up
CREATE TABLE service_mode (
    only_one    boolean     PRIMARY KEY DEFAULT true CHECK (only_one),
    version     bigint      NOT NULL CHECK (version > 0),
    mode        text        NOT NULL CHECK (mode IN ('normal', 'constrained', 'protection', 'frozen')),
    before      text        NOT NULL CHECK (before IN ('normal', 'constrained', 'protection', 'frozen')),
    since       timestamptz NOT NULL,
    level       text        NOT NULL CHECK (level IN ('normal', 'constrained', 'protection')),
    level_since timestamptz NOT NULL,
    control     text        NOT NULL CHECK (control IN ('auto', 'pinned', 'advise')),
    actor       text        NOT NULL CHECK (actor <> ''),
    reason      text        NOT NULL CHECK (reason <> ''),
    expires_at  timestamptz,
    above       integer     NOT NULL CHECK (above >= 0),
    below       integer     NOT NULL CHECK (below >= 0),
    judged_at   timestamptz NOT NULL,
    judged_by   text        NOT NULL,
    policy      text        NOT NULL,
    CHECK (expires_at IS NOT NULL OR control <> 'pinned')
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

CREATE TABLE service_mode_history (
    version     bigint      PRIMARY KEY CHECK (version > 0),
    at          timestamptz NOT NULL,
    mode        text        NOT NULL,
    before      text        NOT NULL,
    level       text        NOT NULL,
    control     text        NOT NULL,
    cause       text        NOT NULL CHECK (cause IN ('start', 'controller', 'operator', 'expiry', 'policy')),
    actor       text        NOT NULL CHECK (actor <> ''),
    reason      text        NOT NULL CHECK (reason <> ''),
    expires_at  timestamptz,
    signals     json        NOT NULL,
    policy      text        NOT NULL
);
CREATE TRIGGER service_mode_history_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON service_mode_history
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();

WITH first AS (
    INSERT INTO service_mode (version, mode, before, since, level, level_since, control, actor, reason,
                              above, below, judged_at, judged_by, policy)
    VALUES (1, 'normal', 'normal', 'epoch', 'normal', 'epoch', 'auto', 'controller', 'the beginning',
            0, 0, 'epoch', '', '')
    RETURNING *
)
INSERT INTO service_mode_history (version, at, mode, before, level, control, cause, actor, reason, signals, policy)
SELECT version, clock_timestamp(), mode, before, level, control, 'start', actor, reason, '{}', policy FROM first;

CREATE TABLE mode_samples (
    at      timestamptz PRIMARY KEY,
    level   text        NOT NULL,
    mode    text        NOT NULL,
    signals json        NOT NULL
);

CREATE TABLE mode_reports (
    instance    text        PRIMARY KEY CHECK (instance <> ''),
    reported_at timestamptz NOT NULL,
    follows     bigint      NOT NULL,
    policy      text        NOT NULL,
    report      json        NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- +goose Down
DROP TABLE mode_reports, mode_samples, service_mode_history, service_mode;
