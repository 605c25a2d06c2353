//! The last minutes, for a page that was just opened.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::run_status::RunStatus;

/// The time between two samples, and the number of samples that are kept.
const EVERY: Duration = Duration::from_secs(1);
const KEPT_MAX: usize = 600;

/// The sample of one second.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Sample {
    /// The milliseconds since the start of the process.
    uptime: u128,
    read: u64,
    replayed: u64,
    lag: u64,
}

/// The samples.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<VecDeque<Sample>>);

impl History {
    /// Takes samples forever.
    pub(super) async fn keep(&self, status: &RunStatus) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let snapshot = status.snapshot();
            let lag = snapshot.lag_records();
            let uptime = snapshot.uptime.as_millis();
            let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if samples.len() >= KEPT_MAX {
                samples.pop_front();
            }
            samples.push_back(Sample { uptime, read: snapshot.read, replayed: snapshot.replayed, lag });
        }
    }

    pub(super) fn samples(&self) -> Vec<Sample> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}
