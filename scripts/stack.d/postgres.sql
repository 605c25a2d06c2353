-- Run in the database "postgres" by `scripts/stack up`; every statement may be repeated.
SELECT 'CREATE DATABASE food_delivery_db'
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'food_delivery_db') \gexec

CREATE SCHEMA IF NOT EXISTS streaming;

CREATE TABLE IF NOT EXISTS streaming.transactions (
    id          bigserial PRIMARY KEY,
    user_id     bigint NOT NULL,
    amount      numeric(12,2) NOT NULL,
    "timestamp" timestamptz NOT NULL DEFAULT now(),
    merchant    text,
    status      text DEFAULT 'pending'
);

-- the sum over a user's last days is answered from this index alone
CREATE INDEX IF NOT EXISTS transactions_user_id_timestamp
    ON streaming.transactions (user_id, "timestamp") INCLUDE (amount);

-- pg_hba.conf asks the members of password_required for a password, and nobody else
SELECT 'CREATE ROLE password_required NOLOGIN'
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'password_required') \gexec
SELECT $$CREATE ROLE tripline LOGIN PASSWORD 'tripline' IN ROLE password_required$$
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'tripline') \gexec

-- what a monitor needs to read, and no more (by default everybody could make temporary tables)
REVOKE TEMPORARY ON DATABASE postgres FROM PUBLIC;
GRANT CONNECT ON DATABASE postgres TO tripline;
GRANT USAGE ON SCHEMA streaming TO tripline;
GRANT SELECT ON streaming.transactions TO tripline;
