-- $1 rule, $2 status, $3 severity, $4 condition on the key (jsonpath), $5 earliest instant, $6 group; null where all are
-- wanted.
where ($1::text is null or rule = $1::text)
  and ($2::text is null or status = $2::text)
  and ($3::text is null or severity = $3::text)
  and ($4::text is null or key @@ ($4::text)::jsonpath)
  and ($5::text is null or emitted_at >= ($5::text)::timestamptz)
  and ($6::text is null or "group" = $6::text)
