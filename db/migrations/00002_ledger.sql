-- The ledger: accounts say who, balances say how much, holds promise, entries and postings prove.
--
-- Everything that is judged under a lock (status, floor, posted, held, version) stands in one row
-- of balances: a CHECK can only see its own row, and a reader that waited for the row lock sees
-- fresh values of that row only.
--
-- entries, postings and holds carry no foreign keys: they are the hot append-only tables, and two
-- foreign keys on postings alone cost 60 us a transfer. The reconcile invariants check the same.

-- +goose Up
CREATE TABLE accounts (
    tenant_id  uuid        NOT NULL REFERENCES tenants (id),
    id         uuid        NOT NULL,
    name       text        NOT NULL CHECK (length(name) <= 200),
    kind       text        NOT NULL CHECK (kind IN ('user', 'settlement', 'fee', 'suspense', 'external')),
    currency   text        NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);

-- One hot row per account. Fillfactor 50 keeps its updates HOT.
CREATE TABLE balances (
    tenant_id  uuid   NOT NULL,
    account_id uuid   NOT NULL,
    status     text   NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'frozen', 'closed')),
    floor      bigint NOT NULL DEFAULT 0,
    posted     bigint NOT NULL DEFAULT 0,
    held       bigint NOT NULL DEFAULT 0 CHECK (held >= 0),
    version    bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, account_id),
    FOREIGN KEY (tenant_id, account_id) REFERENCES accounts (tenant_id, id),
    CONSTRAINT balances_not_overdrawn CHECK (posted - held >= floor)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

-- A hold reserves funds for its owner: its id is the id of the transfer that it belongs to.
CREATE TABLE holds (
    tenant_id  uuid        NOT NULL,
    id         uuid        NOT NULL,
    account_id uuid        NOT NULL,
    amount     bigint      NOT NULL CHECK (amount > 0),
    captured   bigint      NOT NULL DEFAULT 0 CHECK (captured BETWEEN 0 AND amount),
    status     text        NOT NULL DEFAULT 'active'
                           CHECK (status IN ('active', 'captured', 'released', 'expired')),
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT holds_captured_says_how_much CHECK ((status = 'captured') = (captured > 0))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);

-- An entry groups postings that sum to zero per currency. The entry of a settled transfer has the
-- transfer's id.
CREATE TABLE entries (
    tenant_id   uuid        NOT NULL,
    id          uuid        NOT NULL,
    kind        text        NOT NULL CHECK (kind IN ('transfer', 'opening', 'adjustment')),
    description text,
    at          timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
);

-- The primary key makes an account's history gap-free checkable and gives the balance at a time by
-- bisection (at never decreases with account_version), so no second index is needed.
CREATE TABLE postings (
    tenant_id       uuid        NOT NULL,
    account_id      uuid        NOT NULL,
    account_version bigint      NOT NULL CHECK (account_version > 0),
    entry_id        uuid        NOT NULL,
    amount          bigint      NOT NULL CHECK (amount <> 0),
    posted_after    bigint      NOT NULL,
    currency        text        NOT NULL,
    at              timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, account_id, account_version)
);

-- +goose StatementBegin
CREATE FUNCTION refuse_rewrite() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused, write a new row', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'HF002';
END $$;
-- +goose StatementEnd
CREATE TRIGGER entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();
CREATE TRIGGER postings_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON postings
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();

-- assert_rows aborts the transaction when a guarded multi-row statement did not reach every row
-- that it was decided for. So a batch can send its commit in the same round trip as its writes.
-- +goose StatementBegin
CREATE FUNCTION assert_rows(reached bigint, expected bigint, what text) RETURNS bigint
    LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF reached <> expected THEN
        RAISE EXCEPTION '%: reached % of % rows', what, reached, expected USING ERRCODE = 'HF001';
    END IF;
    RETURN reached;
END $$;
-- +goose StatementEnd

-- +goose Down
DROP TABLE postings, entries, holds, balances, accounts;
DROP FUNCTION refuse_rewrite();
DROP FUNCTION assert_rows(bigint, bigint, text);
