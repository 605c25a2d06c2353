-- a week of purchases: 2,000 people who spend a little, and 12 who spend nearly as much as is allowed.
insert into streaming.transactions (user_id, amount, "timestamp", merchant, status)
select 10000000 + (17956157 + user_no * 48271397) % 90000000,
       round((case when user_no < 12 then 90 + 60 * size else 3 + 57 * size ^ 2 end)::numeric, 2),
       now() - interval '1 minute' - age * interval '6 days',
       initcap((array['amazon', 'corner bakery', 'shell', 'lidl', 'uber', 'zara', 'netflix', 'book nook'])[1 + floor(size * 8)::int]),
       'completed'
from (select case when n % 100 = 0 then n / 100 % 12 else floor(random() * 2000)::int8 end as user_no,
             random() as size, random() as age
      from generate_series(1, 12000) n) drawn
order by age desc;
