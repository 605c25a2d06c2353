-- who has evaluated the rule.

-- null in the rows of earlier programs, whose records have none
alter table tripline.alerts add column evaluated_by text;
-- null but in resolved alerts of rules that postgres alone evaluates
alter table tripline.alerts add column database_as_of timestamptz;
-- null where postgres alone evaluates the rule
alter table tripline.alerts alter column stream drop not null;
alter table tripline.alerts alter column "having" drop not null;

comment on column tripline.alerts.database_as_of is 'when the query returned what stands in database, where that is before the confirmation';
comment on column tripline.alerts.evaluated_by is 'memory; or postgres, for the keys that a change touched (touched) or for all keys (whole)';
