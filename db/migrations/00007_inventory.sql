-- Inventory: skus say what is sold, stock says how much there is, reservations promise, entries prove.
--
-- Everything that is judged under a lock (on hand, reserved, booked, open) stands in one row of stock
-- or of delivery_slots: a CHECK can only see its own row, and a reader that waited for the row lock
-- sees fresh values of that row only. So both are hot rows, and fillfactor 50 keeps their updates HOT.
--
-- Invariant: whoever changes a reservation holds the row lock on its stock; whoever changes a booking
-- holds that on its slot.
--
-- stock_entries, reservations and slot_bookings carry no foreign keys: they are written for every
-- order line. The invariants check the same.

-- +goose Up
CREATE TABLE skus (
    tenant_id  uuid        NOT NULL REFERENCES tenants (id),
    id         uuid        NOT NULL,
    code       text        NOT NULL CHECK (length(code) BETWEEN 1 AND 64),
    name       text        NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    price      bigint      NOT NULL CHECK (price > 0),
    currency   text        NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT skus_code UNIQUE (tenant_id, code)
);

-- One row per SKU and location. version counts the entries.
CREATE TABLE stock (
    tenant_id uuid   NOT NULL,
    sku_id    uuid   NOT NULL,
    location  text   NOT NULL CHECK (length(location) BETWEEN 1 AND 64),
    on_hand   bigint NOT NULL DEFAULT 0,
    reserved  bigint NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    version   bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, sku_id, location),
    FOREIGN KEY (tenant_id, sku_id) REFERENCES skus (tenant_id, id),
    CONSTRAINT stock_not_oversold CHECK (on_hand - reserved >= 0)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

-- The history of what is on hand. The primary key makes it gap-free checkable.
CREATE TABLE stock_entries (
    tenant_id     uuid        NOT NULL,
    sku_id        uuid        NOT NULL,
    location      text        NOT NULL,
    stock_version bigint      NOT NULL CHECK (stock_version > 0),
    kind          text        NOT NULL CHECK (kind IN ('restock', 'adjust', 'consume')),
    quantity      bigint      NOT NULL CHECK (quantity <> 0),
    on_hand_after bigint      NOT NULL CHECK (on_hand_after >= 0),
    reference     text        NOT NULL,
    at            timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, sku_id, location, stock_version)
);
CREATE TRIGGER stock_entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON stock_entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();

-- What an order has of one SKU. An order has one row per SKU, so no two lines of it take the same unit.
-- A reservation that lapsed and is made again is the same row, active again until a later time.
CREATE TABLE reservations (
    tenant_id  uuid        NOT NULL,
    order_id   uuid        NOT NULL,
    sku_id     uuid        NOT NULL,
    id         uuid        NOT NULL,
    location   text        NOT NULL,
    quantity   bigint      NOT NULL CHECK (quantity > 0),
    status     text        NOT NULL CHECK (status IN ('active', 'consumed', 'released', 'expired')),
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, order_id, sku_id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);

CREATE TABLE delivery_slots (
    tenant_id  uuid        NOT NULL REFERENCES tenants (id),
    id         uuid        NOT NULL,
    location   text        NOT NULL CHECK (length(location) BETWEEN 1 AND 64),
    starts_at  timestamptz NOT NULL,
    ends_at    timestamptz NOT NULL,
    capacity   bigint      NOT NULL CHECK (capacity > 0),
    booked     bigint      NOT NULL DEFAULT 0,
    status     text        NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'closed')),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    CHECK (starts_at < ends_at),
    CONSTRAINT delivery_slots_not_overbooked CHECK (booked BETWEEN 0 AND capacity)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX delivery_slots_location ON delivery_slots (tenant_id, location, id);

-- The place that an order has in a slot. A consumed one stays booked: the delivery takes place.
CREATE TABLE slot_bookings (
    tenant_id  uuid        NOT NULL,
    order_id   uuid        NOT NULL,
    slot_id    uuid        NOT NULL,
    status     text        NOT NULL CHECK (status IN ('active', 'consumed', 'released', 'expired')),
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, order_id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);

-- +goose Down
DROP TABLE slot_bookings, delivery_slots, reservations, stock_entries, stock, skus;
