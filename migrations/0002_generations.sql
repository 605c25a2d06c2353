-- which instance of a group may write, and the episode of an alert.

-- one row per consumer group. an instance raises the generation before it begins to write; each of its transactions holds
-- the row for share and looks whether the generation is still its own. one that was stopped and goes on finds another.
create table tripline.generations (
    "group" text primary key,
    generation bigint not null,
    owner text not null,
    raised_at timestamptz not null
);

comment on table tripline.generations is 'which instance of a group writes to tripline.alerts; to be left alone while one runs';
comment on column tripline.generations.generation is 'raised by one by each instance that begins; only the newest may write';
comment on column tripline.generations.owner is 'host name and process id of the instance that raised it; nothing depends on it';
comment on column tripline.generations.raised_at is 'when it was raised';

-- null in the rows of earlier programs, whose records have none
alter table tripline.alerts add column episode text;

comment on column tripline.alerts.episode is 'the epoch in which the episode fired and its ordinal there, such as 12.0; the same for firing and resolved';
