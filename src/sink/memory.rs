//! A twin of the sinks for tests: what was delivered stands in shared lists, and faults come on demand.
//!
//! Delivering yields before and after every alert, so that a test can end a run between two of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::yield_now;

use super::{SinkError, Sinks};
use crate::alert::Alert;
use crate::source::DeadLetter;

/// Lists of what was delivered. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemorySinks {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    alerts: Vec<Alert>,
    dead: Vec<DeadLetter>,
    /// How many calls fail from here on, and whether for good.
    failures: u32,
    fatal: bool,
    calls: u32,
}

impl MemorySinks {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every alert delivered so far, repetitions included.
    pub fn alerts(&self) -> Vec<Alert> {
        self.lock().alerts.clone()
    }

    /// Every dead letter buried so far, repetitions included.
    pub fn dead(&self) -> Vec<DeadLetter> {
        self.lock().dead.clone()
    }

    /// Calls so far, failed ones included.
    pub fn calls(&self) -> u32 {
        self.lock().calls
    }

    /// The next `times` calls fail, as when a broker is away.
    pub fn fail(&self, times: u32) {
        let mut state = self.lock();
        (state.failures, state.fatal) = (times, false);
    }

    /// Refuses everything for good, or takes everything again.
    pub fn refuse(&self, refuse: bool) {
        let mut state = self.lock();
        (state.failures, state.fatal) = (if refuse { u32::MAX } else { 0 }, refuse);
    }

    fn admit(&self) -> Result<(), SinkError> {
        let mut state = self.lock();
        state.calls += 1;
        if state.failures == 0 {
            return Ok(());
        }
        state.failures -= 1;
        Err(SinkError { sink: "memory", problem: "told to fail".to_owned(), fatal: state.fatal })
    }
}

impl Sinks for MemorySinks {
    async fn deliver(&mut self, alerts: &[Alert]) -> Result<(), SinkError> {
        yield_now().await;
        self.admit()?;
        for alert in alerts {
            self.lock().alerts.push(alert.clone());
            yield_now().await;
        }
        Ok(())
    }

    async fn bury(&mut self, dead: &[DeadLetter]) -> Result<(), SinkError> {
        yield_now().await;
        self.admit()?;
        self.lock().dead.extend_from_slice(dead);
        yield_now().await;
        Ok(())
    }
}
