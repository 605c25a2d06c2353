select
    publication.pubname::text as name,
    exists (
        select
        from pg_publication_tables as published
        where published.pubname = publication.pubname
            and (
                (published.schemaname = $1 and published.tablename = $2)
                or (published.schemaname, published.tablename) in (
                    select namespace.nspname, part.relname
                    from pg_class as relation
                    join pg_namespace as own on own.oid = relation.relnamespace
                    cross join lateral pg_partition_tree(relation.oid) as tree
                    join pg_class as part on part.oid = tree.relid
                    join pg_namespace as namespace on namespace.oid = part.relnamespace
                    where own.nspname = $1 and relation.relname = $2
                )
            )
    ) as has_table,
    array_remove(
        array[
            case when not publication.pubinsert then 'insert' end,
            case when not publication.pubupdate then 'update' end,
            case when not publication.pubdelete then 'delete' end
        ],
        null
    ) as leaves_out
from pg_publication as publication
order by publication.pubname
