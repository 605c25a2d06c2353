-- what this role may do with the table of alerts; no row without the table. read from the catalog, which needs no right.
select
    current_user::text as role,
    has_schema_privilege(s.oid, 'usage') as usage,
    has_table_privilege(t.oid, 'insert') as may_insert,
    has_table_privilege(t.oid, 'select') as may_select
from pg_catalog.pg_class as t
join pg_catalog.pg_namespace as s on s.oid = t.relnamespace
where s.nspname = 'tripline' and t.relname = 'alerts' and t.relkind in ('r', 'p')
