-- what has the name of a table and is none: its kind, and the tables that it reads where it is a view.
select
    relation.relkind::text as kind,
    array(
        select distinct source.oid::regclass::text
        from pg_rewrite as rule
        join pg_depend as dependency
            on dependency.classid = 'pg_rewrite'::regclass and dependency.objid = rule.oid
            and dependency.refclassid = 'pg_class'::regclass
        join pg_class as source on source.oid = dependency.refobjid and source.relkind in ('r', 'p')
        where rule.ev_class = relation.oid
    ) as behind
from pg_class as relation
join pg_namespace as namespace on namespace.oid = relation.relnamespace
where namespace.nspname = $1 and relation.relname = $2
