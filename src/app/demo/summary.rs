//! The result of a demo. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;

use super::seen::Seen;
use crate::run_status::snapshot::StatusSnapshot;

/// Keys by rule.
pub type Keys = BTreeMap<String, BTreeSet<String>>;

/// The numbers at the end.
pub struct Summary {
    /// The run's own numbers.
    pub snapshot: StatusSnapshot,
    /// The number of rows written by SQL.
    pub changed: u64,
    /// The counts of the alerts.
    pub seen: Seen,
    /// The keys that the rules' own queries find at the end, by rule.
    pub open_in_sql: Keys,
}

impl Summary {
    /// Creates a summary. `open_in_sql` has the keys that the rules' own queries find at the end.
    pub fn new(snapshot: StatusSnapshot, changed: u64, seen: Seen, open_in_sql: Keys) -> Self {
        Self { snapshot, changed, seen, open_in_sql }
    }

    /// Whether the open alerts are those that the queries find, and everything was read.
    pub fn agrees(&self) -> bool {
        *self.seen.open() == self.open_in_sql && self.snapshot.read == self.changed
    }

    /// Returns the numbers of candidates, confirmed and refuted ones over all rules.
    pub fn counted(&self) -> (u64, u64, u64) {
        let counts = || self.snapshot.rules.iter().map(|rule| &rule.counts);
        (counts().map(|t| t.candidates).sum(), counts().map(|t| t.confirmed).sum(), counts().map(|t| t.refuted).sum())
    }

    /// Returns the summary as one JSON object.
    pub fn json(&self) -> String {
        let (candidates, confirmed, refuted) = self.counted();
        let quantile = |histogram: &crate::run_status::histogram::Histogram, percent| histogram.quantile(percent);
        let rejected: u64 = self.snapshot.rejected.values().sum();
        json!({
            "changed": self.changed,
            "read": self.snapshot.read,
            "rejected": rejected,
            "candidates": candidates,
            "confirmed": confirmed,
            "refuted": refuted,
            "fired": self.seen.fired,
            "resolved": self.seen.resolved,
            "open": self.seen.open(),
            "open_in_sql": self.open_in_sql,
            "agrees": self.agrees(),
            "first_alert_ms": self.seen.first_alert.map(whole_millis),
            "commit_to_decision_us": { "p50": quantile(&self.snapshot.delays, 50), "p99": quantile(&self.snapshot.delays, 99) },
            "statement_us": { "p50": quantile(&self.snapshot.statements, 50), "p99": quantile(&self.snapshot.statements, 99) },
        })
        .to_string()
    }
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_reported() {
        let snapshot = StatusSnapshot { read: 5, ..StatusSnapshot::default() };
        let keys: Keys = [("r".to_owned(), BTreeSet::from(["7".to_owned()]))].into();
        let good = Summary::new(snapshot.clone(), 5, Seen::default(), Keys::new());
        assert!(good.agrees());
        for bad in [
            Summary::new(snapshot.clone(), 5, Seen::default(), keys),
            Summary::new(snapshot, 6, Seen::default(), Keys::new()),
        ] {
            assert!(!bad.agrees());
            let shown: serde_json::Value = serde_json::from_str(&bad.json()).unwrap();
            assert_eq!(shown["agrees"], false);
        }
    }
}
