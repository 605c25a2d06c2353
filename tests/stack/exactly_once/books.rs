//! Deliveries and memory, compared with each other and with SQL.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;

use rdkafka::message::{Headers, Message, OwnedMessage};
use serde::Deserialize;
use serde_json::Value as Json;
use sqlx::Row;
use tripline::alert::record::AlertRecord;
use tripline::checkpoint::Folder;
use tripline::episode::Episodes;
use tripline::model::{Key as Group, Lsn, Timestamp, Value};
use tripline::rule::evaluate::Evaluation;
use tripline::sink::postgres::stored::{self, Filter};
use tripline::unit::stored::Decisions;
use tripline::window::Trigger;

use super::run::{Run, key_of, records};
use super::script::{Key, RULES, over};

/// By rule and user, in order: status, and what the database said.
pub(super) type Told = BTreeMap<Key, Vec<(String, Json)>>;

/// Checks a group at rest, whose process has ended. Every alert was delivered once and in turn to every sink, and the
/// open episodes are SQL's answer for this instant.
pub(super) fn check(run: &mut Run, at: &str) -> Told {
    let records = records(&run.alert_topic);
    let alerts: Vec<Json> = records.iter().map(|record| serde_json::from_str(text(record)).unwrap()).collect();
    each_once(&alerts);
    in_the_table(run, &records);
    in_the_log(run, &alerts);
    bad_records_buried(run);
    let told = in_turn(&alerts);
    let firing: BTreeSet<Key> =
        told.iter().filter(|(_, told)| told.len() % 2 == 1).map(|(key, _)| key.clone()).collect();
    assert_eq!(firing, over(&mut run.feed, at), "what fires, and what SQL says");
    in_memory(run, &firing, at);
    told
}

/// Whoever sees an alert sees the group past the change that triggered it.
pub(super) fn visible_with_progress(run: &Run) {
    let alerts: Vec<Json> =
        records(&run.alert_topic).iter().map(|record| serde_json::from_str(text(record)).unwrap()).collect();
    let committed = run.committed();
    for alert in alerts.iter().filter(|alert| alert["trigger"]["offset"].is_i64()) {
        let partition = usize::try_from(alert["trigger"]["partition"].as_u64().unwrap()).unwrap();
        let next = committed[partition];
        assert!(
            alert["trigger"]["offset"].as_i64().unwrap() < next,
            "the group is at {committed:?}, and there is {alert}"
        );
    }
}

fn text(record: &OwnedMessage) -> &str {
    std::str::from_utf8(record.payload().unwrap()).unwrap()
}

