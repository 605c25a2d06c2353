//! The rows of a rule's windows, by primary key and by group, with running aggregates. Pure.
//!
//! Applying a change is an idempotent upsert: it removes the contribution of the row's old version and adds that of the
//! new one. A duplicate changes nothing. A retraction does not use the `before` image, which Debezium makes up under
//! REPLICA IDENTITY DEFAULT. The cost of a change does not grow with the window.
//!
//! - this file: applying changes, evaluation
//! - [`held`]: adding and removing rows
//! - [`edges`]: changes that time alone makes
//! - [`audit`]: what an audit compares with the table
//! - [`reload`]: replacing rows from the table, and truncates
//! - [`version`]: which of two versions of a row is the newer one
//! - [`unseen`]: the transactions that the database may not show yet
//! - [`stored`]: the shape of a window in `state/N`
//! - [`trigger`]: the change that caused an evaluation
//! - [`touch`]: the keys of a rule that Postgres alone evaluates
//! - [`top`]: the groups nearest to their threshold
//! - [`watch`]: groups that wait for an answer, and removing empty groups
//! - [`packed`]: storage of rows, [`arena`]: storage of groups, [`rows`]: the rows of a group, [`index`]: look-up by
//!   key

mod arena;
mod audit;
#[cfg(debug_assertions)]
mod damage;
mod edges;
mod held;
mod index;
mod packed;
mod reload;
mod rows;
mod stored;
mod top;
mod touch;
mod trigger;
mod unseen;
mod version;
mod watch;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};

use arena::Arena;
use audit::Quiet;
use held::time_of;
use index::Index;
use packed::Packed;
use rows::{OtherPlaces, Rows};
use unseen::Unseen;
use version::Version;

use crate::change::{Change, Op};
use crate::episode::Reason;
use crate::model::{Key, Lsn, Position, Timestamp};
use crate::planted;
use crate::rule::Time;
use crate::rule::evaluate::{EdgeTimes, Evaluation, Moments, Parts, Program, Running};
use crate::snapshot::Snapshot;

pub use audit::Fingerprint;
pub use stored::{StoredWindow, StoredWindow2};
pub use top::Standing;
pub use touch::TOUCHED_MAX;
pub use trigger::{GRACE_MICROS, Trigger};

/// A group whose evaluation has changed since it was last evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The group.
    pub key: Key,
    /// The current evaluation.
    pub evaluation: Evaluation,
    /// NOW() for this evaluation.
    pub now: Timestamp,
    /// The change that caused it. `None`: time alone did.
    pub trigger: Option<Box<Trigger>>,
    /// The reason, for an episode that this ends.
    pub reason: Reason,
    /// The aggregates at that moment, as an alert shows them.
    pub outputs: serde_json::Map<String, serde_json::Value>,
}

/// The result of applying a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Applied {
    /// The window already holds a newer version of the row: a duplicate.
    Stale,
    /// The window now holds the change, or had nothing of that row to change.
    Taken,
    /// The record lacks values that the window needs. They have to be read from the table.
    Incomplete,
}

#[derive(Debug)]
struct Group {
    key: Key,
    rows: Rows,
    /// The edges at which `running` was calculated. Rows before the left edge are held but not counted in `running`.
    edges: EdgeTimes,
    running: Running,
    /// The greatest event time seen. It is NOW() under `time = "event"`.
    event_time: Timestamp,
    evaluation: Evaluation,
    /// The evaluation when the group was last evaluated.
    evaluated: Evaluation,
    /// The change that brought `evaluation` about.
    since: Option<Box<Trigger>>,
    /// Why `evaluation` is what it is.
    reason: Reason,
    /// Whether the group is listed for the next evaluation.
    touched: bool,
    /// Whether every evaluation returns a transition for it, changed or not.
    watched: bool,
    /// When its oldest row leaves the window. The entry of `edges` with this time is the valid one.
    edge: Option<Timestamp>,
    /// Transactions that were applied to the group and that a statement may not show yet.
    unseen: Unseen,
}

