-- why an episode is over.

-- null in firing alerts, and in the rows of earlier programs, whose records have none
alter table tripline.alerts add column reason text;

comment on column tripline.alerts.reason is 'why the episode is over: condition, time, healed, rule_removed or rule_changed; null in a firing alert';
