with recursive relation as (
    select found.oid, found.relkind, found.relreplident
    from pg_class as found
    join pg_namespace as namespace on namespace.oid = found.relnamespace
    where namespace.nspname = $1 and found.relname = $2 and found.relkind in ('r', 'p')
),
tree as (
    select relation.oid, false as is_child from relation
    union
    select inherits.inhrelid, tree.is_child or not child.relispartition
    from tree
    join pg_inherits as inherits on inherits.inhparent = tree.oid
    join pg_class as child on child.oid = inherits.inhrelid
),
parts as (
    select tree.oid, tree.is_child, namespace.nspname, part.relname, part.relfilenode
    from tree
    join pg_class as part on part.oid = tree.oid
    join pg_namespace as namespace on namespace.oid = part.relnamespace
),
column_contracts as (
    select
        attribute.attname::text as name,
        jsonb_build_object(
            'ty',
            case
                when type.typname = 'varchar' then 'character varying'
                when type.typname = 'numeric' and attribute.atttypmod >= 4
                    then 'numeric(,' || ((((attribute.atttypmod - 4) & 2047) # 1024) - 1024) || ')'
                else format_type(attribute.atttypid, attribute.atttypmod)
            end
            || case when type.typtype = 'd'
                then ' over ' || format_type(type.typbasetype, type.typtypmod) else '' end
            || coalesce(
                (
                    select ' of ' || string_agg(label.enumlabel, ', ' order by label.enumsortorder)
                    from pg_enum as label
                    where label.enumtypid = type.oid
                ),
                ''
            ),
            'number', attribute.attnum,
            'collation', (select collated.collname from pg_collation as collated where collated.oid = attribute.attcollation),
            'is_generated', attribute.attgenerated <> ''
        ) as contract
    from relation
    join pg_attribute as attribute on attribute.attrelid = relation.oid
    join pg_type as type on type.oid = attribute.atttypid
    where attribute.attnum > 0 and not attribute.attisdropped
),
published as (
    select
        publication.pubname::text as name,
        jsonb_build_object(
            'via_root', publication.pubviaroot,
            'generated', coalesce(to_jsonb(publication) ->> 'pubgencols', 'n') in ('s', 'true'),
            'row_filters',
            coalesce(
                jsonb_agg(distinct to_jsonb(of_table) ->> 'rowfilter')
                filter (where to_jsonb(of_table) ->> 'rowfilter' is not null),
                '[]'
            ),
            'columns',
            (
                select jsonb_agg(distinct name)
                -- a server before 15 has no list of columns: it sends all of them
                from jsonb_array_elements_text(nullif(jsonb_agg(to_jsonb(of_table) -> 'attnames') -> 0, 'null')) as names (name)
            )
        ) as contract
    from pg_publication as publication
    join pg_publication_tables as of_table on of_table.pubname = publication.pubname
    join parts on parts.nspname = of_table.schemaname and parts.relname = of_table.tablename and not parts.is_child
    group by publication.pubname, publication.pubviaroot, to_jsonb(publication) ->> 'pubgencols'
)
select
    jsonb_build_object(
        'server',
        (select system_identifier::text from pg_control_system())
        || '/' || (('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint),
        'database', current_database(),
        'relation', relation.oid::bigint,
        'storage', (select jsonb_object_agg(parts.nspname || '.' || parts.relname, parts.relfilenode::bigint) from parts),
        'columns', (select coalesce(jsonb_object_agg(name, contract), '{}') from column_contracts),
        'primary_key',
        coalesce(
            (
                select
                    string_agg(attribute.attname::text, ', ' order by place.ordinality)
                    || case when bool_or(not index.indimmediate) then ' deferrable' else '' end
                from pg_index as index
                cross join lateral unnest(index.indkey::int2[]) with ordinality as place (number, ordinality)
                join pg_attribute as attribute on attribute.attrelid = index.indrelid and attribute.attnum = place.number
                where index.indrelid = relation.oid and index.indisprimary
            ),
            ''
        ),
        'replica_identity',
        case relation.relreplident
            when 'd' then 'default'
            when 'f' then 'full'
            when 'n' then 'nothing'
            else
                'index ' || coalesce(
                    (
                        select string_agg(attribute.attname::text, ', ' order by place.ordinality)
                        from pg_index as index
                        cross join lateral unnest(index.indkey::int2[]) with ordinality as place (number, ordinality)
                        join pg_attribute as attribute
                            on attribute.attrelid = index.indrelid and attribute.attnum = place.number
                        where index.indrelid = relation.oid and index.indisreplident
                    ),
                    ''
                )
        end,
        'is_partitioned', relation.relkind = 'p',
        'children',
        (
            select coalesce(jsonb_agg(parts.nspname || '.' || parts.relname order by parts.nspname, parts.relname), '[]')
            from parts
            where parts.is_child
        ),
        'publications', (select coalesce(jsonb_object_agg(name, contract), '{}') from published),
        'row_security', row_security_active(relation.oid)
    )::text as contract,
    (pg_current_wal_insert_lsn() - '0/0')::bigint as position,
    (
        select (min(slot.confirmed_flush_lsn) - '0/0')::bigint
        from pg_replication_slots as slot
        where slot.slot_type = 'logical' and slot.database = current_database() and slot.active
    ) as flushed
from relation
