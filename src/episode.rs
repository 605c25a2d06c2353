//! Episodes: from a group's evaluation in memory and the database's answer to a decision. Pure.
//!
//! A group is either quiet or firing. When memory disagrees with this state, or cannot evaluate the group, the group is
//! a *candidate*: Postgres is asked, and only its answer changes the state. An answer that agrees with the state
//! refutes the candidate. It is then asked again with back-off as long as memory disagrees with the state.

mod reason;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use reason::Reason;

use crate::model::{Key, Timestamp};
use crate::planted::{self, Outside};
use crate::rule::evaluate::Evaluation;
use crate::window::{Transition, Trigger};

/// The first wait before a refuted or failed candidate is asked again.
const BACK_OFF_FIRST_MICROS: i64 = 250_000;
/// The longest wait before a candidate is asked again.
const BACK_OFF_MAX_MICROS: i64 = 30_000_000;

/// How long an end waits for a transaction to become visible. The candidate is stored, so the next run asks again.
const UNDECIDED_PATIENCE_MICROS: i64 = 5_000_000;

/// The status of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The group is over the threshold.
    Firing,
    /// The group is no longer over the threshold.
    Resolved,
}

impl Status {
    /// The name in the alert record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// The id of an episode within its lineage. Epochs only increase, so a number is never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EpisodeId {
    /// The epoch in which the episode fired.
    pub epoch: u64,
    /// The episode's number in that epoch, from 0.
    pub ordinal: u32,
}

impl std::fmt::Display for EpisodeId {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}.{}", self.epoch, self.ordinal)
    }
}

/// An open episode: the group is firing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The episode's id.
    pub episode: EpisodeId,
    /// The id of the alert that opened the episode.
    pub alert: Uuid,
    /// When the alert was decided.
    pub since: Timestamp,
}

/// A group about which Postgres has to be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The change that made the group a candidate. `None`: time alone did.
    pub trigger: Option<Box<Trigger>>,
    /// NOW() when the group became a candidate.
    pub raised_at: Timestamp,
    /// The aggregates in memory at that time, as JSON text.
    pub stream: String,
    /// Whether time has made HAVING false before Postgres answered. Postgres is still asked as of `raised_at`.
    pub overdue: bool,
    /// How often Postgres has been asked.
    pub attempts: u32,
    /// When Postgres may be asked next.
    pub ask_at: Timestamp,
    /// When the database last answered, with a result that differs from memory's.
    pub answered_at: Option<Timestamp>,
    /// The number of consecutive answers that refuted the candidate since a change last touched its group.
    #[serde(default)]
    pub refusals: u32,
    /// Memory's evaluation.
    #[serde(default)]
    pub evaluation: Evaluation,
    /// The reason for the evaluation. `None` in files of earlier program versions.
    #[serde(default)]
    pub reason: Option<Reason>,
    /// Whether a statement about the candidate is running.
    #[serde(skip)]
    pub asking: bool,
    /// When Postgres was last asked in this run.
    #[serde(skip)]
    pub asked_at: Option<Timestamp>,
    /// Whether memory evaluated the group again while Postgres was being asked. The answer may then be about an older
    /// state.
    #[serde(skip)]
    pub named_again: bool,
}

impl Candidate {
    /// Whether the change that made the group a candidate may not be visible in the database yet.
    pub fn is_in_grace(&self, now: Timestamp) -> bool {
        self.trigger.as_ref().is_some_and(|trigger| trigger.is_in_grace(self.raised_at, now))
    }

    fn new(transition: &Transition, now: Timestamp) -> Self {
        Self {
            trigger: transition.trigger.clone(),
            raised_at: transition.now,
            stream: stream_text(transition),
            overdue: false,
            attempts: 0,
            ask_at: if planted::bug("counter-of-the-process") { planted::later(now, Outside::Count) } else { now },
            answered_at: None,
            refusals: 0,
            evaluation: transition.evaluation,
            reason: Some(transition.reason),
            asking: false,
            asked_at: None,
            named_again: false,
        }
    }

    /// Why the episode is over, if this candidate closes one.
    pub fn reason(&self) -> Reason {
        self.reason.unwrap_or(if self.trigger.is_some() { Reason::Condition } else { Reason::Time })
    }
}

