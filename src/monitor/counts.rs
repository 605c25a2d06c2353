//! What a run counts.

use serde::{Deserialize, Serialize};

use crate::unit::events::UnitEvents;

/// What a run has done so far; the closing line of `--until-end`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Records read for the first time in this lineage, of whatever kind.
    pub read: u64,
    /// Records read again to rebuild windows.
    pub replayed: u64,
    /// Keys that became candidates.
    pub candidates: u64,
    /// Candidates that Postgres confirmed.
    pub confirmed: u64,
    /// Answers of Postgres that did not confirm.
    pub refuted: u64,
    /// Firing alerts.
    pub fired: u64,
    /// Resolved alerts.
    pub resolved: u64,
    /// Invalid records.
    pub rejected: u64,
}

impl Counts {
    /// Adds what has happened in a unit.
    pub fn add(&mut self, events: &UnitEvents) {
        for rule in &events.rules {
            self.candidates += rule.candidates;
            self.confirmed += rule.confirmed;
            self.refuted += rule.refuted;
        }
        self.fired += events.fired;
        self.resolved += events.resolved;
    }
}
