//! The recovery topic: the group's progress and episodes in Kafka. An instance without a checkpoint folder, or with an
//! old one, resumes from it. Each entry is a record of a compacted topic, written in the transaction of its epoch.

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

/// The greatest number of bytes of finished alerts in a record. A record has to fit the broker's limit of 1 MB.
const ALERT_BYTES_MAX: usize = 256 * 1024;

/// The greatest number of bytes of a key as JSON in a record. A longer key has records of its own, see [`KeyPart`].
const KEY_BYTES_MAX: usize = 64 * 1024;

/// The greatest number of bytes of a [`KeyPart`]'s text. As JSON within JSON it may be twice as long.
const PART_BYTES_MAX: usize = 256 * 1024;

/// Everything that is known of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryState {
    /// The group's progress, if it ever began.
    pub progress: Option<Progress>,
    /// The group's episodes, of any lineage.
    pub episodes: Vec<EpisodeRecord>,
}

/// The value of a record of an episode: the last decision about a group of rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpisodeRecord {
    /// The consumer group.
    pub group: String,
    /// The lineage of the group's progress.
    pub lineage: String,
    /// The epoch of the decision.
    pub epoch: u64,
    /// The name of the rule.
    pub rule: String,
    /// The rule's version and keys in the form of [`super::Unit::versions`].
    pub version: String,
    /// The group of rows. It has no values if it is too long for a record. The key is then in parts.
    pub key: Key,
    /// The alerts of that epoch about the group of rows, in order. The last one shows whether the episode is open.
    /// Alerts that other sinks than Kafka may have missed are delivered from here.
    pub alerts: Vec<Alert>,
    /// The record key if there is no alert, because the episode continues under another name of its rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_from: Option<String>,
}

impl EpisodeRecord {
    /// Returns the records of an epoch.
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
            // The alert was delivered in that epoch, so the record belongs to it.
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

    /// Removes the oldest of many alerts. Only a row that changes back and forth within one poll under event time has
    /// so many.
    fn shorten(&mut self) {
        let mut bytes = 0;
        let fit = self.alerts.iter().rev().take_while(|alert| {
            bytes += alert.body.len() + alert.line.len();
            bytes <= ALERT_BYTES_MAX
        });
        let kept = fit.count().max(1);
        self.alerts.drain(..self.alerts.len().saturating_sub(kept));
    }

    /// Returns the record's key, by which compaction keeps the newest record of each group of rows.
    pub fn record_key(&self) -> String {
        let alert = self.alerts.last().map(|alert| alert.record_key.as_str()).or(self.moved_from.as_deref());
        format!("{}|{}", self.group, alert.unwrap_or_default())
    }

    /// Whether the episode is over.
    pub fn is_resolved(&self) -> bool {
        self.alerts.last().is_none_or(|alert| alert.status == Status::Resolved)
    }

    /// Returns the open episode with the rule's name and version and the group of rows. `None` when the episode is
    /// over.
    pub fn open(&self) -> Option<(String, String, Key, Open)> {
        let alert = self.alerts.last().filter(|alert| alert.status == Status::Firing)?;
        Some((self.rule.clone(), self.version.clone(), self.key.clone(), alert.open()))
    }
}

/// A part of a key that is too long for a record, as a record of its own. The parts of a key never change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPart {
    /// The consumer group.
    pub group: String,
    /// The record key of the episode.
    pub key_of: String,
    /// The index of the part, from 0.
    pub part: usize,
    /// The number of parts.
    pub parts: usize,
    /// This part of the key's JSON.
    pub text: String,
}

/// A record of the recovery topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The record's key.
    pub key: String,
    /// The record's value: JSON text.
    pub body: String,
}

impl EpisodeRecord {
    /// Returns the records to write for the episode, each of a size that a broker accepts. The parts of a long key come
    /// first, then the episode.
    ///
    /// # Errors
    /// The episode cannot be written as JSON.
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
            // This cannot be the key of another episode, because keys of this length end in a hash.
            let key = format!("{record_key}/key/{part}");
            written.push(Written { key, body: serde_json::to_string(&body)? });
        }
        let without = self.with_key(&no_key());
        written.push(Written { key: record_key, body: serde_json::to_string(&without)? });
        Ok(written)
    }

    /// Returns the record with another key.
    fn with_key(&self, key: &Key) -> Self {
        let alerts = self.alerts.iter().map(|alert| Alert { key: key.clone(), ..alert.clone() });
        Self { key: key.clone(), alerts: alerts.collect(), ..self.clone() }
    }

    /// Returns the record with its key joined from these parts, among which may be those of other episodes. `None`
    /// where a part is missing.
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

/// Stands for a key that is in parts. No real key is empty, since GROUP BY has at least one column.
fn no_key() -> Key {
    Key::Values(Box::default())
}

/// Splits text into parts of at most `max` bytes, at characters.
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
