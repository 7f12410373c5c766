-- Heartbeats of the worker processes. The id is also the name under which a worker claims jobs, so
-- the reaper knows which running jobs have lost their worker.
--
-- river_job is rewritten several times per job: vacuum it by count, not by share of its size.

-- +goose Up
CREATE TABLE instances (
    id           text        PRIMARY KEY,
    hostname     text        NOT NULL,
    version      text        NOT NULL,
    started_at   timestamptz NOT NULL DEFAULT now(),
    heartbeat_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
-- In a DO block, since sqlc reads these files without River's schema.
-- +goose StatementBegin
DO $$ BEGIN
    ALTER TABLE river_job SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 2000,
        autovacuum_vacuum_cost_delay = 0);
END $$;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
DO $$ BEGIN
    ALTER TABLE river_job RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold,
        autovacuum_analyze_scale_factor, autovacuum_analyze_threshold, autovacuum_vacuum_cost_delay);
END $$;
-- +goose StatementEnd
DROP TABLE instances;
