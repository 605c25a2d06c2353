-- Three more cards are declined at merchant 40. Payment 6 is declined after all.
insert into shop.payments (id, card_id, merchant_id, amount, status) values
    (7, 'c-8', 40, 1.00, 'declined'),
    (8, 'c-9', 40, 1.00, 'declined'),
    (9, 'c-10', 40, 1.00, 'declined');
update shop.payments set status = 'declined' where id = 6;
