//! The invariants at every time and after quiet, and the delivered alerts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value as Json;
use tripline::alert::Alert;
use tripline::episode::Status;
use tripline::model::{Key, Timestamp};
use tripline::progress::{EpochRef, Offsets};
use tripline::rule::Confirm;
use tripline::snapshot::Snapshot;

use super::broker::{Pending, State};
use super::database::{Checked, RULES, Row, USERS_FROM, cents};
use super::unconfirmed;
use super::world::{DIR, GROUP, World};

/// An alert, as far as it is the same in every run: rule, user, whether it fires, and the transaction that brought it.
pub(crate) type Delivered = (String, i64, bool, Option<u64>);

fn user(alert: &Alert) -> i64 {
    match alert.key {
        Key::Int(user) => user,
        Key::Values(_) => panic!("{alert:?}"),
    }
}

fn rule(alert: &Alert) -> &'static Checked {
    RULES.iter().find(|rule| rule.name == alert.rule).unwrap()
}

/// Within this time an end is delivered that time has brought.
const SETTLED_MICROS: i64 = 5_000_000;

/// The alerts that were delivered, in order.
pub(crate) fn alerts(world: &World) -> Vec<Delivered> {
    let summary = |alert: &Alert| {
        let body: Json = serde_json::from_str(&alert.body).unwrap();
        (alert.rule.clone(), user(alert), alert.status == Status::Firing, body["trigger"]["tx_id"].as_u64())
    };
    world.broker.state().alerts.iter().map(summary).collect()
}

/// A transaction is about to be visible: what it brings is all of an epoch that is durable where it was decided.
pub(crate) fn committed(world: &World, state: &State, machine: usize, pending: &Pending) {
    let Some(progress) = &pending.progress else {
        return world.violation("a transaction without progress is committed".to_owned());
    };
    let Some((offsets, name)) = &pending.offsets else {
        return world.violation("a transaction is committed without the group's offsets".to_owned());
    };
    if *name != progress.name || *offsets != progress.offsets {
        return world
            .violation(format!("the group's offsets are those of {name}, the progress that of {}", progress.name));
    }
    let named = EpochRef::parse(name).unwrap();
    let path = Path::new(DIR).join(GROUP).join("offsets").join(named.epoch.to_string());
    let machine = (machine, &world.machines[machine]);
    let lost = machine.1.lost.borrow();
    let found = std::iter::once(&*machine.1.disk.borrow()).chain(&*lost).find_map(|disk| disk.durable(&path));
    let Some(bytes) = found else {
        return world.violation(format!("{name} is committed, and not durable on machine {}", machine.0));
    };
    let text = String::from_utf8(bytes).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let crc = lines.last().and_then(|line| line.split(|c: char| !c.is_ascii_hexdigit()).rfind(|part| !part.is_empty()));
    let content: String = lines[..lines.len() - 1].iter().flat_map(|line| [line, "\n"]).collect();
    if crc.and_then(|crc| u32::from_str_radix(crc, 16).ok()) != Some(named.crc)
        || crc32fast::hash(content.as_bytes()) != named.crc
    {
        return world
            .violation(format!("{name} is committed, and what is durable is another file: {:?}", lines.last()));
    }
    let head: Json = serde_json::from_str(lines[1]).unwrap();
    if head["lineage"] != named.lineage.as_str() {
        return world.violation(format!("{name} is committed, and what is durable is of another lineage"));
    }
    let topics: BTreeMap<String, BTreeMap<i32, i64>> = serde_json::from_str(lines[2]).unwrap();
    let logged: BTreeMap<i32, i64> = topics.into_values().next().unwrap_or_default();
    let committed: BTreeMap<i32, i64> = offsets.iter().map(|(partition, next)| (*partition, next.0)).collect();
    if logged != committed {
        return world.violation(format!("{name} is committed with offsets {committed:?}, and durable with {logged:?}"));
    }
    for (partition, (next, _)) in &state.committed {
        if offsets.get(partition).is_none_or(|new| new < next) {
            world.violation(format!("{name}: partition {partition} of the group goes back from {}", next.0));
        }
        let log = &state.partitions[partition];
        if offsets.get(partition).is_some_and(|new| new.0 > log.high) {
            world.violation(format!("{name}: partition {partition} is committed past its end"));
        }
        let dead_letters: BTreeSet<i64> =
            state.dead.iter().filter(|l| l.position.partition == *partition).map(|l| l.position.offset).collect();
        let new = offsets.get(partition).map_or(0, |new| new.0);
        for (offset, (_, content)) in log.records.range(next.0.min(new)..new) {
            if matches!(content, tripline::change::record::Content::Rejected(_)) && !dead_letters.contains(offset) {
                world.violation(format!("{name}: committed past {partition}/{offset}, which is no dead letter"));
            }
        }
    }
    // All alerts of the epoch, or (said again) none.
    let body: Json = serde_json::from_str(lines[3]).unwrap();
    let logged: Vec<&str> =
        body["alerts"].as_array().unwrap().iter().map(|alert| alert["id"].as_str().unwrap()).collect();
    let brought: Vec<String> = pending.alerts.iter().map(|alert| alert.id.to_string()).collect();
    let is_there = |id: &&str| state.alerts.iter().any(|alert| alert.id.to_string() == **id);
    if brought != logged && !(brought.is_empty() && logged.iter().all(is_there)) {
        world.violation(format!("{name} is committed with alerts {brought:?}, and durable with {logged:?}"));
    }
    if brought.len() > pending.episodes.iter().map(|episode| episode.alerts.len()).sum() {
        world.violation(format!("{name} is committed without the episodes of its alerts"));
    }
    for alert in &pending.alerts {
        one(world, state, alert, offsets);
    }
}

