INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (24, 110, '1000.01', '2026-11-27T08:00:00.000024Z', 'Grocer', 'settled');
DELETE FROM streaming.transactions WHERE id = 4;
UPDATE streaming.transactions SET "amount" = '2996.00' WHERE id = 16;
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (25, 109, '2.00', '2026-11-27T08:01:00.000025Z', 'Grocer', 'settled');
