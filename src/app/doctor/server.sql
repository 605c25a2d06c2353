select
    current_database()::text as database,
    current_setting('server_version') as version,
    current_user::text as role,
    pg_is_in_recovery() as standby,
    current_setting('wal_level') as wal_level,
    (extract(epoch from clock_timestamp()) * 1000000)::bigint as now_micros
