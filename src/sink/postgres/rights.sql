-- what this role may do with the sink's tables: a row for each that is there. read from the catalog, which needs no right.
select
    t.relname::text as name,
    current_user::text as role,
    has_schema_privilege(s.oid, 'usage') as usage,
    has_table_privilege(t.oid, 'insert') as may_insert,
    has_table_privilege(t.oid, 'select') as may_select,
    has_table_privilege(t.oid, 'update') as may_update,
    t.relname <> 'alerts' or exists (
        select from pg_catalog.pg_attribute as a where a.attrelid = t.oid and a.attname = 'reason' and not a.attisdropped
    ) as is_current
from pg_catalog.pg_class as t
join pg_catalog.pg_namespace as s on s.oid = t.relnamespace
where s.nspname = 'tripline' and t.relname in ('alerts', 'generations') and t.relkind in ('r', 'p')