fn stream_text(transition: &Transition) -> String {
    serde_json::Value::from(transition.outputs.clone()).to_string()
}

/// What a transition did to its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raised {
    /// The group became a candidate.
    Candidate,
    /// The group was a candidate, and Postgres is asked again at once.
    Again,
    /// The group was a candidate, and memory now agrees with the state.
    Withdrawn,
    /// Time has made the candidate's HAVING false. Postgres is still asked as of when it was raised.
    Overdue,
    /// The candidate waits behind an earlier one of the same group.
    Queued,
    /// Memory agrees with the state.
    Nothing,
}

/// The effect of an answer of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The database agrees with memory and not with the state. An alert of this status is due.
    Confirmed(Status, Candidate),
    /// The database agrees with the state. Postgres is asked again at this instant, or only after the next change.
    Refuted(Option<Timestamp>),
    /// The database agrees with the state, but its snapshot does not include every transaction that memory has applied to this
    /// key. It is asked again at this instant, or earlier if the key changes.
    Undecided(Timestamp),
    /// The candidate was withdrawn while it was asked.
    Withdrawn,
}

/// Values with their keys, in order.
pub type ByKey<T> = Vec<(Key, T)>;

/// The open episodes and candidates of one rule. The maps are ordered, so that stored and asked groups have an order
/// that does not depend on hashing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Episodes {
    #[serde(with = "pairs")]
    open: BTreeMap<Key, Open>,
    #[serde(with = "pairs")]
    candidates: BTreeMap<Key, Candidate>,
    /// Under event time: later candidates of a group that has one already, in the order of the stream.
    #[serde(with = "pairs")]
    later: BTreeMap<Key, VecDeque<Candidate>>,
}

/// Whether memory's evaluation agrees with the state.
fn agrees(evaluation: Evaluation, firing: bool) -> bool {
    match evaluation {
        Evaluation::Holds => firing,
        Evaluation::Fails => !firing,
        Evaluation::Unknown => planted::bug("opaque-not-asked"),
    }
}

impl Episodes {
    /// Whether the group is firing.
    pub fn is_firing(&self, key: &Key) -> bool {
        self.open.contains_key(key)
    }

    /// The groups that are firing, in order.
    pub fn firing(&self) -> impl ExactSizeIterator<Item = &Key> {
        self.open.keys()
    }

    /// The open episodes, in the order of their keys.
    pub fn open(&self) -> impl Iterator<Item = (&Key, &Open)> {
        self.open.iter()
    }

    /// The open episode of a group.
    pub fn open_of(&self, key: &Key) -> Option<&Open> {
        self.open.get(key)
    }

    /// The candidates, asked or waiting, in the order of their keys. Those of one key have the order of the stream.
    pub fn candidates(&self) -> impl Iterator<Item = (&Key, &Candidate)> {
        self.candidates.iter().flat_map(|(key, first)| {
            let later = self.later.get(key).into_iter().flatten();
            std::iter::once(first).chain(later).map(move |candidate| (key, candidate))
        })
    }

    /// The number of candidates, including those that wait behind others.
    pub fn candidate_count(&self) -> usize {
        self.candidates.len() + self.queued()
    }

    /// The number of candidates that wait behind others.
    pub fn queued(&self) -> usize {
        self.later.values().map(VecDeque::len).sum()
    }

    /// Applies memory's evaluation of a group.
    pub fn raise(&mut self, transition: &Transition, now: Timestamp) -> Raised {
        self.raise_after(transition, now)
    }

