-- What breaks again and again: orders and deliveries that are given up, and lanes for both.
--
-- failures counts how often the present step of an order, or the handling of a delivery, broke in our own
-- code. An order ends then, as poison; one whose payment has to go back cannot end and is looked at each
-- hour, and so is a delivery, which is never lost. The partial indexes hold those alone: in health they are
-- empty.
--
-- attempts of a delivery guards its row, as that of an order does.
--
-- lane is in which lane of its queue a row's jobs go: the work of a tenant who brings very much goes behind
-- that of others.

-- +goose Up
ALTER TABLE orders
    ADD COLUMN lane     smallint NOT NULL DEFAULT 1 CHECK (lane BETWEEN 1 AND 4),
    ADD COLUMN failures integer  NOT NULL DEFAULT 0,
    DROP CONSTRAINT orders_reason_check,
    ADD CONSTRAINT orders_reason_check CHECK (reason IN ('client', 'stock', 'slot', 'payment', 'expired',
        'operator', 'poison'));
CREATE INDEX orders_dead ON orders (updated_at) WHERE failures >= 5 OR reason = 'poison';

ALTER TABLE deliveries
    ADD COLUMN lane     smallint NOT NULL DEFAULT 1 CHECK (lane BETWEEN 1 AND 4),
    ADD COLUMN attempts integer  NOT NULL DEFAULT 0,
    ADD COLUMN failures integer  NOT NULL DEFAULT 0;
CREATE INDEX deliveries_dead ON deliveries (created_at) WHERE failures >= 5;

-- +goose Down
DROP INDEX deliveries_dead, orders_dead;
ALTER TABLE deliveries DROP COLUMN failures, DROP COLUMN attempts, DROP COLUMN lane;
-- The events keep the true reason. Before this migration it was a person who gave such an order up.
UPDATE orders SET reason = 'operator' WHERE reason = 'poison';
ALTER TABLE orders
    DROP CONSTRAINT orders_reason_check,
    ADD CONSTRAINT orders_reason_check CHECK (reason IN ('client', 'stock', 'slot', 'payment', 'expired',
        'operator')),
    DROP COLUMN failures, DROP COLUMN lane;