/// The windows of one rule.
#[derive(Debug)]
pub struct Window {
    program: Program,
    time: Time,
    /// The edges at the last NOW() that was asked for.
    moments: Option<Moments>,
    rows: Packed,
    /// For rows that are compared with NOW() by more than the time bound: their further places in time.
    others: OtherPlaces,
    by_pk: Index,
    groups: Arena<Group>,
    by_key: Index,
    hasher: foldhash::fast::RandomState,
    /// The LSN of a truncate. Changes before it are of rows that no longer exist.
    floor: Option<Lsn>,
    /// The transactions of truncates. They concern every key, also one whose rows come later, from another partition.
    truncates: Unseen,
    /// The WAL position before rows were loaded from the table. The loaded rows contain nothing that was truncated
    /// before it.
    loaded_at: Option<Lsn>,
    /// The versions of deleted rows, while older changes of them may still come from other partitions.
    deleted: Option<HashMap<Key, Version>>,
    /// Rows that a truncate may have taken.
    in_doubt: Vec<Key>,
    /// Groups that an audit watches and that no change has touched since.
    quiet: BTreeMap<Key, Quiet>,
    touched: Vec<u32>,
    /// When time alone will change a group, because its oldest row leaves. Entries that are no longer valid for their
    /// group are skipped.
    edges: BinaryHeap<Reverse<(Timestamp, u32)>>,
    /// Every statement still to be answered shows at least this state of the database.
    seen: Option<Snapshot>,
    /// Groups without rows that are kept until a snapshot shows the transactions that emptied them.
    emptied: BTreeSet<u32>,
    /// Whether a group with a transition gets one at every further change, until [`Window::watch`] says that nothing
    /// waits for an answer.
    watches_named: bool,
    /// Transitions that have not been fetched yet, where every change is evaluated at its own instant.
    transitions: Vec<Transition>,
    /// For rules that Postgres alone evaluates: whether changes have touched keys that are not known here.
    has_missed: bool,
}

impl Window {
    /// Creates an empty window for a rule.
    pub fn new(program: Program, time: Time) -> Self {
        Self {
            rows: Packed::new(program.held_values()),
            program,
            time,
            moments: None,
            others: OtherPlaces::default(),
            by_pk: Index::new(),
            groups: Arena::new(),
            by_key: Index::new(),
            hasher: foldhash::fast::RandomState::default(),
            floor: None,
            truncates: Unseen::default(),
            loaded_at: None,
            deleted: None,
            in_doubt: Vec::new(),
            quiet: BTreeMap::new(),
            touched: Vec::new(),
            edges: BinaryHeap::new(),
            seen: None,
            emptied: BTreeSet::new(),
            watches_named: false,
            transitions: Vec::new(),
            has_missed: false,
        }
    }

    /// The number of rows held.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// The number of groups held.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Starts or stops remembering deleted rows. While a topic of several partitions is read from long ago, an older
    /// change of a row may come after its delete, from another partition.
    pub fn remember_deletes(&mut self, remember: bool) {
        self.deleted = remember.then(|| self.deleted.take().unwrap_or_default());
    }

    /// Applies one change. `now` is NOW() of the micro-batch under processing time. `position` is the record's
    /// position.
    pub fn apply(&mut self, change: &Change, position: Position, now: Timestamp) -> Applied {
        self.apply_of(0, change, position, now)
    }

