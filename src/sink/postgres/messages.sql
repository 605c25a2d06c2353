-- $1: ids, as text.
select id::text as id, message from tripline.alerts where id = any (($1::text[])::uuid[])
