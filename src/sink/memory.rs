//! A twin of the sinks for tests: a broker's transactions, a table and a log that outlive whoever writes to them, with
//! faults on demand.
//!
//! Every call yields before and after each effect, so that a test can end a run between any two.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::yield_now;
use uuid::Uuid;

use super::{Bury, SinkError, SinkErrorKind, Sinks, Transaction};
use crate::alert::Alert;
use crate::source::DeadLetter;
use crate::source::memory::MemoryTopic;
use crate::unit::backup::{Backup, EpisodeRecord, Progress};

/// What was delivered, and the hand of one writer. Clones share what was delivered.
#[derive(Clone, Debug)]
pub struct MemorySinks {
    state: Arc<Mutex<State>>,
    topic: MemoryTopic,
    group: String,
    /// This writer's, since it fenced the others.
    epoch: u64,
}

#[derive(Debug, Default)]
struct State {
    /// The newest producer epoch, which is the table's generation as well.
    epoch: u64,
    pending: Option<Pending>,
    alerts: Vec<Alert>,
    episodes: BTreeMap<String, EpisodeRecord>,
    progress: BTreeMap<String, Progress>,
    table: BTreeMap<Uuid, Alert>,
    log: Vec<Alert>,
    dead: Vec<DeadLetter>,
    /// How many calls fail from here on, and whether for good.
    failures: u32,
    fatal: bool,
    calls: u32,
    /// The next commit does what it should, or does not, and says that it does not know.
    unknown: Option<bool>,
    /// The table does not answer.
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
    /// Sinks of a group that reads this topic.
    pub fn new(topic: &MemoryTopic, group: &str) -> Self {
        Self { state: Arc::default(), topic: topic.clone(), group: group.to_owned(), epoch: 0 }
    }

    /// The same sinks, as another group's.
    pub fn of(&self, group: &str) -> Self {
        Self { state: Arc::clone(&self.state), topic: self.topic.clone(), group: group.to_owned(), epoch: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every alert on the topic, as a reader of committed records sees it.
    pub fn alerts(&self) -> Vec<Alert> {
        self.lock().alerts.clone()
    }

    /// Every alert in the table.
    pub fn table(&self) -> Vec<Alert> {
        self.lock().table.values().cloned().collect()
    }

    /// Every alert in the log, repetitions included.
    pub fn log(&self) -> Vec<Alert> {
        self.lock().log.clone()
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

    /// The next commit is done, or not, and its outcome is not known to the writer.
    pub fn lose_next_commit(&self, done: bool) {
        self.lock().unknown = Some(done);
    }

    /// The table stops to answer, or answers again.
    pub fn table_away(&self, away: bool) {
        self.lock().table_away = away;
    }

    /// The backup is lost.
    pub fn lose_backup(&self) {
        let mut state = self.lock();
        state.episodes.clear();
        state.progress.clear();
    }

    fn admit(&self) -> Result<(), SinkError> {
        let mut state = self.lock();
        state.calls += 1;
        if state.failures == 0 {
            return Ok(());
        }
        state.failures -= 1;
        Err(failed("told to fail", if state.fatal { SinkErrorKind::Refused } else { SinkErrorKind::Away }))
    }

    /// Only the newest writer may.
    fn check(&self) -> Result<(), SinkError> {
        if self.lock().epoch == self.epoch {
            return Ok(());
        }
        Err(failed("a newer writer has taken over", SinkErrorKind::Fenced))
    }
}

fn failed(problem: &str, kind: SinkErrorKind) -> SinkError {
    SinkError { sink: "memory", problem: problem.to_owned(), kind }
}

impl Sinks for MemorySinks {
    type Member = u64;

    async fn fence(&mut self) -> Result<(), SinkError> {
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

    async fn bury(&mut self, dead: &[DeadLetter]) -> Result<(), SinkError> {
        yield_now().await;
        self.admit()?;
        self.lock().dead.extend_from_slice(dead);
        yield_now().await;
        Ok(())
    }

    async fn prepare(&mut self, member: &u64, transaction: &Transaction<'_>) -> Result<(), SinkError> {
        yield_now().await;
        self.check()?;
        self.admit()?;
        if self.topic.generation(&self.group) != *member {
            return Err(failed("this member is no longer the group's", SinkErrorKind::Fenced));
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

    async fn commit(&mut self) -> Result<(), SinkError> {
        yield_now().await;
        self.check()?;
        let unknown = self.lock().unknown.take();
        if unknown != Some(false) {
            let pending = self.lock().pending.take().filter(|pending| pending.epoch == self.epoch);
            let pending = pending.ok_or_else(|| failed("nothing is prepared", SinkErrorKind::Fenced))?;
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
            Some(_) => Err(failed("the outcome is not known", SinkErrorKind::Fenced)),
        }
    }

    async fn tell(&mut self, alerts: &[Alert]) -> Result<(), SinkError> {
        yield_now().await;
        self.check()?;
        self.admit()?;
        if self.lock().table_away {
            return Err(failed("the table is away", SinkErrorKind::Away));
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

    async fn backup(&mut self) -> Result<Backup, SinkError> {
        yield_now().await;
        self.admit()?;
        let state = self.lock();
        let mine = state.episodes.values().filter(|episode| episode.group == self.group);
        Ok(Backup { progress: state.progress.get(&self.group).cloned(), episodes: mine.cloned().collect() })
    }
}

/// A dead-letter topic. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryLetters(Arc<Mutex<Vec<DeadLetter>>>);

impl MemoryLetters {
    /// What is on it.
    pub fn letters(&self) -> Vec<DeadLetter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Bury for MemoryLetters {
    async fn bury(&self, dead: &[DeadLetter]) -> Result<(), SinkError> {
        yield_now().await;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(dead);
        yield_now().await;
        Ok(())
    }
}
