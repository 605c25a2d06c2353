INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (12, 204, '2000.00', '2026-11-22T08:00:00.000012Z', 'Grocer', 'settled');
UPDATE streaming.transactions SET "amount" = '10.00' WHERE id = 2;
