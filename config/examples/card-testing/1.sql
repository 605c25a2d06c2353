-- Card c-7 is tried three times, then used. Card c-1 is declined once, and its owner pays.
insert into shop.payments (id, card_id, merchant_id, amount, status) values
    (1, 'c-7', 40, 1.00, 'declined'),
    (2, 'c-7', 40, 1.50, 'declined'),
    (3, 'c-7', 41, 2.00, 'declined'),
    (4, 'c-1', 41, 80.00, 'declined'),
    (5, 'c-1', 41, 80.00, 'accepted'),
    (6, 'c-7', 42, 950.00, 'accepted');
