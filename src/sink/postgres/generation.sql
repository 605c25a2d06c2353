-- $1: the group. its generation, which nobody raises before this transaction's end.
select generation, owner, raised_at::text as raised_at from tripline.generations where "group" = $1::text for share
