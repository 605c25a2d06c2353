//! Counts of a demo's alerts. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::alert::Alert;
use crate::episode::Status;

/// The counts so far.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Keys with an open alert, by rule.
    open: BTreeMap<String, BTreeSet<String>>,
    /// The number of firing alerts.
    pub fired: u64,
    /// The number of resolved alerts.
    pub resolved: u64,
    /// The time from the start of the program to the first alert.
    pub first_alert: Option<Duration>,
}

impl Seen {
    /// Returns the keys with an open alert, by rule.
    pub fn open(&self) -> &BTreeMap<String, BTreeSet<String>> {
        &self.open
    }

    /// Counts an alert that came `since` after the start of the program.
    pub fn take(&mut self, alert: &Alert, since: Duration) {
        let key = alert.record_key.split_once('|').map_or("", |(_, key)| key).to_owned();
        match alert.status {
            Status::Firing => {
                self.fired += 1;
                self.first_alert.get_or_insert(since);
                self.open.entry(alert.rule.clone()).or_default().insert(key);
            }
            Status::Resolved => {
                self.resolved += 1;
                if let Some(keys) = self.open.get_mut(&alert.rule) {
                    keys.remove(&key);
                }
                self.open.retain(|_, keys| !keys.is_empty());
            }
        }
    }
}