fn each_once(alerts: &[Json]) {
    let ids: BTreeSet<&str> = alerts.iter().map(|alert| alert["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), alerts.len(), "an id twice on the topic");
}

/// Firing and resolved alternate, and both are of the same episode.
fn in_turn(alerts: &[Json]) -> Told {
    let mut told = Told::new();
    let mut episodes: BTreeMap<Key, Json> = BTreeMap::new();
    for alert in alerts {
        let key = key_of(alert);
        let (status, episode) = (alert["status"].as_str().unwrap(), &alert["episode"]);
        let before = told.entry(key.clone()).or_default();
        let turn = if before.len().is_multiple_of(2) { "firing" } else { "resolved" };
        assert_eq!(status, turn, "alert {} of {key:?}: {before:?}, then {alert}", before.len());
        let open = episodes.insert(key.clone(), episode.clone());
        assert_eq!(open.as_ref() == Some(episode), status == "resolved", "episodes of {key:?}: {open:?}, then {alert}");
        before.push((status.to_owned(), alert["database"].clone()));
    }
    told
}

/// The table holds the same records as the topic.
fn in_the_table(run: &mut Run, records: &[OwnedMessage]) {
    let group = run.group.clone();
    let newest = run.feed.with(async |connection| stored::newest(connection, &Filter::default(), 1_000_000).await);
    let by_id = |all: Vec<AlertRecord>| -> BTreeMap<_, _> { all.into_iter().map(|alert| (alert.id, alert)).collect() };
    let table = by_id(newest.unwrap().into_iter().filter(|alert| alert.group == group).collect());
    let topic = by_id(records.iter().map(|record| AlertRecord::parse(text(record)).unwrap()).collect());
    for (id, alert) in &topic {
        assert_eq!(table.get(id), Some(alert), "topic (right) and table (left)");
    }
    assert_eq!(table.len(), topic.len(), "more in the table than on the topic");
}

/// Lines have no id: of each as many as there are alerts that say it, or more.
fn in_the_log(run: &Run, alerts: &[Json]) {
    let mut lines: BTreeMap<String, usize> = BTreeMap::new();
    for line in run.written("out").lines() {
        *lines.entry(line.to_owned()).or_default() += 1;
    }
    let mut wanted: BTreeMap<String, usize> = BTreeMap::new();
    for alert in alerts {
        let message = alert["message"].as_str().unwrap();
        let line = if alert["status"] == "resolved" { format!("Resolved: {message}") } else { message.to_owned() };
        *wanted.entry(line).or_default() += 1;
    }
    for (line, count) in wanted {
        let found = lines.get(&line).copied().unwrap_or_default();
        assert!(found >= count, "{line:?} is in the log {found} times, on the topic {count} times");
    }
}

/// Each at least once.
fn bad_records_buried(run: &Run) {
    let number = |letter: &OwnedMessage, name: &str| -> i64 {
        let header = letter.headers().unwrap().iter().find(|header| header.key == name).unwrap();
        std::str::from_utf8(header.value.unwrap()).unwrap().parse().unwrap()
    };
    let place = |letter: &OwnedMessage| (number(letter, "tripline_partition"), number(letter, "tripline_offset"));
    let buried: BTreeSet<(i64, i64)> = records(&run.dead_letter_topic).iter().map(place).collect();
    assert_eq!(buried, run.feed.bad.iter().copied().collect(), "dead letters");
}

/// `state/N` of one rule, as far as it matters here.
#[derive(Deserialize)]
struct StoredRule {
    episodes: Episodes,
    window: StoredWindow,
}

#[derive(Deserialize)]
struct StoredWindow {
    _floor: Option<Lsn>,
    _loaded_at: Option<Lsn>,
    _deleted: Vec<(Group, NonZeroU64)>,
    groups: Vec<StoredGroup>,
}

#[derive(Deserialize)]
struct StoredGroup {
    key: Group,
    _event_time: Timestamp,
    _verdict: Evaluation,
    _judged: Evaluation,
    _since: Option<Box<Trigger>>,
    _unseen: Vec<u32>,
    rows: Vec<StoredRow>,
}

#[derive(Deserialize)]
struct StoredRow {
    pk: Group,
    time: Timestamp,
    _version: Option<NonZeroU64>,
    args: Vec<Value>,
}

/// Rule, user, row, time in microseconds, cents.
type Held = BTreeSet<(String, i64, i64, i64, i64)>;

/// Checks the memory of the last process: its rows and totals are the table's, and its episodes are those that were
/// delivered.
fn in_memory(run: &mut Run, firing: &BTreeSet<Key>, at: &str) {
    let folder = Folder::open(&run.checkpoints(), &run.group).unwrap();
    let epoch = folder.newest_epoch::<Decisions>().unwrap().unwrap();
    let (head, body) = folder.newest_state().unwrap().expect("the state at the end");
    assert_eq!(head.epoch, epoch.number, "the state is of the last epoch");
    let next: Vec<i64> = epoch.offsets.values().map(|next| next.0).collect();
    assert_eq!(next, run.feed.ends, "the newest epoch's offsets");
    assert!(folder.unfinished::<Decisions>().unwrap().is_empty(), "unfinished epochs");

    let rules: Vec<StoredRule> = postcard::from_bytes(&body).unwrap();
    let bounds = run.feed.rows(&format!(
        "SELECT {}",
        RULES
            .map(|(_, window, _)| format!("{}::bigint", micros(&format!("'{at}'::timestamptz - interval '{window}'"))))
            .join(", ")
    ));
    let (mut memory, mut open) = (Held::new(), BTreeSet::new());
    for (index, ((name, _), stored)) in head.rules.iter().zip(&rules).enumerate() {
        open.extend(stored.episodes.firing().map(|key| (name.clone(), int(key))));
        for group in &stored.window.groups {
            for row in &group.rows {
                let [Value::Decimal(cents)] = row.args.as_slice() else { panic!("{:?}", row.args) };
                // Stored with the last epoch; since then only time has passed.
                if row.time.0 >= bounds[0].get::<i64, _>(index) {
                    let cents = i64::try_from(*cents).unwrap();
                    memory.insert((name.clone(), int(&group.key), int(&row.pk), row.time.0, cents));
                }
            }
        }
    }
    assert_eq!(open, *firing, "open episodes in memory, and on the topic");

    let mut table = Held::new();
    for (name, window, _) in RULES {
        let sql = format!(
            "SELECT user_id, id, {}::bigint AS at, (amount * 100)::bigint AS cents FROM {}.transactions
             WHERE timestamp >= '{at}'::timestamptz - interval '{window}'",
            micros("timestamp"),
            run.feed.schema
        );
        let row = |row: &sqlx::postgres::PgRow| {
            (name.to_owned(), row.get("user_id"), row.get("id"), row.get("at"), row.get("cents"))
        };
        table.extend(run.feed.rows(&sql).iter().map(row));
    }
    let missing: Vec<_> = table.difference(&memory).collect();
    let extra: Vec<_> = memory.difference(&table).collect();
    assert!(missing.is_empty() && extra.is_empty(), "memory lacks {missing:?}, and has beyond the table {extra:?}");
}

fn micros(time: &str) -> String {
    format!("(extract(epoch FROM {time}) * 1000000)")
}

fn int(key: &Group) -> i64 {
    match key {
        Group::Int(number) => *number,
        other => panic!("{other:?}"),
    }
}