    /// Applies a change of the table at this place. The table of the query is at place 0. Only a rule that Postgres
    /// alone evaluates has others.
    pub fn apply_of(&mut self, place: usize, change: &Change, position: Position, now: Timestamp) -> Applied {
        if self.program.is_of_postgres() {
            self.touch(place, change, position, now);
            return Applied::Taken;
        }
        let version = match change.op {
            Op::Read => change.lsn.and_then(Version::read),
            Op::Tombstone => None,
            op => change.lsn.and_then(|lsn| Version::streamed(lsn, op)),
        };
        if version.is_some_and(|version| self.is_truncated(version)) {
            return Applied::Stale;
        }
        if change.op == Op::Truncate {
            self.truncate(change, position, now);
            return Applied::Taken;
        }
        let Some(pk) = &change.pk else { return Applied::Taken };
        let held = self.find_row(pk);
        if change.op == Op::Tombstone {
            // The preceding delete has already removed the row. If not, the tombstone is of another table, or the
            // delete was compacted.
            return if held.is_some() { Applied::Incomplete } else { Applied::Taken };
        }
        let held_version = held.and_then(|row| self.rows.get(row)).and_then(|row| row.version());
        let known = held_version.or_else(|| self.deleted.as_ref().and_then(|deleted| deleted.get(pk).copied()));
        if let (Some(new), Some(known)) = (version, known)
            && new.is_stale(known)
        {
            return Applied::Stale;
        }
        if let Some(deleted) = &mut self.deleted {
            match version.filter(|_| change.op == Op::Delete) {
                Some(version) => drop(deleted.insert(pk.clone(), version)),
                None => drop(deleted.remove(pk)),
            }
        }
        let (parts, is_complete) = self.parts(change, held);
        let event_time = parts.as_ref().and_then(|parts| parts.time).filter(|_| self.program.is_bounded());
        let event_time = event_time.map(|time| self.program.instant(time));
        let trigger = || Trigger::new(change, position, event_time);
        let is_kept = planted::bug("old-row-kept") || planted::bug("delete-ignored") && parts.is_none();
        let is_older_than_table = version.is_some_and(|version| self.is_older_than_table(version));
        let is_in_doubt = held.is_none() && known.is_none() && is_older_than_table;
        let version = Version::after(version, held_version);
        let amended = match (held, &parts) {
            (Some(row), Some(parts)) if !is_kept => self.amend(row, pk, parts, version, now, change.committed_at),
            _ => None,
        };
        let (left, joined) = match amended {
            Some(group) => (None, Some(group)),
            None => {
                let left = held.filter(|_| !is_kept).and_then(|row| self.take_out(row));
                (left, parts.and_then(|parts| self.put_in(pk, parts, version, now, change.committed_at)))
            }
        };
        if let Some(group) = left.filter(|left| joined != Some(*left) && !planted::bug("left-key-not-evaluated")) {
            self.settle(group, now, change.tx_id, &trigger);
        }
        if let Some(group) = joined {
            self.settle(group, now, change.tx_id, &trigger);
        }
        let is_in_doubt = is_in_doubt && joined.is_some() || self.may_be_truncated(change, held_version);
        if is_complete && !is_in_doubt { Applied::Taken } else { Applied::Incomplete }
    }

    /// Returns the values of the changed row that the window holds, and whether the change has all of them. `held`: the
    /// previous row.
    fn parts(&self, change: &Change, held: Option<u32>) -> (Option<Parts>, bool) {
        let Some(row) = change.row.as_deref() else { return (None, true) };
        if change.holes.iter().all(|hole| !self.program.reads(hole.slot)) {
            return (Some(self.program.parts(row)), true);
        }
        let held = held.and_then(|row| self.rows.get(row));
        let held = held.and_then(|row| {
            let parts = Parts { key: Key::Int(0), time: Some(row.time()), args: row.args() };
            Some((&self.groups.get(row.group())?.key, parts))
        });
        self.program.parts_of(row, &change.holes, held.as_ref().map(|(key, parts)| (*key, parts)))
    }

    /// Evaluates each touched group once at `now`. Under event time each change was evaluated at its own instant.
    /// Returns a transition for each group that is watched or whose evaluation has changed. A group that memory cannot
    /// evaluate gets one whenever it was touched.
    pub fn evaluate_touched(&mut self, now: Timestamp) -> Vec<Transition> {
        let mut transitions = std::mem::take(&mut self.transitions);
        for group in std::mem::take(&mut self.touched) {
            if self.time == Time::Processing {
                let named = self.evaluate_group(group, now);
                // The group of a transition is kept until it is known whether it waits for an answer: see `watch`.
                if named.is_none() {
                    self.drop_if_empty(group);
                }
                transitions.extend(named);
            } else if let Some(group) = self.groups.get_mut(group) {
                group.touched = false;
            }
        }
        transitions
    }

    /// Evaluates every group at `now`, for example after the windows were rebuilt. Returns a transition for each group
    /// for which HAVING holds or that memory cannot evaluate, whatever the previous evaluation was. The order is that
    /// of the keys' text, so it does not depend on hashing.
    pub fn evaluate_all(&mut self, now: Timestamp) -> Vec<Transition> {
        self.transitions.clear();
        self.touched.clear();
        let groups: Vec<u32> = self.groups.iter().map(|(group, _)| group).collect();
        let mut transitions = Vec::new();
        for group in groups {
            if let Some(group) = self.groups.get_mut(group) {
                group.evaluated = Evaluation::Fails;
            }
            let named = self.evaluate_group(group, now);
            if named.is_none() {
                self.drop_if_empty(group);
            }
            transitions.extend(named);
        }
        transitions.sort_by_cached_key(|transition| format!("{:?}", transition.key));
        transitions
    }

