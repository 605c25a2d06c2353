INSERT INTO streaming.transactions ("id", "user_id", "amount", "timestamp", "merchant", "status") VALUES (26, 109, '3.00', '2026-11-27T09:00:00.000026Z', 'Grocer', 'settled');
DELETE FROM streaming.transactions WHERE id = 10;
