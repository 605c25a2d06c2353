with recursive column_type as (
    -- a domain counts as the type that it is made of, and has that one's modifier
    select
        attribute.attrelid,
        attribute.attnum,
        attribute.atttypid as type_id,
        attribute.atttypmod as modifier
    from pg_class as relation
    join pg_namespace as namespace on namespace.oid = relation.relnamespace
    join pg_attribute as attribute on attribute.attrelid = relation.oid and attribute.attnum > 0 and not attribute.attisdropped
    where namespace.nspname = $1 and relation.relname = $2 and relation.relkind in ('r', 'p')
    union all
    select column_type.attrelid, column_type.attnum, domain.typbasetype, domain.typtypmod
    from column_type
    join pg_type as domain on domain.oid = column_type.type_id and domain.typtype = 'd'
)
select
    attribute.attname::text as name,
    -- with its schema, so that it does not depend on a session's search_path
    case when type.typtype = 'e' then quote_ident(type_schema.nspname) || '.' || quote_ident(type.typname)
        else format_type(column_type.type_id, column_type.modifier) end as type_name,
    case when type_schema.nspname = 'pg_catalog' then type.typname::text else '' end as base_type,
    type.typtype = 'e' as is_enum,
    column_type.modifier,
    not attribute.attnotnull as nullable,
    -- not the expression of a generated column, which is kept in the same place
    attribute.atthasdef and attribute.attgenerated = '' as has_default,
    coalesce(collated.collisdeterministic, true) as deterministic,
    array_position(primary_key.indkey::int2[], attribute.attnum) as key_position
from column_type
join pg_attribute as attribute on attribute.attrelid = column_type.attrelid and attribute.attnum = column_type.attnum
join pg_type as type on type.oid = column_type.type_id and type.typtype <> 'd'
join pg_namespace as type_schema on type_schema.oid = type.typnamespace
left join pg_collation as collated on collated.oid = attribute.attcollation
left join pg_index as primary_key on primary_key.indrelid = column_type.attrelid and primary_key.indisprimary
order by attribute.attnum
