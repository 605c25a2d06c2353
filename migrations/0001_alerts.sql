-- the table of alerts: one row per alert record, under the record's own names. an alert is never changed; its id is the
-- same on every retry.

create schema if not exists tripline;

create table tripline.alerts (
    id uuid primary key,
    "group" text not null,
    lineage text not null,
    rule text not null,
    rule_version text not null,
    status text not null,
    severity text not null,
    key jsonb not null,
    message text not null,
    stream jsonb not null,
    -- null without confirmation
    database jsonb,
    "having" text not null,
    -- null for a rule without a time bound
    window_from timestamptz,
    window_to timestamptz not null,
    -- null where time alone brought it
    trigger jsonb,
    confirmation jsonb not null,
    emitted_at timestamptz not null
);

create index alerts_by_time on tripline.alerts (emitted_at desc, id desc);
create index alerts_by_rule on tripline.alerts (rule, emitted_at desc);
create index alerts_by_key on tripline.alerts using gin (key);

comment on table tripline.alerts is 'what tripline has told: one row per firing or resolved alert';
