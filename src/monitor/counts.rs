//! The counts of a run.

use serde::{Deserialize, Serialize};

use crate::unit::events::UnitEvents;

/// The counts of a run so far. `--until-end` prints them at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Records of any kind that were read for the first time in this lineage.
    pub read: u64,
    /// Records read again to rebuild windows.
    pub replayed: u64,
    /// Keys that became candidates.
    pub candidates: u64,
    /// Candidates that Postgres confirmed.
    pub confirmed: u64,
    /// Postgres's answers that did not confirm.
    pub refuted: u64,
    /// Firing alerts.
    pub fired: u64,
    /// Resolved alerts.
    pub resolved: u64,
    /// Invalid records.
    pub rejected: u64,
}

impl Counts {
    /// Adds the events of a unit.
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
