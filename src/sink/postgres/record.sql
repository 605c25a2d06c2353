-- an alert record as on the topic, as text. what follows says which.
select json_build_object(
    'id', id,
    'group', "group",
    'lineage', lineage,
    'rule', rule,
    'rule_version', rule_version,
    'status', status,
    'severity', severity,
    'key', key,
    'episode', episode,
    'message', message,
    'stream', stream,
    'database', database,
    'having', "having",
    'window', json_build_object('from', window_from, 'to', window_to),
    'trigger', trigger,
    'confirmation', confirmation,
    'emitted_at', emitted_at,
    'reason', reason,
    'database_as_of', database_as_of,
    'evaluated_by', evaluated_by
)::text as record
from tripline.alerts
