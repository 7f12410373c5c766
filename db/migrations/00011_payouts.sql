-- Payouts, and what a step's calls came to.
--
-- A transfer to an external account is paid out by the payout rail: approved, then settling while the rail
-- has it, then settled or failed. A settling transfer cannot be canceled and does not expire: its money may
-- have left. payout_try says which reference of the payout is in use; each is sent once.
--
-- attempts counts every outcome that was no answer, and guards the row. sent counts those of the present
-- step after which the dependency may have acted: as long as it is zero, nothing has to be asked before it is
-- sent. failures counts how often the present step broke in our own code.
--
-- Invariant: a settled payout has the rail's reference; only a payout is ever settling. Settling is committed
-- before the rail is called, so no two moves through it commit together: the trigger refuses them.
--
-- transfer_attempts is the ledger of calls that gave no answer, written with the note of each. What went
-- well has its event, so the attempts of a transfer are these rows and its answered steps. It is kept for
-- days, not for ever.
--
-- risk_postures says what happens to a tenant's transfers when the risk service cannot be asked: up to an
-- amount they pass, above it they wait and expire. A change is a new version; nothing is rewritten.
--
-- Transfers that were open before this migration become payouts if they go to an external account. Programs of
-- before it know neither payouts nor the rail: end them first.

-- +goose Up
ALTER TABLE transfers
    ADD COLUMN payout         boolean  NOT NULL DEFAULT false,
    ADD COLUMN payout_try     smallint NOT NULL DEFAULT 1 CHECK (payout_try > 0),
    ADD COLUMN rail_reference text,
    ADD COLUMN lane           smallint NOT NULL DEFAULT 1 CHECK (lane BETWEEN 1 AND 4),
    ADD COLUMN sent           integer  NOT NULL DEFAULT 0,
    ADD COLUMN failures       integer  NOT NULL DEFAULT 0;
UPDATE transfers t SET payout = true
  FROM accounts a
 WHERE a.tenant_id = t.tenant_id AND a.id = t.to_account AND a.kind = 'external'
   AND t.state IN ('accepted', 'in_review', 'approved');
ALTER TABLE transfers
    DROP CONSTRAINT transfers_state_check,
    DROP CONSTRAINT transfers_open_is_woken,
    ADD CONSTRAINT transfers_state_check CHECK (state IN ('accepted', 'in_review', 'approved', 'settling',
        'settled', 'blocked', 'canceled', 'expired', 'failed')),
    ADD CONSTRAINT transfers_open_is_woken CHECK ((wake_at IS NOT NULL) =
        (state IN ('accepted', 'in_review', 'approved', 'settling') OR notification = 'pending')),
    ADD CONSTRAINT transfers_only_payouts_settle_outside CHECK (state <> 'settling' OR payout),
    ADD CONSTRAINT transfers_payout_has_reference CHECK (state <> 'settled' OR NOT payout
        OR rail_reference IS NOT NULL);
INSERT INTO transfer_transitions (from_state, event, to_state) VALUES
    ('approved', 'submit', 'settling'),
    ('settling', 'settle', 'settled'),
    ('settling', 'fail',   'failed');

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION refuse_illegal_transfer_move() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    bad record;
BEGIN
    WITH moves AS (
        SELECT tenant_id, id,
               max(state) FILTER (WHERE NOT after) AS was, max(version) FILTER (WHERE NOT after) AS old_version,
               max(state) FILTER (WHERE after) AS wanted, max(version) FILTER (WHERE after) AS new_version
          FROM (SELECT tenant_id, id, state, version, false AS after FROM moved_from
                 UNION ALL
                SELECT tenant_id, id, state, version, true FROM moved_to) AS both_sides
         GROUP BY tenant_id, id
    ), kinds AS (
        SELECT was, wanted, new_version - old_version AS steps, min(id::text) AS id, min(old_version) AS old_version
          FROM moves
         GROUP BY was, wanted, steps
    )
    SELECT k.id, k.was, k.wanted, k.old_version, k.old_version + k.steps AS new_version
      INTO bad
      FROM kinds k
     WHERE (k.was IS DISTINCT FROM k.wanted OR k.steps IS DISTINCT FROM 0)
       AND NOT coalesce(k.steps = 1 AND EXISTS (
                SELECT FROM transfer_transitions t
                 WHERE t.from_state = k.was AND t.to_state = k.wanted), false)
       AND NOT coalesce(k.steps = 2 AND EXISTS (
                SELECT FROM transfer_transitions a
                  JOIN transfer_transitions b ON b.from_state = a.to_state
                 WHERE a.from_state = k.was AND b.to_state = k.wanted AND a.to_state <> 'settling'), false)
     LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'transfer %: illegal move % (version %) to % (version %)',
            bad.id, bad.was, bad.old_version, bad.wanted, bad.new_version USING ERRCODE = 'HF003';
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- What was given up: the dead letters. In health there are none, so the index is empty.
CREATE INDEX transfers_dead ON transfers (updated_at)
    WHERE notification = 'failed' OR failures >= 5 OR reason IN ('poison', 'attempts_exhausted');

