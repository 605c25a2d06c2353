-- Debezium makes the topic with the table's first event. With a row from the beginning its snapshot is that event, and
-- nothing waits for one.
INSERT INTO streaming.transactions (user_id, amount, merchant, status) VALUES (10000000, 1.00, 'Corner Bakery', 'completed');