    /// Applies memory's evaluation. Postgres is asked about a new candidate at `ask_at`, and about a waiting one not
    /// sooner.
    pub fn raise_after(&mut self, transition: &Transition, ask_at: Timestamp) -> Raised {
        let key = &transition.key;
        let firing = self.open.contains_key(key);
        if agrees(transition.evaluation, firing) {
            // HAVING held until time made it false, and Postgres has not decided yet. Postgres is asked as of that
            // instant.
            if let Some(candidate) = self.candidates.get_mut(key)
                && !firing
                && transition.trigger.is_none()
                && candidate.refusals == 0
            {
                candidate.overdue = true;
                return Raised::Overdue;
            }
            return if self.candidates.remove(key).is_some() { Raised::Withdrawn } else { Raised::Nothing };
        }
        if let Some(candidate) = self.candidates.get_mut(key) {
            if candidate.refusals > 0 {
                // Postgres has decided about that instant: from here on it is about this one.
                (candidate.raised_at, candidate.stream) = (transition.now, stream_text(transition));
            }
            let is_waiting = !candidate.asking && candidate.attempts == 0;
            candidate.ask_at = if is_waiting { candidate.ask_at.min(ask_at) } else { ask_at };
            candidate.overdue = false;
            candidate.named_again = candidate.asking;
            candidate.refusals = 0;
            return Raised::Again;
        }
        self.candidates.insert(key.clone(), Candidate::new(transition, ask_at));
        Raised::Candidate
    }

    /// Applies memory's evaluation of a group under event time. Postgres is asked about each candidate as of the
    /// candidate's own instant. Later evaluations neither withdraw nor replace an undecided candidate. They wait behind
    /// it.
    pub fn raise_in_order(&mut self, transition: &Transition, now: Timestamp) -> Raised {
        let key = &transition.key;
        let agrees = agrees(transition.evaluation, self.open.contains_key(key));
        let Some(first) = self.candidates.get_mut(key) else {
            if agrees {
                return Raised::Nothing;
            }
            self.candidates.insert(key.clone(), Candidate::new(transition, now));
            return Raised::Candidate;
        };
        let last = self.later.get(key).and_then(VecDeque::back).unwrap_or(first);
        let is_known = last.evaluation == transition.evaluation && last.raised_at == transition.now;
        if first.refusals > 0 && !first.asking {
            if agrees {
                self.candidates.remove(key);
                return Raised::Withdrawn;
            }
            if is_known {
                (first.ask_at, first.refusals) = (now, 0);
            } else {
                *first = Candidate::new(transition, now);
            }
            return Raised::Again;
        }
        if !is_known {
            self.later.entry(key.clone()).or_default().push_back(Candidate::new(transition, now));
        }
        Raised::Queued
    }

    /// Replaces a decided candidate with the next one of its group that disagrees with the state. Returns whether there
    /// is one.
    pub fn next_in_order(&mut self, key: &Key, now: Timestamp) -> bool {
        if self.candidates.contains_key(key) {
            return true;
        }
        let Some(mut later) = self.later.remove(key) else { return false };
        let firing = self.open.contains_key(key);
        while let Some(mut next) = later.pop_front() {
            if !agrees(next.evaluation, firing) {
                next.ask_at = now;
                self.candidates.insert(key.clone(), next);
                if !later.is_empty() {
                    self.later.insert(key.clone(), later);
                }
                return true;
            }
        }
        false
    }

    /// Returns up to `limit` candidates that are due at `now`. From here on they count as being asked.
    pub fn due(&mut self, now: Timestamp, limit: usize) -> Vec<Key> {
        let due = self.candidates.iter_mut().filter(|(_, candidate)| !candidate.asking && candidate.ask_at <= now);
        due.take(limit)
            .map(|(key, candidate)| {
                candidate.asking = true;
                candidate.asked_at = Some(now);
                candidate.attempts = candidate.attempts.saturating_add(1);
                key.clone()
            })
            .collect()
    }

