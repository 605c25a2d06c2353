select
    attribute.attname::text as name,
    format_type(attribute.atttypid, attribute.atttypmod) as type_name,
    case when type_schema.nspname = 'pg_catalog' then type.typname::text else '' end as base_type,
    attribute.atttypmod as modifier,
    not attribute.attnotnull as nullable,
    -- not the expression of a generated column, which is kept in the same place
    attribute.atthasdef and attribute.attgenerated = '' as has_default,
    coalesce(collated.collisdeterministic, true) as deterministic,
    array_position(primary_key.indkey::int2[], attribute.attnum) as key_position
from pg_class as relation
join pg_namespace as namespace on namespace.oid = relation.relnamespace
join pg_attribute as attribute on attribute.attrelid = relation.oid and attribute.attnum > 0 and not attribute.attisdropped
join pg_type as type on type.oid = attribute.atttypid
join pg_namespace as type_schema on type_schema.oid = type.typnamespace
left join pg_collation as collated on collated.oid = attribute.attcollation
left join pg_index as primary_key on primary_key.indrelid = relation.oid and primary_key.indisprimary
where namespace.nspname = $1 and relation.relname = $2 and relation.relkind in ('r', 'p')
order by attribute.attnum
