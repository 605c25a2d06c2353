create schema bank;

create table bank.accounts (
    account_id bigint primary key,
    daily_limit numeric(12, 2) not null
);

create table bank.transfers (
    id bigint primary key,
    account_id bigint not null references bank.accounts,
    amount numeric(12, 2) not null,
    created_at timestamptz not null default now()
);

create index on bank.transfers (account_id, created_at);