    /// Lists a group for the next evaluation.
    fn list(&mut self, index: u32) {
        if let Some(group) = self.groups.get_mut(index)
            && !std::mem::replace(&mut group.touched, true)
        {
            self.touched.push(index);
        }
    }

    /// Returns the evaluation of a group at `now` by memory, and its aggregates as an alert shows them.
    pub fn evaluate(&mut self, key: &Key, now: Timestamp) -> (Evaluation, serde_json::Map<String, serde_json::Value>) {
        if self.program.is_of_postgres() {
            return (Evaluation::Unknown, serde_json::Map::new());
        }
        let Some(index) = self.find_group(key) else {
            return (
                Evaluation::Fails,
                self.program.outputs(&self.program.start(), &self.program.moments(now).edges()),
            );
        };
        if self.time == Time::Processing {
            self.evict(index, now);
        }
        let Some(group) = self.groups.get_mut(index) else { return (Evaluation::Fails, serde_json::Map::new()) };
        let evaluation = self.program.evaluate(&group.running, &group.edges);
        if evaluation != group.evaluation {
            // Time alone caused it. The next evaluation returns the transition.
            (group.evaluation, group.since, group.reason) = (evaluation, None, Reason::Time);
            group.edge = Some(now);
            self.edges.push(Reverse((now, index)));
        }
        (evaluation, self.program.outputs(&group.running, &group.edges))
    }

    fn evaluate_group(&mut self, index: u32, now: Timestamp) -> Option<Transition> {
        if self.time == Time::Processing {
            self.evict(index, now);
        }
        let group = self.groups.get_mut(index)?;
        group.touched = false;
        let evaluation = self.program.evaluate(&group.running, &group.edges);
        if evaluation != group.evaluation {
            // Rows left by time after the last change, so no change is named as the cause.
            (group.evaluation, group.since, group.reason) = (evaluation, None, Reason::Time);
        }
        if evaluation == group.evaluated && evaluation != Evaluation::Unknown && !group.watched {
            return None;
        }
        group.evaluated = evaluation;
        let now = if self.time == Time::Event { group.event_time } else { now };
        let outputs = self.program.outputs(&group.running, &group.edges);
        // Time changes nothing for a rule that does not use it.
        let is_timed = self.program.is_timed();
        let reason = if group.reason == Reason::Time && !is_timed { Reason::Healed } else { group.reason };
        Some(Transition { key: group.key.clone(), evaluation, now, trigger: group.since.clone(), reason, outputs })
    }

    /// Follows a change of a group: evicts the rows that have left its window, and evaluates it again.
    fn settle(&mut self, index: u32, now: Timestamp, tx_id: Option<u32>, trigger: &impl Fn() -> Trigger) {
        let Some(group) = self.groups.get(index) else { return };
        let now = if self.time == Time::Event { group.event_time } else { now };
        let by_change = self.program.evaluate(&group.running, &group.edges);
        self.evict(index, now);
        self.schedule(index, now);
        let Some(group) = self.groups.get_mut(index) else { return };
        if let Some(tx_id) = tx_id {
            group.unseen.push(tx_id, self.seen.as_ref());
        }
        Self::touched(&mut self.quiet, &group.key);
        let evaluation = self.program.evaluate(&group.running, &group.edges);
        if evaluation != group.evaluation || evaluation == Evaluation::Unknown {
            (group.evaluation, group.since) = (evaluation, Some(Box::new(trigger())));
            // If the rows that left make the difference, the change has only advanced NOW().
            group.reason = if by_change == evaluation { Reason::Condition } else { Reason::Time };
        }
        self.list(index);
        if self.time == Time::Event
            && let Some(transition) = self.evaluate_now(index)
        {
            self.transitions.push(transition);
        }
    }

    fn evaluate_now(&mut self, index: u32) -> Option<Transition> {
        let group = self.groups.get(index)?;
        if group.evaluation == group.evaluated && group.evaluation != Evaluation::Unknown && !group.watched {
            return None;
        }
        let transition = self.evaluate_group(index, Timestamp::MIN);
        if let Some(group) = self.groups.get_mut(index) {
            group.touched = true; // it stays listed
            group.watched |= self.watches_named && transition.is_some();
        }
        transition
    }
}
