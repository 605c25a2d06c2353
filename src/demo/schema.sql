-- as scripts/stack makes it
create schema streaming;

create table streaming.transactions (
    id          bigserial primary key,
    user_id     bigint not null,
    amount      numeric(12,2) not null,
    "timestamp" timestamptz not null default now(),
    merchant    text,
    status      text default 'pending'
);

-- the sum over a user's last days is answered from this index alone
create index transactions_user_id_timestamp on streaming.transactions (user_id, "timestamp") include (amount);

-- what a monitor needs to read, and no more
revoke temporary on database postgres from public;
grant usage on schema streaming to tripline;
grant select on streaming.transactions to tripline;

create publication tripline_demo for table streaming.transactions;
