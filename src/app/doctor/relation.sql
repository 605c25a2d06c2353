select
    relation.relreplident::text as identity,
    relation.relkind = 'p' as partitioned,
    greatest(
        pg_relation_size(relation.oid),
        (select coalesce(sum(pg_relation_size(part.relid)), 0)::bigint from pg_partition_tree(relation.oid) as part)
    ) as bytes,
    has_schema_privilege(namespace.oid, 'usage') as may_use,
    has_table_privilege(relation.oid, 'select') or has_any_column_privilege(relation.oid, 'select') as may_select,
    array(
        select attribute.attname::text
        from pg_index as index
        join pg_attribute as attribute on attribute.attrelid = index.indrelid and attribute.attnum = index.indkey[0]
        where index.indrelid = relation.oid and index.indisvalid and index.indpred is null
    ) as index_leads,
    row_security_active(relation.oid) as row_security,
    array(
        select child.oid::regclass::text
        from pg_inherits as inheritance
        join pg_class as child on child.oid = inheritance.inhrelid
        where inheritance.inhparent = relation.oid and not child.relispartition
        order by child.oid
    ) as children,
    case when relation.relispartition then pg_partition_root(relation.oid)::text end as root,
    array(
        select attribute.attname::text
        from pg_attribute as attribute
        where attribute.attrelid = relation.oid and attribute.attgenerated <> '' and not attribute.attisdropped
        order by attribute.attnum
    ) as generated
from pg_class as relation
join pg_namespace as namespace on namespace.oid = relation.relnamespace
where namespace.nspname = $1 and relation.relname = $2 and relation.relkind in ('r', 'p')