CREATE TABLE transfer_attempts (
    tenant_id   uuid        NOT NULL,
    transfer_id uuid        NOT NULL,
    id          uuid        NOT NULL,
    step        text        NOT NULL,
    kind        text        NOT NULL,
    detail      text        NOT NULL,
    at          timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, transfer_id, id)
);
CREATE INDEX transfer_attempts_at ON transfer_attempts (at);

CREATE TABLE risk_postures (
    tenant_id  uuid        NOT NULL REFERENCES tenants (id),
    currency   text        NOT NULL,
    version    integer     NOT NULL CHECK (version > 0),
    open_up_to bigint      NOT NULL CHECK (open_up_to >= 0),
    actor      text        NOT NULL,
    reason     text        NOT NULL,
    set_at     timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, currency, version)
);
CREATE TRIGGER risk_postures_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON risk_postures
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();

-- +goose Down
-- +goose StatementBegin
DO $$ BEGIN
    IF EXISTS (SELECT FROM transfers WHERE state = 'settling') THEN
        RAISE EXCEPTION 'transfers are settling: their money may have left, so they cannot be forgotten';
    END IF;
END $$;
-- +goose StatementEnd
DROP TABLE risk_postures, transfer_attempts;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION refuse_illegal_transfer_move() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    bad record;
BEGIN
    WITH moves AS (
        SELECT tenant_id, id,
               max(state) FILTER (WHERE NOT after) AS was, max(version) FILTER (WHERE NOT after) AS old_version,
               max(state) FILTER (WHERE after) AS wanted, max(version) FILTER (WHERE after) AS new_version
          FROM (SELECT tenant_id, id, state, version, false AS after FROM moved_from
                 UNION ALL
                SELECT tenant_id, id, state, version, true FROM moved_to) AS both_sides
         GROUP BY tenant_id, id
    ), kinds AS (
        SELECT was, wanted, new_version - old_version AS steps, min(id::text) AS id, min(old_version) AS old_version
          FROM moves
         GROUP BY was, wanted, steps
    )
    SELECT k.id, k.was, k.wanted, k.old_version, k.old_version + k.steps AS new_version
      INTO bad
      FROM kinds k
     WHERE (k.was IS DISTINCT FROM k.wanted OR k.steps IS DISTINCT FROM 0)
       AND NOT coalesce(k.steps = 1 AND EXISTS (
                SELECT FROM transfer_transitions t
                 WHERE t.from_state = k.was AND t.to_state = k.wanted), false)
       AND NOT coalesce(k.steps = 2 AND EXISTS (
                SELECT FROM transfer_transitions a
                  JOIN transfer_transitions b ON b.from_state = a.to_state
                 WHERE a.from_state = k.was AND b.to_state = k.wanted), false)
     LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'transfer %: illegal move % (version %) to % (version %)',
            bad.id, bad.was, bad.old_version, bad.wanted, bad.new_version USING ERRCODE = 'HF003';
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd
DROP INDEX transfers_dead;
DELETE FROM transfer_transitions WHERE event = 'submit' OR from_state = 'settling';
ALTER TABLE transfers
    DROP CONSTRAINT transfers_payout_has_reference,
    DROP CONSTRAINT transfers_only_payouts_settle_outside,
    DROP CONSTRAINT transfers_open_is_woken,
    DROP CONSTRAINT transfers_state_check,
    ADD CONSTRAINT transfers_state_check CHECK (state IN ('accepted', 'in_review', 'approved',
        'settled', 'blocked', 'canceled', 'expired', 'failed')),
    ADD CONSTRAINT transfers_open_is_woken CHECK ((wake_at IS NOT NULL) =
        (state IN ('accepted', 'in_review', 'approved') OR notification = 'pending')),
    DROP COLUMN failures, DROP COLUMN sent, DROP COLUMN lane,
    DROP COLUMN rail_reference, DROP COLUMN payout_try, DROP COLUMN payout;
