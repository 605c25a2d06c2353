INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (18, 306, '1.00', '2026-11-22T08:00:00.000018Z', 'Grocer', 'settled');
INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (20, 307, '4000.00', '2026-11-22T09:00:00.000020Z', 'Grocer', 'settled');
UPDATE streaming.transactions SET "amount" = '100.00' WHERE id = 6;
