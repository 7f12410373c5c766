-- Transfers: the row is the truth, a job is only a wake-up.
--
-- Invariant: whoever changes a transfer's state, version or reversed amount holds the row lock on
-- the balance of its debit account. That lock orders all movers of one transfer.
--
-- Invariant: wake_at is set exactly while somebody still has to do something (the state is open or
-- the notification is pending), and then a live job with that scheduled time exists. The sweeper
-- looks for rows where that is not so. The index on wake_at costs the HOT update (measured at
-- under ten microseconds a transfer) and pays with an exact, cheap answer to 'who is forgotten?'.

-- +goose Up
CREATE TABLE transfers (
    tenant_id        uuid        NOT NULL,
    id               uuid        NOT NULL,
    from_account     uuid        NOT NULL,
    to_account       uuid        NOT NULL,
    amount           bigint      NOT NULL CHECK (amount > 0),
    currency         text        NOT NULL,
    state            text        NOT NULL CHECK (state IN ('accepted', 'in_review', 'approved',
                                 'settled', 'blocked', 'canceled', 'expired', 'failed')),
    version          integer     NOT NULL CHECK (version > 0),
    reason           text,
    client_reference text        CHECK (octet_length(client_reference) BETWEEN 1 AND 255),
    metadata         json,
    reverses         uuid,
    reversed         bigint      NOT NULL DEFAULT 0,
    risk_reference   text,
    attempts         integer     NOT NULL DEFAULT 0,
    notification     text        NOT NULL DEFAULT 'none'
                                 CHECK (notification IN ('none', 'pending', 'sent', 'failed')),
    wake_at          timestamptz,
    promise_at       timestamptz NOT NULL,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    CHECK (from_account <> to_account),
    CHECK (reversed BETWEEN 0 AND amount),
    CONSTRAINT transfers_open_is_woken CHECK ((wake_at IS NOT NULL) =
        (state IN ('accepted', 'in_review', 'approved') OR notification = 'pending')),
    CONSTRAINT transfers_end_has_reason CHECK (state NOT IN ('blocked', 'canceled', 'expired',
        'failed') OR reason IS NOT NULL)
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02,
        autovacuum_vacuum_insert_scale_factor = 0.2);
CREATE UNIQUE INDEX transfers_client_reference ON transfers (tenant_id, client_reference)
    WHERE client_reference IS NOT NULL;
CREATE INDEX transfers_wake ON transfers (wake_at) WHERE wake_at IS NOT NULL;

-- The table of legal moves; the Go table in internal/transfer/state.go is held equal to it by a test.
CREATE TABLE transfer_transitions (
    from_state text NOT NULL,
    event      text NOT NULL,
    to_state   text NOT NULL,
    PRIMARY KEY (from_state, event)
);
INSERT INTO transfer_transitions (from_state, event, to_state) VALUES
    ('accepted',  'approve', 'approved'),
    ('accepted',  'review',  'in_review'),
    ('accepted',  'block',   'blocked'),
    ('in_review', 'approve', 'approved'),
    ('in_review', 'block',   'blocked'),
    ('approved',  'settle',  'settled'),
    ('accepted',  'cancel',  'canceled'),
    ('in_review', 'cancel',  'canceled'),
    ('approved',  'cancel',  'canceled'),
    ('accepted',  'expire',  'expired'),
    ('in_review', 'expire',  'expired'),
    ('approved',  'expire',  'expired'),
    ('accepted',  'fail',    'failed'),
    ('in_review', 'fail',    'failed'),
    ('approved',  'fail',    'failed');

-- The second lock on legal moves, once per statement. Adjacent moves that commit together (approve
-- and settle) raise the version by two, so the trigger accepts a legal step or two legal steps. A row
-- whose key changed has no partner in the join and is refused too.
-- +goose StatementBegin
CREATE FUNCTION refuse_illegal_transfer_move() RETURNS trigger LANGUAGE plpgsql AS $$
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
CREATE TRIGGER transfers_legal_moves AFTER UPDATE ON transfers
    REFERENCING OLD TABLE AS moved_from NEW TABLE AS moved_to
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_illegal_transfer_move();

-- +goose Down
DROP TABLE transfers, transfer_transitions;
DROP FUNCTION refuse_illegal_transfer_move();
