INSERT INTO public.orders ("order_id", "customer_name", "restaurant", "item", "quantity", "price", "status", "created_at") VALUES (13, 'Ana', 'Burger Junction', 'Cake', 1, '4.40', 'PLACED', '2026-11-24T11:00:00.000000Z');
UPDATE public.orders SET "quantity" = 2, "price" = '13.20' WHERE order_id = 12;
DELETE FROM public.orders WHERE order_id = 11;
INSERT INTO public.orders ("order_id", "customer_name", "restaurant", "item", "quantity", "price", "status", "created_at") VALUES (14, 'Ana', 'Burger Junction', 'Pie', 1, '5.50', 'PLACED', '2026-11-25T10:00:00.000000Z');
INSERT INTO public.orders ("order_id", "customer_name", "restaurant", "item", "quantity", "price", "status", "created_at") VALUES (15, 'Ana', 'Burger Junction', 'Bread', NULL, '1.10', 'PLACED', '2026-11-25T11:00:00.000000Z');
