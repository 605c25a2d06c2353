-- $7, $8: the alert after which to go on, null to begin; $9: how many at most.
  and ($7::text is null or (emitted_at, id) > (($7::text)::timestamptz, ($8::text)::uuid))
order by emitted_at, id
limit $9
