-- of a partitioned table each partition has an identity of its own
with holders as (
    select holder.oid, holder.relreplident
    from pg_class as relation
    join pg_namespace as namespace on namespace.oid = relation.relnamespace
    cross join lateral (
        select relation.oid as relid
        union
        select tree.relid from pg_partition_tree(relation.oid) as tree where tree.isleaf
    ) as part
    join pg_class as holder on holder.oid = part.relid and holder.relkind = 'r'
    where namespace.nspname = $1
      and relation.relname = $2
)
select
    current_database()::text as database,
    exists (
        select
        from holders as holder
        join pg_index as identity on identity.indrelid = holder.oid and identity.indisreplident
        join pg_index as primary_key on primary_key.indrelid = holder.oid and primary_key.indisprimary
        where holder.relreplident = 'i'
          and not (primary_key.indkey::int2[] <@ identity.indkey::int2[])
    ) as key_is_made_up,
    coalesce((select bool_and(relreplident = 'f') from holders), false) as is_full
