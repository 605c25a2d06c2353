select
    slot_name::text as name,
    active,
    coalesce(wal_status, 'reserved') as wal_status,
    pg_wal_lsn_diff(
        case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end,
        coalesce(confirmed_flush_lsn, restart_lsn)
    )::bigint as lag
from pg_replication_slots
where slot_type = 'logical' and database = current_database()
order by slot_name
