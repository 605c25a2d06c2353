-- $1: the group, $2: host name and process id. raises the group's generation; waits for transactions that hold its row.
-- never below the milliseconds since 1970, so that a row that was lost, or came back with an older database, does not
-- bring back a number that somebody still holds.
insert into tripline.generations as g ("group", generation, owner, raised_at)
values ($1::text, (extract(epoch from clock_timestamp()) * 1000)::bigint, $2::text, clock_timestamp())
on conflict ("group") do update
set generation = greatest(g.generation + 1, excluded.generation), owner = excluded.owner, raised_at = excluded.raised_at
returning generation
