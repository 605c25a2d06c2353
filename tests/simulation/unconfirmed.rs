//! Alerts of a rule that nobody is asked about. Memory decides by what the topic has brought, and when is known as far as this:
//! after what the group had committed, and not after what the alert's own epoch commits. What the audit has read from the table
//! is ahead of the topic.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;
use tripline::alert::Alert;
use tripline::change::record::Content;
use tripline::change::{Change, Op};
use tripline::episode::Status;
use tripline::model::{Key, Lsn, Timestamp, Value};
use tripline::progress::Offsets;

use super::broker::State;
use super::database::{Checked, Database};

/// A row as memory holds it: its user, and its instant.
type Held = (i64, Timestamp);

/// The violation in an alert that counts rows. `offsets` are those that its epoch commits.
///
/// The alert may fire only if that many rows of the user can have been in the window. It may be resolved only if fewer
/// rows can have been there.
pub(crate) fn wrong(
    (state, database): (&State, &Database),
    offsets: &Offsets,
    rule: &Checked,
    user: i64,
    alert: &Alert,
) -> Option<String> {
    if state.partitions.values().any(|log| log.low > 0) {
        return None; // what the topic no longer has came from the table
    }
    let body: Json = serde_json::from_str(&alert.body).unwrap();
    let as_of = chrono::DateTime::parse_from_rfc3339(body["window"]["to"].as_str().unwrap()).unwrap();
    let from = as_of.timestamp_micros() - rule.window;
    let counts = |row: &Held| row.0 == user && row.1.0 >= from;
    let (mut before, mut since) = (Vec::new(), Vec::new());
    for (partition, log) in &state.partitions {
        let known = state.committed.get(partition).map_or(0, |(next, _)| next.0);
        let end = offsets.get(partition).map_or(0, |next| next.0);
        let change =
            |content: &Content| if let Content::Change(change) = content { Some(change.clone()) } else { None };
        before.extend(log.records.range(..known).filter_map(|(_, (_, content))| change(content)));
        since.extend(log.records.range(known..end.max(known)).filter_map(|(_, (_, content))| change(content)));
    }
    let (in_order, newest) = (in_order(&before), newest(&before));
    let touched: BTreeSet<&Key> = since.iter().filter_map(|change| change.pk.as_ref()).collect();
    let is_emptied = since.iter().any(|change| change.op == Op::Truncate);
    let given = database.given.borrow();
    // Where the table was read, a row must be in the table as well.
    let is_in_table = |pk: &Key, row: &Held| {
        let found = || database.table.row(pk).is_some_and(|found| held(&found) == Some(*row));
        !(given.users.contains(&user) || given.pks.contains(pk)) || found()
    };
    let is_certain = |(pk, row): (&Key, &Held)| {
        !is_emptied && counts(row) && !touched.contains(pk) && newest.get(pk) == Some(row) && is_in_table(pk, row)
    };
    let least = in_order.iter().filter(|row| is_certain(*row)).count();
    let known = in_order.iter().chain(&newest).filter(|(_, row)| counts(row)).map(|(pk, _)| pk);
    let brought = since.iter().filter(|change| row(change).is_some_and(|row| counts(&row)));
    let brought = brought.filter_map(|change| change.pk.as_ref());
    let read = given.rows.iter().filter(|row| held(&row.row).is_some_and(|row| counts(&row))).map(|row| &row.pk);
    let most = known.chain(brought).chain(read).collect::<BTreeSet<_>>().len();
    let threshold = usize::try_from(rule.threshold).unwrap();
    match alert.status {
        Status::Firing if most <= threshold => Some(format!("fires, and {most} rows can have been there at most")),
        Status::Resolved if least > threshold => Some(format!("ends, and {least} rows must have been there")),
        _ => None,
    }
}

fn row(change: &Change) -> Option<Held> {
    held(change.row.as_deref()?)
}

fn held(row: &[Value]) -> Option<Held> {
    match row {
        [Value::Int(user), _, Value::Time(at)] => Some((*user, *at)),
        _ => panic!("no row of this table"),
    }
}

/// Rows once these changes were taken in their order. Where a connector repeats itself, deleted rows come back for a while.
fn in_order(changes: &[Change]) -> BTreeMap<Key, Held> {
    let (mut held, mut floor): (BTreeMap<Key, (Lsn, Held)>, _) = (BTreeMap::new(), Lsn(0));
    for change in changes {
        let Some(lsn) = change.lsn.filter(|lsn| *lsn >= floor) else { continue };
        let Some(pk) = &change.pk else {
            floor = lsn;
            held.retain(|_, (of, _)| *of > lsn);
            continue;
        };
        if held.get(pk).is_some_and(|(of, _)| *of > lsn) {
            continue;
        }
        match row(change) {
            Some(row) => drop(held.insert(pk.clone(), (lsn, row))),
            None => drop(held.remove(pk)),
        }
    }
    held.into_iter().map(|(pk, (_, row))| (pk, row)).collect()
}

/// Rows by the newest of these changes, whatever their order.
fn newest(changes: &[Change]) -> BTreeMap<Key, Held> {
    let mut sorted: Vec<&Change> = changes.iter().filter(|change| change.lsn.is_some()).collect();
    sorted.sort_by_key(|change| (change.lsn, change.op != Op::Delete));
    in_order(&sorted.into_iter().cloned().collect::<Vec<_>>())
}
