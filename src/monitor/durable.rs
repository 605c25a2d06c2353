//! The durable progress of an assignment. Pure.

use super::counts::Counts;
use super::settings::Settings;
use crate::model::Timestamp;
use crate::model::duration::micros;
use crate::progress::Progress;

/// The durable progress of an assignment, and the time of each part.
pub(super) struct Durable {
    /// The group's progress with the newest epoch.
    pub(super) progress: Progress,
    /// The counts at that epoch.
    pub(super) counts: Counts,
    /// The time at which an epoch was last due.
    pub(super) closed_at: Timestamp,
    /// The time at which the windows were last stored.
    pub(super) stored_at: Timestamp,
    /// The epoch at which they were stored.
    pub(super) stored: Option<u64>,
}

impl Durable {
    /// Creates the state at the start with this progress.
    pub(super) fn new(progress: Progress, now: Timestamp) -> Self {
        Self { progress, counts: Counts::default(), closed_at: now, stored_at: now, stored: None }
    }

    /// Whether to store the windows.
    pub(super) fn is_state_due(&self, now: Timestamp, settings: &Settings) -> bool {
        now.0.saturating_sub(self.stored_at.0) >= micros(settings.state_interval)
    }
}
