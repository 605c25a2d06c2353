-- The bank raises the limit of account 2, and lowers that of account 1.
update bank.accounts set daily_limit = 2000 where account_id = 2;
update bank.accounts set daily_limit = 800 where account_id = 1;