    /// When the next waiting candidate is due.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.candidates.values().filter(|candidate| !candidate.asking).map(|candidate| candidate.ask_at).min()
    }

    /// Makes every waiting candidate due at once, for the last questions before an end.
    pub fn make_due_now(&mut self, now: Timestamp) {
        for candidate in self.candidates.values_mut() {
            candidate.ask_at = candidate.ask_at.min(now);
            candidate.asked_at = None; // a question under way was asked too early
        }
    }

    /// Whether every candidate was asked at or after this instant, and was answered.
    pub fn all_answered_since(&self, then: Timestamp) -> bool {
        self.candidates.values().all(|candidate| {
            !candidate.asking && candidate.asked_at >= Some(then) && candidate.answered_at >= Some(then)
        })
    }

    /// Applies the database's answer: whether HAVING holds there. `decided`: the answer includes every transaction that
    /// memory has applied to the group. `insists`: memory itself disagrees with the state, so that a refuted candidate
    /// should be asked again.
    pub fn answer(&mut self, key: &Key, holds: bool, decided: bool, insists: bool, now: Timestamp) -> Outcome {
        let firing = self.open.contains_key(key);
        let Some(candidate) = self.candidates.get_mut(key) else { return Outcome::Withdrawn };
        if holds != firing {
            let status = if holds { Status::Firing } else { Status::Resolved };
            return match self.candidates.remove(key) {
                Some(candidate) => Outcome::Confirmed(status, candidate),
                None => Outcome::Withdrawn,
            };
        }
        candidate.asking = false;
        let again = std::mem::take(&mut candidate.named_again);
        candidate.ask_at = if again { now } else { back_off(candidate.attempts, now) };
        if !decided {
            if now.0.saturating_sub(candidate.raised_at.0) >= UNDECIDED_PATIENCE_MICROS {
                candidate.answered_at = Some(now);
            }
            return Outcome::Undecided(candidate.ask_at);
        }
        candidate.answered_at = Some(now);
        if (!insists && !again) || planted::bug("refuted-not-asked-again") || self.later.contains_key(key) {
            self.candidates.remove(key);
            return Outcome::Refuted(None);
        }
        candidate.refusals = candidate.refusals.saturating_add(1);
        Outcome::Refuted(Some(candidate.ask_at))
    }

    /// Records that the statement for a candidate failed. It is asked again later.
    pub fn failed(&mut self, key: &Key, now: Timestamp) {
        if let Some(candidate) = self.candidates.get_mut(key) {
            candidate.asking = planted::bug("failed-not-asked-again");
            candidate.ask_at = back_off(candidate.attempts, now);
        }
    }

    /// The first candidate of a group.
    pub fn candidate(&self, key: &Key) -> Option<&Candidate> {
        self.candidates.get(key)
    }

    /// Takes a candidate without asking Postgres: its rule needs no confirmation.
    pub fn take(&mut self, key: &Key) -> Option<Candidate> {
        self.candidates.remove(key)
    }

    /// Applies a decided alert: the episode opens or closes.
    pub fn decide(&mut self, key: &Key, status: Status, open: Open) {
        match status {
            Status::Firing => drop(self.open.insert(key.clone(), open)),
            Status::Resolved => drop(self.open.remove(key)),
        }
    }

    /// Restores an open episode of an earlier run.
    pub fn restore_open(&mut self, key: Key, open: Open) {
        self.open.insert(key, open);
    }

    /// Restores a candidate of an earlier run. It is due at once. The candidates of one group have to come in order.
    pub fn restore_candidate(&mut self, key: Key, mut candidate: Candidate) {
        candidate.ask_at = Timestamp::MIN;
        candidate.asked_at = None;
        match self.candidates.entry(key) {
            Entry::Vacant(first) => {
                first.insert(candidate);
            }
            Entry::Occupied(first) => self.later.entry(first.key().clone()).or_default().push_back(candidate),
        }
    }

    /// Takes the episodes and the candidates out, to be restored under the rules of this run.
    pub fn into_parts(self) -> (ByKey<Open>, ByKey<Candidate>) {
        let mut later = self.later;
        let mut candidates = Vec::new();
        for (key, first) in self.candidates {
            let rest = later.remove(&key).unwrap_or_default();
            candidates.push((key.clone(), first));
            candidates.extend(rest.into_iter().map(|next| (key.clone(), next)));
        }
        (self.open.into_iter().collect(), candidates)
    }
}

/// The next attempt: after 250 ms, doubled with every attempt, at most 30 s.
fn back_off(attempts: u32, now: Timestamp) -> Timestamp {
    let now = if planted::bug("clock-read") { planted::later(now, Outside::Clock) } else { now };
    let doubled = BACK_OFF_FIRST_MICROS.saturating_mul(1_i64 << attempts.saturating_sub(1).min(20));
    Timestamp(now.0.saturating_add(doubled.min(BACK_OFF_MAX_MICROS)))
}

/// Serializes maps with structured keys as lists of pairs, because JSON has only text keys.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub(super) fn deserialize<'de, K, V, D>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
    }
}
