//! A unit's progress: closing epochs, storing windows and episodes, and restoring both.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::lookups::Lookups;
use super::past::Carried;
use super::{RuleState, Unit};
use crate::alert::Alert;
use crate::episode::{Candidate, Episodes, Open};
use crate::model::{Key, Lsn, Timestamp};
use crate::planted;
use crate::progress::{Epoch, LastRecords};
use crate::rule::Rule;
use crate::rule::evaluate::Evaluation;
use crate::rule::watched::Watched;
use crate::window::{StoredWindow, StoredWindow2, Trigger};

/// The decisions of an epoch: the last line of `offsets/N`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decisions {
    /// The finished alerts.
    pub alerts: Vec<Alert>,
    /// The candidates that were still waiting, by rule.
    pub waiting: Vec<(String, Key, Candidate)>,
    /// All open episodes by rule. This is set in the first epoch of its lineage in a folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<Vec<(String, Key, Open)>>,
    /// Open episodes whose rule was renamed in this epoch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub carried: Vec<Carried>,
}

/// The content of `state/N` for one rule, in the order of its head.
#[derive(Debug, Deserialize)]
pub struct StoredRule {
    episodes: Episodes,
    window: StoredWindow,
}

/// The same content in format 2.
#[derive(Debug, Deserialize)]
struct StoredRule2 {
    episodes: Episodes2,
    window: StoredWindow2,
}

#[derive(Debug, Deserialize)]
struct Episodes2 {
    open: Vec<(Key, Open)>,
    candidates: Vec<(Key, Candidate2)>,
}

#[derive(Debug, Deserialize)]
struct Candidate2 {
    trigger: Option<Box<Trigger>>,
    raised_at: Timestamp,
    stream: String,
    overdue: bool,
    attempts: u32,
    ask_at: Timestamp,
    answered_at: Option<Timestamp>,
    refusals: u32,
}

impl From<Candidate2> for Candidate {
    fn from(old: Candidate2) -> Self {
        let Candidate2 { trigger, raised_at, stream, overdue, attempts, ask_at, answered_at, refusals } = old;
        Self {
            trigger,
            raised_at,
            stream,
            overdue,
            attempts,
            ask_at,
            answered_at,
            refusals,
            evaluation: Evaluation::default(),
            reason: None,
            asking: false,
            asked_at: None,
            named_again: false,
        }
    }
}

impl From<Episodes2> for Episodes {
    fn from(old: Episodes2) -> Self {
        let mut episodes = Self::default();
        old.open.into_iter().for_each(|(key, open)| episodes.restore_open(key, open));
        old.candidates.into_iter().for_each(|(key, old)| episodes.restore_candidate(key, old.into()));
        episodes
    }
}

impl From<StoredRule2> for StoredRule {
    fn from(old: StoredRule2) -> Self {
        Self { episodes: old.episodes.into(), window: old.window.into() }
    }
}

#[derive(Serialize)]
struct RuleOut<'a, W> {
    episodes: &'a Episodes,
    window: W,
}

/// Reads all of the bytes as one value. Bytes after it are an error, as they would be lost silently.
fn whole<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(format!("{} bytes stand behind its end", rest.len())),
        Err(error) => Err(format!("its body cannot be read: {error}")),
    }
}

impl Unit {
    /// Closes an epoch. It has the decided alerts, the waiting candidates and their offsets.
    pub fn close(&mut self, last_records: &LastRecords, now: Timestamp) -> Epoch<Decisions> {
        let mut waiting = Vec::new();
        for state in &self.rules {
            let name = &state.rule.name;
            waiting.extend(state.episodes.candidates().map(|(key, c)| (name.clone(), key.clone(), c.clone())));
        }
        let number = self.epoch;
        if planted::bug("offsets-ahead") {
            self.offsets.values_mut().for_each(|next| *next = crate::model::NextOffset::after(next.0));
        }
        (self.epoch, self.fired) = (number + 1, 0);
        Epoch {
            number,
            lineage: self.lineage.clone(),
            topics: self.settings.topics.clone(),
            offsets: self.offsets.clone(),
            kept: self.kept.clone(),
            last_records: last_records.clone(),
            at: now,
            conf: self.evaluated_versions(),
            body: Decisions {
                alerts: std::mem::take(&mut self.alerts),
                waiting,
                open: None,
                carried: std::mem::take(&mut self.carried),
            },
        }
    }

    /// Returns the version of each rule by which its open episodes were last evaluated. If a start ends before it has
    /// evaluated them by a new version, the next start does so.
    fn evaluated_versions(&self) -> BTreeMap<String, String> {
        let of = |((name, version), state): ((String, String), &RuleState)| {
            (name, state.changed_from.clone().unwrap_or(version))
        };
        self.versions().into_iter().zip(&self.rules).map(of).collect()
    }