/// An alert is about to be visible.
fn one(world: &World, state: &State, alert: &Alert, offsets: &Offsets) {
    let line = format!("{} {}", alert.record_key, alert.status.as_str());
    if state.alerts.iter().any(|other| other.id == alert.id) {
        world.violation(format!("{line} is delivered twice"));
    }
    let body: Json = serde_json::from_str(&alert.body).unwrap();
    if rule(alert).confirm == Confirm::Off {
        // Memory alone has decided. Where the topic has not all of the table, there is nothing to hold it against.
        let is_whole = world.plan.shape.bad == 0 && world.plan.shape.unpublished == 0;
        let topic_and_table = (state, &*world.database);
        if is_whole && let Some(wrong) = unconfirmed::wrong(topic_and_table, offsets, rule(alert), user(alert), alert) {
            world.violation(format!("{line} {wrong}"));
        }
        return;
    }
    let text = body["confirmation"]["snapshot"].as_str().unwrap();
    let as_of = body["confirmation"]["as_of"].as_str().unwrap();
    let as_of = chrono::DateTime::parse_from_rfc3339(as_of).unwrap().timestamp_micros();
    if as_of > world.now().0 + 1_000 || as_of < 1_795_341_600_000_000 {
        world.violation(format!("{line} is as of {as_of} µs, and it is {} µs", world.now().0));
    }
    let rows = world.database.at(&Snapshot::parse(text).unwrap());
    let (count, sum, holds) = rule(alert).evaluate(rows.values(), user(alert), Timestamp(as_of));
    if holds != (alert.status == Status::Firing) {
        world.violation(format!("{line} is not true at {text}: {count} rows, {sum} cents"));
    }
    let shown = (body["database"]["transactions"].as_u64(), body["database"]["total"].as_str().map_or(0, cents));
    if shown != (Some(count), sum) {
        world.violation(format!("{line} shows {shown:?} at {text}, and there are {count} rows, {sum} cents"));
    }
}

/// Open episodes by rule and user, from the delivered alerts. Each episode fires and is resolved in turn.
fn open(world: &World) -> BTreeSet<(String, i64)> {
    let mut open = BTreeMap::new();
    for alert in &world.broker.state().alerts {
        let key = (alert.rule.clone(), user(alert));
        let line = format!("{} {}", alert.record_key, alert.status.as_str());
        match (alert.status, open.remove(&key)) {
            (Status::Firing, None) => drop(open.insert(key, alert.episode)),
            (Status::Resolved, Some(episode)) if episode == alert.episode => {}
            (_, held) => world.violation(format!("{line} of episode {} comes after {held:?}", alert.episode)),
        }
    }
    open.into_keys().collect()
}

