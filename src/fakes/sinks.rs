//! Fake sinks with faults on demand: a broker's transactions, a table and a log that outlive their writers.
//!
//! Every call yields before and after each effect, so that a test can end a run at either place.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::yield_now;
use uuid::Uuid;

use crate::alert::Alert;
use crate::change::record::DeadLetter;
use crate::failure::{CallError, Kind};
use crate::fakes::topic::MemoryTopic;
use crate::progress::Progress;
use crate::sink::{DeadLetterSink, Sinks, Transaction};
use crate::unit::recovery::{EpisodeRecord, RecoveryState};

/// The deliveries, and the state of one writer. Clones share the deliveries.
#[derive(Clone, Debug)]
pub struct MemorySinks {
    state: Arc<Mutex<State>>,
    topic: MemoryTopic,
    group: String,
    /// This writer's epoch, since it fenced the others.
    epoch: u64,
}

#[derive(Debug, Default)]
struct State {
    /// The newest producer epoch. It is also the table's generation.
    epoch: u64,
    pending: Option<Pending>,
    alerts: Vec<Alert>,
    episodes: BTreeMap<String, EpisodeRecord>,
    progress: BTreeMap<String, Progress>,
    table: BTreeMap<Uuid, Alert>,
    log: Vec<Alert>,
    dead: Vec<DeadLetter>,
    /// How many of the next calls fail, and whether for good.
    failures: u32,
    fatal: bool,
    calls: u32,
    /// The next commit takes effect or not, and reports that its outcome is unknown.
    unknown: Option<bool>,
    /// Whether the table does not answer.
    table_away: bool,
}

#[derive(Debug)]
struct Pending {
    epoch: u64,
    alerts: Vec<Alert>,
    episodes: Vec<EpisodeRecord>,
    progress: Progress,
}

impl MemorySinks {
    /// Creates sinks of a group that reads this topic.
    pub fn new(topic: &MemoryTopic, group: &str) -> Self {
        Self { state: Arc::default(), topic: topic.clone(), group: group.to_owned(), epoch: 0 }
    }

