-- $1: alert records, json text. an alert that is there already stays as it is.
insert into tripline.alerts (
    id, "group", lineage, rule, rule_version, status, severity, key, message, stream, database, "having",
    window_from, window_to, trigger, confirmation, emitted_at, episode, reason, database_as_of, evaluated_by
)
select
    (alert ->> 'id')::uuid,
    alert ->> 'group',
    alert ->> 'lineage',
    alert ->> 'rule',
    alert ->> 'rule_version',
    alert ->> 'status',
    alert ->> 'severity',
    alert -> 'key',
    alert ->> 'message',
    nullif(alert -> 'stream', 'null'),
    nullif(alert -> 'database', 'null'),
    alert ->> 'having',
    (alert -> 'window' ->> 'from')::timestamptz,
    (alert -> 'window' ->> 'to')::timestamptz,
    nullif(alert -> 'trigger', 'null'),
    alert -> 'confirmation',
    (alert ->> 'emitted_at')::timestamptz,
    alert ->> 'episode',
    alert ->> 'reason',
    (alert ->> 'database_as_of')::timestamptz,
    alert ->> 'evaluated_by'
from unnest($1::text[]) as body, lateral (select body::jsonb) as record (alert)
on conflict (id) do nothing
