-- $1: the id.
where id = ($1::text)::uuid
