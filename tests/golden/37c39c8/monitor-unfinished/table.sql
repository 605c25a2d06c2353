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

INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (1, 301, '2000.00', '2026-11-20T08:00:00.000001Z', 'Grocer', 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (2, 301, '500.00', '2026-11-20T08:01:00.000002Z', 'Grocer', 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (3, 302, '2500.00', '2026-11-20T09:00:00.000003Z', 'Grocer', 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (4, 303, '10.00', '2026-11-20T10:00:00.000004Z', 'Grocer', 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (5, 303, '11.00', '2026-11-20T10:01:00.000005Z', 'Grocer', 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (6, 304, '3500.00', '2026-11-20T11:00:00.000006Z', 'Grocer', 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (7, 305, '1.00', '2026-11-20T12:00:00.000007Z', 'Grocer', 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (9, 305, '3.00', '2026-11-20T12:02:00.000009Z', 'Grocer', 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (10, 302, '600.00', '2026-11-21T08:00:00.000010Z', 'Grocer', 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (12, 303, '12.00', '2026-11-21T09:00:00.000012Z', 'Grocer', 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (13, 309, '1.00', '2026-11-21T11:00:00.000013Z', 'Grocer', 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (16, 306, '3000.01', '2026-11-21T10:00:00.000016Z', 'Grocer', 'settled');