    /// Returns the same sinks for another group.
    pub fn of(&self, group: &str) -> Self {
        Self { state: Arc::clone(&self.state), topic: self.topic.clone(), group: group.to_owned(), epoch: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns every alert on the topic, as a reader of committed records sees them.
    pub fn alerts(&self) -> Vec<Alert> {
        self.lock().alerts.clone()
    }

    /// Returns every alert in the table.
    pub fn table(&self) -> Vec<Alert> {
        self.lock().table.values().cloned().collect()
    }

    /// Returns every alert in the log, including repetitions.
    pub fn log(&self) -> Vec<Alert> {
        self.lock().log.clone()
    }

    /// Returns every dead letter written so far, including repetitions.
    pub fn dead(&self) -> Vec<DeadLetter> {
        self.lock().dead.clone()
    }

    /// Returns the number of calls so far, including failed ones.
    pub fn calls(&self) -> u32 {
        self.lock().calls
    }

    /// Makes the next `times` calls fail, as if the broker were down.
    pub fn fail(&self, times: u32) {
        let mut state = self.lock();
        (state.failures, state.fatal) = (times, false);
    }

    /// Rejects all calls for good, or accepts them again.
    pub fn refuse(&self, refuse: bool) {
        let mut state = self.lock();
        (state.failures, state.fatal) = (if refuse { u32::MAX } else { 0 }, refuse);
    }

    /// Makes the next commit take effect, or not, without the writer learning which.
    pub fn lose_next_commit(&self, done: bool) {
        self.lock().unknown = Some(done);
    }

    /// Makes the table stop answering, or answer again.
    pub fn table_is_down(&self, away: bool) {
        self.lock().table_away = away;
    }

    /// Deletes the recovery topic's records.
    pub fn lose_recovery_topic(&self) {
        let mut state = self.lock();
        state.episodes.clear();
        state.progress.clear();
    }

    fn admit(&self) -> Result<(), CallError> {
        let mut state = self.lock();
        state.calls += 1;
        if state.failures == 0 {
            return Ok(());
        }
        state.failures -= 1;
        Err(failed("asked to fail", if state.fatal { Kind::Refused } else { Kind::Unreachable }))
    }

    /// Rejects every writer but the newest.
    fn check(&self) -> Result<(), CallError> {
        if self.lock().epoch == self.epoch {
            return Ok(());
        }
        Err(failed("a newer writer has taken over", Kind::Fenced))
    }
}

fn failed(problem: &str, kind: Kind) -> CallError {
    CallError::new("memory", problem, kind)
}

impl Sinks for MemorySinks {
    type Member = u64;

    async fn fence(&mut self) -> Result<(), CallError> {
        yield_now().await;
        self.admit()?;
        let epoch = {
            let mut state = self.lock();
            state.pending = None;
            state.epoch += 1;
            state.epoch
        };
        self.epoch = epoch;
        yield_now().await;
        Ok(())
    }

    async fn dead_letter(&mut self, dead: &[DeadLetter]) -> Result<(), CallError> {
        yield_now().await;
        self.admit()?;
        self.lock().dead.extend_from_slice(dead);
        yield_now().await;
        Ok(())
    }

    async fn prepare(&mut self, member: &u64, transaction: &Transaction<'_>) -> Result<(), CallError> {
        yield_now().await;
        self.check()?;
        self.admit()?;
        if self.topic.generation(&self.group) != *member {
            return Err(failed("this member is no longer the group's", Kind::Fenced));
        }
        self.lock().pending = Some(Pending {
            epoch: self.epoch,
            alerts: transaction.alerts.to_vec(),
            episodes: transaction.episodes.to_vec(),
            progress: transaction.progress.clone(),
        });
        yield_now().await;
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), CallError> {
        yield_now().await;
        self.check()?;
        let unknown = self.lock().unknown.take();
        if unknown != Some(false) {
            let pending = self.lock().pending.take().filter(|pending| pending.epoch == self.epoch);
            let pending = pending.ok_or_else(|| failed("nothing is prepared", Kind::Fenced))?;
            let mut state = self.lock();
            state.alerts.extend(pending.alerts);
            state.episodes.extend(pending.episodes.into_iter().map(|episode| (episode.record_key(), episode)));
            let progress = pending.progress;
            state.progress.insert(self.group.clone(), progress.clone());
            drop(state);
            self.topic.commit_group(&self.group, &progress.offsets, &progress.name);
        }
        yield_now().await;
        match unknown {
            None => Ok(()),
            Some(_) => Err(failed("the outcome is not known", Kind::Fenced)),
        }
    }

    async fn deliver(&mut self, alerts: &[Alert]) -> Result<(), CallError> {
        yield_now().await;
        self.check()?;
        self.admit()?;
        if self.lock().table_away {
            return Err(failed("the table is away", Kind::Unreachable));
        }
        for alert in alerts {
            self.lock().table.entry(alert.id).or_insert_with(|| alert.clone());
        }
        yield_now().await;
        for alert in alerts {
            self.lock().log.push(alert.clone());
            yield_now().await;
        }
        Ok(())
    }

    async fn recovery(&mut self) -> Result<RecoveryState, CallError> {
        yield_now().await;
        self.admit()?;
        let state = self.lock();
        let mine = state.episodes.values().filter(|episode| episode.group == self.group);
        Ok(RecoveryState { progress: state.progress.get(&self.group).cloned(), episodes: mine.cloned().collect() })
    }
}

/// A dead-letter topic. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryDeadLetters(Arc<Mutex<Vec<DeadLetter>>>);

impl MemoryDeadLetters {
    /// Returns the dead letters on the topic.
    pub fn taken(&self) -> Vec<DeadLetter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl DeadLetterSink for MemoryDeadLetters {
    async fn dead_letter(&self, dead: &[DeadLetter]) -> Result<(), CallError> {
        yield_now().await;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(dead);
        yield_now().await;
        Ok(())
    }
}
