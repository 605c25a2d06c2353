create schema shop;

create table shop.payments (
    id bigint primary key,
    card_id text not null,
    merchant_id bigint not null,
    amount numeric(12, 2) not null,
    status text not null,
    created_at timestamptz not null default now()
);

-- a confirmation reads the rows of one key
create index on shop.payments (card_id, created_at);
create index on shop.payments (merchant_id, created_at);
