-- row filters and column lists are read as json: servers before 15 do not have them, nor those before 18 generated columns.
with own as (
    -- the table, its partitions, and what it is a partition of
    select $1::name as schema, $2::name as name
    union
    select namespace.nspname, part.relname
    from pg_class as relation
    join pg_namespace as parent on parent.oid = relation.relnamespace
    cross join lateral (
        select tree.relid from pg_partition_tree(relation.oid) as tree
        union
        select ancestor.relid from pg_partition_ancestors(relation.oid) as ancestor
    ) as related
    join pg_class as part on part.oid = related.relid
    join pg_namespace as namespace on namespace.oid = part.relnamespace
    where parent.nspname = $1::name and relation.relname = $2::name
), published as (
    select tables.pubname, to_jsonb(tables) as told
    from pg_publication_tables as tables
    where (tables.schemaname, tables.tablename) in (select own.schema, own.name from own)
)
select
    publication.pubname::text as name,
    coalesce(of_table.tables, 0) > 0 as has_table,
    array_remove(
        array[
            case when not publication.pubinsert then 'insert' end,
            case when not publication.pubupdate then 'update' end,
            case when not publication.pubdelete then 'delete' end
        ],
        null
    ) as leaves_out,
    publication.pubviaroot as via_root,
    of_table.row_filter,
    of_table.columns,
    coalesce(to_jsonb(publication) ->> 'pubgencols', 'n') not in ('n', 'false') as sends_generated
from pg_publication as publication
left join lateral (
    select
        count(*) as tables,
        string_agg(distinct published.told ->> 'rowfilter', ' or ') as row_filter,
        case
            when bool_and(coalesce(jsonb_typeof(published.told -> 'attnames') = 'array', false)) then array(
                -- those that are sent of each of its partitions
                select sent.name
                from published as each_table
                cross join lateral jsonb_array_elements_text(each_table.told -> 'attnames') as sent (name)
                where each_table.pubname = publication.pubname
                group by sent.name
                having count(*) = (select count(*) from published as all_tables where all_tables.pubname = publication.pubname)
            )
        end as columns
    from published
    where published.pubname = publication.pubname
) as of_table on true
order by publication.pubname
