-- $6, $7: the alert after which to go on, null to begin; $8: how many at most.
  and ($6::text is null or (emitted_at, id) > (($6::text)::timestamptz, ($7::text)::uuid))
order by emitted_at, id
limit $8
