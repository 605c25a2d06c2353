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

INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (1, 101, '1000.00', '2026-11-20T08:00:00.000001Z', 'Grocer', 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (2, 107, '1500.50', '2026-11-20T08:05:00.000002Z', 'Café ☕ "quoted" \ back', 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (3, 101, '900.00', '2026-11-20T08:10:00.000003Z', 'Grocer', 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (4, 102, '-3200.00', '2026-11-21T09:00:00.000004Z', NULL, 'refunded');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (6, 103, '20.00', '2026-11-22T10:01:30.000006Z', 'Grocer', 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (7, 103, '30.00', '2026-11-22T10:02:00.000007Z', 'Grocer', 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (8, 104, '3000.01', '2026-11-23T11:00:00.000008Z', 'Yacht Co', 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (9, 105, '10.00', '2026-11-23T12:00:00.000009Z', 'Grocer', 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (10, 106, '100.00', '2026-11-24T13:00:00.000010Z', 'Kiosk', 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (11, 106, '200.00', '2026-11-24T13:01:00.000011Z', 'Grocer', NULL);
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (13, 106, '300.00', '2026-11-25T14:00:00.000013Z', NULL, 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (15, 107, '1000.00', '2026-11-25T15:01:00.000015Z', 'Grocer', 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (16, 105, '2995.00', '2026-11-26T16:00:00.000016Z', 'Grocer', 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (17, 108, '800.00', '2026-11-26T17:00:00.000017Z', 'Grocer', 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (18, 108, '900.00', '2026-11-26T17:01:00.000018Z', 'Grocer', 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (19, 108, '800.00', '2026-11-26T17:02:00.000019Z', 'Grocer', 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (20, 108, '800.00', '2026-11-26T17:03:00.000020Z', 'Grocer', 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (21, 109, '1.00', '2026-11-26T18:00:00.000021Z', 'Grocer', 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (23, 110, '2000.00', '2026-11-26T19:00:00.000023Z', 'Grocer', 'pending');
