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
use crate::progress::Epoch;

/// Bytes of finished alerts in a record at most: it has to fit the broker's limit of 1 MB.
const ALERT_BYTES_MAX: usize = 256 * 1024;

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
    /// The group of rows.
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
