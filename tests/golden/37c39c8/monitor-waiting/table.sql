CREATE SCHEMA streaming;
CREATE TABLE streaming.transactions (
    id          bigserial PRIMARY KEY,
    user_id     bigint NOT NULL,
    amount      numeric(12,2) NOT NULL,
    "timestamp" timestamptz NOT NULL DEFAULT now(),
    merchant    text,
    status      text DEFAULT 'pending'
);
CREATE INDEX ON streaming.transactions (user_id, "timestamp") INCLUDE (amount);
DO $$ BEGIN CREATE ROLE golden_reader LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
GRANT USAGE ON SCHEMA streaming TO golden_reader;
GRANT SELECT ON streaming.transactions TO golden_reader;

INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (1, 201, '100.00', '2026-11-20T08:00:00.000001Z', 'Grocer', 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (2, 202, '2900.00', '2026-11-20T09:00:00.000002Z', 'Grocer', 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (3, 203, '1.00', '2026-11-20T10:00:00.000003Z', 'Grocer', 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (4, 203, '2.00', '2026-11-20T10:01:00.000004Z', 'Grocer', 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (5, 203, '3.00', '2026-11-20T10:02:00.000005Z', 'Grocer', 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (6, 204, '1500.00', '2026-11-20T11:00:00.000006Z', 'Grocer', 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (7, 202, '200.00', '2026-11-21T08:00:00.000007Z', 'Grocer', 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (9, 205, '3500.00', '2026-11-21T09:00:00.000009Z', 'Grocer', 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (10, 206, '1.00', '2026-11-21T10:00:00.000010Z', 'Grocer', 'settled');
