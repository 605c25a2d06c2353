-- the rules that have alerts. $1: of this group; null for all.
select distinct rule
from tripline.alerts
where $1::text is null or "group" = $1::text
order by rule
