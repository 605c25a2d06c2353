//! What is durable of the work on an assignment. Pure.

use super::counts::Counts;
use super::settings::Settings;
use crate::model::Timestamp;
use crate::model::duration::micros;
use crate::progress::Progress;

/// What is durable of an assignment's work, and since when.
pub(super) struct Durable {
    /// How far the group has come with the newest epoch.
    pub(super) progress: Progress,
    /// The counts as of that epoch.
    pub(super) counts: Counts,
    /// When an epoch was last due.
    pub(super) closed_at: Timestamp,
    /// When the windows were last stored.
    pub(super) stored_at: Timestamp,
    /// The epoch that they were stored at.
    pub(super) stored: Option<u64>,
}

impl Durable {
    /// Just begun, with this progress.
    pub(super) fn new(progress: Progress, now: Timestamp) -> Self {
        Self { progress, counts: Counts::default(), closed_at: now, stored_at: now, stored: None }
    }

    /// Whether the windows are to be stored.
    pub(super) fn is_state_due(&self, now: Timestamp, settings: &Settings) -> bool {
        now.0.saturating_sub(self.stored_at.0) >= micros(settings.state_interval)
    }
}