/// Open episodes are what the query answers over the table.
pub(crate) fn after_quiet(world: &World, when: &str) {
    if !world.violations.borrow().is_empty() {
        return;
    }
    let (rows, now): (Vec<Row>, _) = (world.database.rows(), world.now());
    let users: BTreeSet<i64> = (1..=20).map(|number| USERS_FROM + number).collect();
    // Of a row that has left a moment ago Postgres may still be asked.
    let before = Timestamp(now.0 - SETTLED_MICROS);
    let (mut want, mut is_moving) = (BTreeSet::new(), BTreeSet::new());
    for rule in &RULES {
        for user in &users {
            let holds = |now| rule.evaluate(rows.iter(), *user, now).2;
            let key = (rule.name.to_owned(), *user);
            if holds(now) != holds(before) {
                is_moving.insert(key);
            } else if holds(now) {
                want.insert(key);
            }
        }
    }
    let open: BTreeSet<_> = open(world).into_iter().filter(|key| !is_moving.contains(key)).collect();
    if open != want {
        let (more, less) = (open.difference(&want), want.difference(&open));
        world.violation(format!(
            "{when}: open are {:?} too many, and {:?} are missing",
            more.collect::<Vec<_>>(),
            less.collect::<Vec<_>>()
        ));
    }
}

/// How far the stream may be behind before drift is accepted. What Postgres refutes for four seconds is read from the
/// table and reported as drift, even if only the stream is behind.
const PATIENCE_MS: u64 = 3_000;

/// The state when everything was settled.
#[derive(Clone, Copy)]
pub(crate) struct Settled {
    /// Processes that had worked.
    processes: usize,
    drifts: u64,
    heals: u64,
}

impl Settled {
    pub(crate) fn of(world: &World) -> Self {
        let processes = world.statuses.borrow().len();
        Self { processes, drifts: drifts(world, 0), heals: world.database.heals.get() }
    }
}

/// Checks that every delivery is everywhere. Memory may have drifted only if the topic does not have all changes of the
/// table, and not in a process whose windows came from the table.
pub(crate) fn at_the_end(world: &World, before: Settled) {
    let ids = |alerts: &mut dyn Iterator<Item = &Alert>| alerts.map(|alert| (alert.id, alert.body.clone())).collect();
    let topic: BTreeSet<_> = ids(&mut world.broker.state().alerts.iter());
    let table: BTreeSet<_> = ids(&mut world.delivered.table.borrow().values());
    let log: BTreeSet<_> = ids(&mut world.delivered.log.borrow().iter());
    for (name, of) in [("table", table), ("log", log)] {
        if of != topic {
            let (more, less) = (of.difference(&topic).count(), topic.difference(&of).count());
            world.violation(format!("the {name} has {more} alerts that the topic has not, and lacks {less}"));
        }
    }
    if world.plan.shape.bad > 0 {
        return;
    }
    let is_whole = world.plan.shape.unpublished == 0;
    let drifts = if !is_whole {
        drifts(world, before.processes)
    } else if world.connector.behind.get() > PATIENCE_MS {
        drifts(world, 0) - before.drifts
    } else {
        drifts(world, 0)
    };
    let heals = world.database.heals.get() - before.heals;
    if drifts > 0 {
        world.violation(format!("memory has drifted {drifts} times"));
    } else if heals > 0 && is_whole {
        world.violation(format!("the rows of keys that have not drifted were read {heals} times"));
    }
}

/// How often memory was found to differ from the table, by processes from this one on.
fn drifts(world: &World, first: usize) -> u64 {
    world.statuses.borrow().iter().skip(first).map(|status| status.snapshot().audit.drifts).sum()
}

/// An alert reaches the table and the log: readers of committed records have it.
pub(crate) fn delivered(world: &World, alerts: &[Alert]) {
    let state = world.broker.state();
    for alert in alerts {
        if !state.alerts.iter().any(|other| other.id == alert.id && other.body == alert.body) {
            world.violation(format!("{} is delivered, and was not committed", alert.record_key));
        }
    }
}
