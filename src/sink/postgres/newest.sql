-- $7: how many at most.
order by emitted_at desc, id desc
limit $7
