CREATE TABLE public.orders (
    order_id      bigserial PRIMARY KEY,
    customer_name text,
    restaurant    text,
    item          text,
    quantity      int,
    price         numeric(10,2),
    status        text,
    created_at    timestamptz DEFAULT now()
);

INSERT INTO public.orders ("order_id", "customer_name", "restaurant", "item", "quantity", "price", "status", "created_at") VALUES (1, 'Ana', 'Burger Junction', 'Burger', 1, '12.50', 'DELIVERED', '2026-11-20T08:00:00.000001Z');
INSERT INTO public.orders ("order_id", "customer_name", "restaurant", "item", "quantity", "price", "status", "created_at") VALUES (2, 'Ana', 'Burger Junction', 'Margherita', 2, '9.99', 'PLACED', '2026-11-20T23:59:59.999999Z');
INSERT INTO public.orders ("order_id", "customer_name", "restaurant", "item", "quantity", "price", "status", "created_at") VALUES (3, NULL, 'Burger Junction', 'Water', 1, '1.00', NULL, '2026-11-21T00:00:00.000000Z');
INSERT INTO public.orders ("order_id", "customer_name", "restaurant", "item", "quantity", "price", "status", "created_at") VALUES (4, 'Ana', 'Burger Junction', 'Café ☕ "quoted" \ back', 3, '-0.01', 'PLACED', '2026-11-21T10:00:00.000000Z');
INSERT INTO public.orders ("order_id", "customer_name", "restaurant", "item", "quantity", "price", "status", "created_at") VALUES (5, '', 'Burger Junction', 'Fries', 0, '99999999.99', 'PLACED', '2026-11-21T11:00:00.000000Z');
INSERT INTO public.orders ("order_id", "customer_name", "restaurant", "item", "quantity", "price", "status", "created_at") VALUES (8, 'Ana', 'Burger Junction', 'Tea', 1, '3.30', 'PLACED', '2026-11-22T12:00:00.000000Z');
INSERT INTO public.orders ("order_id", "customer_name", "restaurant", "item", "quantity", "price", "status", "created_at") VALUES (9, 'Ana', 'Burger Junction', 'Ramen', 1, '13.00', 'PLACED', '2026-11-23T10:00:00.000000Z');
INSERT INTO public.orders ("order_id", "customer_name", "restaurant", "item", "quantity", "price", "status", "created_at") VALUES (11, 'Ana', 'Burger Junction', 'Salad', 1, '8.80', 'PLACED', '2026-11-24T10:00:00.000000Z');
INSERT INTO public.orders ("order_id", "customer_name", "restaurant", "item", "quantity", "price", "status", "created_at") VALUES (12, 'Ana', 'Burger Junction', 'Soup', 1, '6.60', 'PLACED', '2026-11-24T10:30:00.000000Z');
