//! The backup in Kafka, from which an instance goes on that has no checkpoint folder, or one that is behind: how far the
//! group has come, and how its episodes stand. Each is a record of a compacted topic, written in the transaction of its
//! epoch.

use crate::progress::Progress;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::past::Carried;
use super::stored::Decisions;
use crate::alert::Alert;
use crate::episode::{Open, Status};
use crate::model::Key;
use crate::planted;
use crate::progress::Epoch;

/// Bytes of finished alerts in a record at most: it has to fit the broker's limit of 1 MB.
const ALERT_BYTES_MAX: usize = 256 * 1024;

/// Bytes of a key as JSON in a record at most. A longer one is in records of its own, see [`KeyPart`].
const KEY_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a [`KeyPart`]'s text at most. As JSON within JSON it may be twice as long.
const PART_BYTES_MAX: usize = 256 * 1024;

/// Everything that is known of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryState {
    /// How far it has come, if it ever began.
    pub progress: Option<Progress>,
    /// How its episodes stand, of whatever lineage.
    pub episodes: Vec<EpisodeRecord>,
}

/// The value of a record on the topic of episodes: the last that was decided on a group of rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpisodeRecord {
    /// Consumer group.
    pub group: String,
    /// Lineage of the group's progress.
    pub lineage: String,
    /// The epoch in which it was decided.
    pub epoch: u64,
    /// Name of the rule.
    pub rule: String,
    /// The rule's version and keys, as [`super::Unit::versions`] gives them.
    pub version: String,
    /// The group of rows. Without values where it is too long for a record: it is in parts then.
    pub key: Key,
    /// The alerts on it of that epoch, in order; the last one says how the episode stands. Finished: what sinks
    /// other than Kafka may have missed is delivered from here.
    pub alerts: Vec<Alert>,
    /// The record key, where no alert says it: the episode goes on under another name of its rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_from: Option<String>,
}

impl EpisodeRecord {
    /// The records of an epoch.
    pub fn of(group: &str, epoch: &Epoch<Decisions>) -> Vec<Self> {
        let of = |alert: &Alert| Self {
            group: group.to_owned(),
            lineage: epoch.lineage.clone(),
            epoch: epoch.number,
            rule: alert.rule.clone(),
            version: epoch.conf.get(&alert.rule).cloned().unwrap_or_default(),
            key: alert.key.clone(),
            alerts: Vec::new(),
            moved_from: None,
        };
        if planted::bug("episodes-not-sent") {
            return Vec::new();
        }
        let mut records: BTreeMap<(&str, &Key), Self> = BTreeMap::new();
        for Carried { alert, .. } in &epoch.body.carried {
            // Its alert was delivered then, so the record is of that epoch.
            let record = Self { epoch: alert.episode.epoch, alerts: vec![alert.clone()], ..of(alert) };
            records.insert((&alert.rule, &alert.key), record);
        }
        for alert in &epoch.body.alerts {
            let record = records.entry((&alert.rule, &alert.key)).or_insert_with(|| of(alert));
            record.epoch = epoch.number;
            record.alerts.push(alert.clone());
        }
        let mut records: Vec<Self> = records.into_values().collect();
        records.iter_mut().for_each(Self::shorten);
        let moved = |carried: &Carried| Self { moved_from: Some(carried.from.clone()), ..of(&carried.alert) };
        records.extend(epoch.body.carried.iter().map(moved));
        records
    }

    /// Leaves out the oldest alerts of many: only a row that flips within one poll under event time has so many.
    fn shorten(&mut self) {
        let mut bytes = 0;
        let fit = self.alerts.iter().rev().take_while(|alert| {
            bytes += alert.body.len() + alert.line.len();
            bytes <= ALERT_BYTES_MAX
        });
        let kept = fit.count().max(1);
        self.alerts.drain(..self.alerts.len().saturating_sub(kept));
    }

    /// The record's key, so that compaction keeps the newest of each group of rows.
    pub fn record_key(&self) -> String {
        let alert = self.alerts.last().map(|alert| alert.record_key.as_str()).or(self.moved_from.as_deref());
        format!("{}|{}", self.group, alert.unwrap_or_default())
    }

    /// Whether the episode is over.
    pub fn is_resolved(&self) -> bool {
        self.alerts.last().is_none_or(|alert| alert.status == Status::Resolved)
    }

    /// The open episode, with the rule's name and version and the group of rows; `None` when it is over.
    pub fn open(&self) -> Option<(String, String, Key, Open)> {
        let alert = self.alerts.last().filter(|alert| alert.status == Status::Firing)?;
        Some((self.rule.clone(), self.version.clone(), self.key.clone(), alert.open()))
    }
}

/// A part of a key that is too long for a record: a record of its own. What it says of a key never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPart {
    /// Consumer group.
    pub group: String,
    /// The record key of the episode that it belongs to.
    pub key_of: String,
    /// Its place among the parts, from 0.
    pub part: usize,
    /// How many there are.
    pub parts: usize,
    /// This part of the key's JSON.
    pub text: String,
}

/// A record of the recovery topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its key.
    pub key: String,
    /// Its value: JSON text.
    pub body: String,
}

impl EpisodeRecord {
    /// The records that it is written as, each of a size that a broker takes: the parts of its key, if it is too long,
    /// and then the episode itself.
    ///
    /// # Errors
    /// It cannot be made JSON.
    pub fn written(&self) -> Result<Vec<Written>, serde_json::Error> {
        let record_key = self.record_key();
        let key = serde_json::to_string(&self.key)?;
        if key.len() <= KEY_BYTES_MAX {
            return Ok(vec![Written { body: serde_json::to_string(self)?, key: record_key }]);
        }
        let mut written = Vec::new();
        let parts = split(&key, PART_BYTES_MAX);
        for (part, text) in parts.iter().enumerate() {
            let body = KeyPart {
                group: self.group.clone(),
                key_of: record_key.clone(),
                part,
                parts: parts.len(),
                text: (*text).to_owned(),
            };
            // No episode's key: those of this length end in a hash.
            let key = format!("{record_key}/key/{part}");
            written.push(Written { key, body: serde_json::to_string(&body)? });
        }
        let without = self.with_key(&no_key());
        written.push(Written { key: record_key, body: serde_json::to_string(&without)? });
        Ok(written)
    }

    /// The same with another key.
    fn with_key(&self, key: &Key) -> Self {
        let alerts = self.alerts.iter().map(|alert| Alert { key: key.clone(), ..alert.clone() });
        Self { key: key.clone(), alerts: alerts.collect(), ..self.clone() }
    }

    /// The record with its key out of these parts, which may be those of other episodes too; `None` where one is missing.
    pub fn completed(self, parts: &BTreeMap<(String, usize), KeyPart>) -> Option<Self> {
        if self.key != no_key() {
            return Some(self);
        }
        let record_key = self.record_key();
        let part = |at: usize| parts.get(&(record_key.clone(), at));
        let texts: Option<String> = (0..part(0)?.parts).map(|at| Some(part(at)?.text.as_str())).collect();
        Some(self.with_key(&serde_json::from_str(&texts?).ok()?))
    }
}

/// Stands for a key that is in parts: GROUP BY has a column at least.
fn no_key() -> Key {
    Key::Values(Box::default())
}

/// Cuts text into parts of so many bytes at most, at characters.
fn split(text: &str, max: usize) -> Vec<&str> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while rest.len() > max {
        let end = (1..=max).rev().find(|end| rest.is_char_boundary(*end)).unwrap_or(rest.len());
        let (part, after) = rest.split_at(end);
        parts.push(part);
        rest = after;
    }
    parts.push(rest);
    parts
}
