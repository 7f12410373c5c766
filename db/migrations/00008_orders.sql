-- Orders: the row is the truth, a job is only a wake-up.
--
-- Invariant: whoever changes an order holds its row lock; whoever changes what it has reserved holds
-- the locks of its slot and stock too, and took them before.
--
-- Invariant: wake_at is set exactly while somebody still has to do something (the state is open, or the
-- payment of a canceled order has to go back), and then a live job with that scheduled time exists. The
-- sweeper looks for rows where that is not so.
--
-- Neither table has foreign keys: lines are written by the thousand. The invariants check the same.

-- +goose Up
CREATE TABLE orders (
    tenant_id              uuid        NOT NULL,
    id                     uuid        NOT NULL,
    customer_account       uuid        NOT NULL,
    merchant_account       uuid        NOT NULL,
    location               text        NOT NULL,
    slot_id                uuid,
    currency               text        NOT NULL,
    total                  bigint      NOT NULL CHECK (total > 0),
    state                  text        NOT NULL
                                       CHECK (state IN ('pending', 'reserved', 'confirmed', 'canceled')),
    version                integer     NOT NULL CHECK (version > 0),
    reason                 text        CHECK (reason IN ('client', 'stock', 'slot', 'payment', 'expired',
                                       'operator')),
    client_reference       text        CHECK (octet_length(client_reference) BETWEEN 1 AND 255),
    metadata               json,
    payment_state          text        NOT NULL DEFAULT 'none'
                                       CHECK (payment_state IN ('none', 'pending', 'settled', 'failed',
                                       'reversing', 'reversed')),
    payment_transfer_id    uuid,
    reservation_expires_at timestamptz,
    attempts               integer     NOT NULL DEFAULT 0,
    wake_at                timestamptz,
    promise_at             timestamptz NOT NULL,
    created_at             timestamptz NOT NULL,
    updated_at             timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    CHECK (customer_account <> merchant_account),
    CONSTRAINT orders_open_is_woken CHECK ((wake_at IS NOT NULL) =
        (state IN ('pending', 'reserved') OR payment_state = 'reversing')),
    CONSTRAINT orders_end_has_reason CHECK ((state = 'canceled') = (reason IS NOT NULL)),
    CONSTRAINT orders_payment_fits CHECK (CASE state
        WHEN 'pending' THEN payment_state = 'none'
        WHEN 'reserved' THEN payment_state = 'pending' AND reservation_expires_at IS NOT NULL
        WHEN 'confirmed' THEN payment_state = 'settled' AND payment_transfer_id IS NOT NULL
        ELSE payment_state IN ('none', 'failed', 'reversing', 'reversed') END)
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02,
        autovacuum_vacuum_insert_scale_factor = 0.2);
CREATE UNIQUE INDEX orders_client_reference ON orders (tenant_id, client_reference)
    WHERE client_reference IS NOT NULL;
CREATE INDEX orders_wake ON orders (wake_at) WHERE wake_at IS NOT NULL;

-- The lines never change. The price is the SKU's when the order was placed.
CREATE TABLE order_lines (
    tenant_id  uuid   NOT NULL,
    order_id   uuid   NOT NULL,
    sku_id     uuid   NOT NULL,
    quantity   bigint NOT NULL CHECK (quantity > 0),
    unit_price bigint NOT NULL CHECK (unit_price > 0),
    PRIMARY KEY (tenant_id, order_id, sku_id)
);
CREATE TRIGGER order_lines_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON order_lines
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();

-- The table of legal moves; the Go table in internal/order/state.go is held equal to it by a test.
CREATE TABLE order_transitions (
    from_state text NOT NULL,
    event      text NOT NULL,
    to_state   text NOT NULL,
    PRIMARY KEY (from_state, event)
);
INSERT INTO order_transitions (from_state, event, to_state) VALUES
    ('pending',  'reserve', 'reserved'),
    ('reserved', 'confirm', 'confirmed'),
    ('pending',  'cancel',  'canceled'),
    ('reserved', 'cancel',  'canceled');

-- The second lock on legal moves, once per statement and kind of move, as for transfers. A move raises the
-- version by one; a payment that goes on leaves state and version alone. A row whose key changed has only
-- one side and is refused too.
-- +goose StatementBegin
CREATE FUNCTION refuse_illegal_order_move() RETURNS trigger LANGUAGE plpgsql AS $$
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
                SELECT FROM order_transitions t
                 WHERE t.from_state = k.was AND t.to_state = k.wanted), false)
     LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'order %: illegal move % (version %) to % (version %)',
            bad.id, bad.was, bad.old_version, bad.wanted, bad.new_version USING ERRCODE = 'HF003';
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER orders_legal_moves AFTER UPDATE ON orders
    REFERENCING OLD TABLE AS moved_from NEW TABLE AS moved_to
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_illegal_order_move();

-- +goose Down
DROP TABLE order_lines, orders, order_transitions;
DROP FUNCTION refuse_illegal_order_move();
