-- the offsets of this session's time zone, in seconds east of utc: at first, then at each change of them.
-- days are looked through first, then the days with a change by five minutes, then by seconds.
with days as (
    select s, o, lead(o) over (order by s) as next
    from (
        select s, date_part('epoch', to_timestamp(s)::timestamp)::bigint - s as o
        from generate_series($1::bigint, $2::bigint, 86400) as s
    ) as sample
), minutes as (
    select sample.s, sample.o, lead(sample.o) over (partition by days.s order by sample.s) as next
    from days cross join lateral (
        select s, date_part('epoch', to_timestamp(s)::timestamp)::bigint - s as o
        from generate_series(days.s, days.s + 86400, 300) as s
    ) as sample
    where days.o <> days.next
), seconds as (
    select sample.s, sample.o, lag(sample.o) over (partition by minutes.s order by sample.s) as before
    from minutes cross join lateral (
        select s, date_part('epoch', to_timestamp(s)::timestamp)::bigint - s as o
        from generate_series(minutes.s, minutes.s + 300, 1) as s
    ) as sample
    where minutes.o <> minutes.next
)
select s, o from days where s = $1
union all
select s, o from seconds where o <> before
order by s
