-- Run in the database "food_delivery_db" by `scripts/stack up`; may be repeated.
CREATE TABLE IF NOT EXISTS public.orders (
    order_id      bigserial PRIMARY KEY,
    customer_name text,
    restaurant    text,
    item          text,
    quantity      int,
    price         numeric(10,2),
    status        text,
    created_at    timestamptz DEFAULT now()
);
