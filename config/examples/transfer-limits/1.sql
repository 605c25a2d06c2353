-- Account 1 stays below its limit. Account 2 goes above it.
insert into bank.accounts values (1, 1000), (2, 500);
insert into bank.transfers (id, account_id, amount) values (1, 1, 900), (2, 2, 300), (3, 2, 250);