    /// Returns the open episodes of all rules.
    pub fn open(&self) -> Vec<(String, Key, Open)> {
        let mut open = Vec::new();
        for state in &self.rules {
            let name = &state.rule.name;
            open.extend(state.episodes.open().map(|(key, o)| (name.clone(), key.clone(), o.clone())));
        }
        open
    }

    /// Returns the newest open episodes of closed epochs, at most `count`, newest first. Episodes whose firing alert
    /// waits for its epoch are not included.
    pub fn newest_open(&self, count: usize) -> Vec<(&Rule, &Key, &Open)> {
        let mut open: Vec<_> = self
            .rules
            .iter()
            .flat_map(|state| state.episodes.open().map(move |(key, open)| (&state.rule, key, open)))
            .filter(|(_, _, open)| open.episode.epoch < self.epoch)
            .collect();
        let newest_first = |(_, _, open): &(&Rule, &Key, &Open)| std::cmp::Reverse((open.since, open.episode));
        if open.len() > count {
            open.select_nth_unstable_by_key(count, newest_first);
            open.truncate(count);
        }
        open.sort_unstable_by_key(newest_first);
        open
    }

    /// Writes the body of `state/N` row by row, so that it is never in memory as a whole.
    ///
    /// # Errors
    /// The writer refuses. postcard does not keep the reason.
    pub fn store(&self, out: &mut dyn std::io::Write) -> Result<(), postcard::Error> {
        let rules: Vec<_> = self
            .rules
            .iter()
            .map(|state| RuleOut { episodes: &state.episodes, window: state.window.stored() })
            .collect();
        if self.settings.topics.are_several() || self.tables.len() > 1 {
            let of = |(lookups, table): (&Lookups, &Watched)| {
                (table.table.to_string(), lookups.keys().cloned().collect::<Vec<_>>())
            };
            let lookups: Vec<(String, Vec<Key>)> = self.lookups.iter().zip(&self.tables).map(of).collect();
            return postcard::to_io(&(rules, lookups, &self.streamed_in), out).map(drop);
        }
        let lookups: Vec<&Key> = self.lookups.iter().flat_map(Lookups::keys).collect();
        postcard::to_io(&(rules, lookups, &self.streamed_in), out).map(drop)
    }

    /// Returns the format that [`Unit::store`] writes.
    pub fn format(&self) -> u32 {
        if self.settings.topics.are_several() || self.tables.len() > 1 { 4 } else { 3 }
    }

    /// Reads the body of `state/N` in this format (2 to 4), which was stored for rules of these names and versions.
    /// `windows`: whether to restore the windows.
    ///
    /// # Errors
    /// The body is not one that `store` writes. The message is a sentence.
    pub fn restore(
        &mut self,
        format: u32,
        versions: &[(String, String)],
        body: &[u8],
        windows: bool,
    ) -> Result<(), String> {
        type Body<L> = (Vec<StoredRule>, L, BTreeMap<i32, Lsn>);
        let (stored, lookups, streamed_in): Body<Vec<(String, Vec<Key>)>> = match format {
            ..3 => {
                let stored: Vec<StoredRule2> = whole(body)?;
                (stored.into_iter().map(StoredRule::from).collect(), Vec::new(), BTreeMap::new())
            }
            3 => {
                // These are of the only table that there was.
                let (stored, lookups, streamed_in): Body<Vec<Key>> = whole(body)?;
                let state = |(name, _): &(String, String)| self.rules.iter().find(|state| state.rule.name == *name);
                let table = versions.iter().find_map(state).map(|state| state.rule.query.table.to_string());
                (stored, vec![(table.unwrap_or_default(), lookups)], streamed_in)
            }
            _ => whole(body)?,
        };
        if stored.len() != versions.len() {
            return Err(format!("it holds {} rules, and its head names {}", stored.len(), versions.len()));
        }
        for (name, keys) in lookups {
            let place = self.tables.iter().position(|table| table.table.to_string() == name);
            if let Some(lookups) = place.and_then(|place| self.lookups.get_mut(place)) {
                *lookups = keys.into_iter().collect();
            }
        }
        if windows {
            self.streamed_in = streamed_in;
        }
        for (rule, stored) in versions.iter().zip(stored) {
            let (mut open, waiting) = stored.episodes.into_parts();
            if planted::bug("open-episodes-not-restored") {
                open.clear();
            }
            self.past.store(rule, open, waiting, windows.then_some(stored.window));
        }
        Ok(())
    }

    /// Repeats the decisions of an epoch that was logged after the state was stored.
    pub fn redo(&mut self, epoch: &Epoch<Decisions>) {
        if !planted::bug("decisions-not-redone") {
            self.past.redo(epoch);
        }
    }

    /// Takes open episodes from elsewhere: the rule, its version in the form of [`Unit::versions`], the key.
    pub fn recall(&mut self, open: impl IntoIterator<Item = (String, String, Key, Open)>) {
        for (rule, version, key, open) in open {
            self.past.recall(rule, version, key, open);
        }
    }
}
