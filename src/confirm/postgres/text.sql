select
    asked.name as asked,
    namespace.nspname::text as schema,
    relation.relname::text as name,
    array(
        select attribute.attname::text
        from pg_attribute as attribute
        where attribute.attrelid = relation.oid and attribute.attnum > 0 and not attribute.attisdropped
        order by attribute.attnum
    ) as columns,
    array(
        select attribute.attname::text
        from pg_index as primary_key
        join pg_attribute as attribute
            on attribute.attrelid = relation.oid and attribute.attnum = any (primary_key.indkey::int2[])
        where primary_key.indrelid = relation.oid and primary_key.indisprimary
    ) as primary_key
from unnest($1::text[], $2::text[]) as asked(name, quoted)
join pg_class as relation on relation.oid = to_regclass(asked.quoted)
join pg_namespace as namespace on namespace.oid = relation.relnamespace
