//! The main job: changes in, alerts out. One loop over a closed set of events.
//!
//! ```text
//! source ─ decode ─ window ─ judge ─┬─ ask Postgres ─ answer ─ decide ─ offsets/N ─┬─ sinks
//!                                   │                                              ├─ the group's offsets
//!                                   └─ what still waits ── offsets/N, state/N      └─ commits/N
//! ```
//!
//! - this file: from one assignment of the partitions to its end
//! - [`recover`]: where an assignment goes on from
//! - [`epoch`]: how progress is made durable

pub mod epoch;
pub mod recover;

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};

use crate::checkpoint::{CheckpointError, Folder, Offsets};
use crate::clock::Clock;
use crate::confirm::Confirm;
use crate::model::{NextOffset, Timestamp};
use crate::rule::Rule;
use crate::sink::{SinkError, Sinks};
use crate::snapshot::Snapshot;
use crate::source::{BATCH_RECORDS_MAX, Batch, Content, DeadLetter, Event, Source, SourceError};
use crate::unit::{Answer, Counts, Question, Unit};

/// Dead letters that are held before an epoch is closed for them.
const DEAD_LETTERS_MAX: usize = 1_000;

/// An alert waits this long at most for more of its kind while there is more to read.
const ALERT_WAIT_MICROS: i64 = 100_000;

/// How long the last epoch may take after a stop. Leaving it then is as safe as a crash.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// The wait before a broker that does not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How often the database's snapshot is asked for while changes come.
const SNAPSHOT_MICROS: i64 = 1_000_000;

/// How long the loop sleeps at most.
const SLEEP_MAX_MICROS: i64 = 1_000_000;

/// Settings of the loop.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Consumer group.
    pub group: String,
    /// Topic of the changes.
    pub topic: String,
    /// Start at the end of the topic, rather than the beginning, where neither layer of progress exists.
    pub from_latest: bool,
    /// An epoch is closed at least this often while there is progress.
    pub trigger_interval: Duration,
    /// The windows are stored about this often.
    pub state_interval: Duration,
    /// Groups asked in one statement at most.
    pub keys_per_statement: usize,
    /// Statements under way at most.
    pub statements_max: usize,
    /// Stop at a record that is not understood, rather than copying it to the dead-letter topic.
    pub stop_on_bad_record: bool,
    /// End once everything that was there at the start has been read and every candidate answered.
    pub until_end: bool,
}

/// Why a run ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// The checkpoint folder.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Kafka.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A sink that refuses for good.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// `on_bad_record = "stop"`.
    #[error(
        "{topic} partition {partition} offset {offset}: {reason}; source.on_bad_record = \"stop\", so the run stops before this record"
    )]
    BadRecord {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// Offset of the record.
        offset: i64,
        /// Why it was not understood.
        reason: String,
    },
    /// Going on would lose or repeat something.
    #[error("{0}")]
    Unsafe(String),
    /// It was told to stop while a sink was away.
    #[error("stopped before everything was delivered: what was logged is delivered at the next start")]
    Cut,
    /// A rule or a stored state that does not fit.
    #[error("{0}")]
    Internal(String),
}

/// The parts of the main job.
pub struct Monitor<S, C, K, T> {
    /// Settings.
    pub settings: Settings,
    /// The rules.
    pub rules: Vec<Rule>,
    /// The columns that the source's decoder yields: indexes into the table.
    pub wanted: Vec<usize>,
    /// Where changes come from.
    pub source: S,
    /// Who confirms.
    pub confirm: C,
    /// Where alerts go.
    pub sinks: K,
    /// What time it is.
    pub clock: T,
    /// Where progress is kept.
    pub folder: Folder,
}

/// Work on one assignment of the partitions.
struct Session {
    unit: Unit,
    lineage: String,
    /// Number of the next epoch.
    epoch: u64,
    /// Until these offsets records only rebuild windows; empty once they are rebuilt.
    rebuild: Offsets,
    /// The end of each partition at the start, for `--until-end`.
    ends: Offsets,
    /// Partitions of which everything up to `ends` has been read.
    ended: BTreeSet<i32>,
    /// When everything had been read.
    all_read_at: Option<Timestamp>,
    /// When the database's snapshot was last asked for, and where the stream stood then.
    looked_at: Option<Timestamp>,
    looked_from: Option<Offsets>,
    /// The last batch was full: there is more to read right now.
    backlog: bool,
    dead: Vec<DeadLetter>,
    /// The record that the run stops before, once what came before it is done with.
    stopped_by: Option<MonitorError>,
    /// The counts as of the newest epoch.
    counts: Counts,
    logged: Offsets,
    closed_at: Timestamp,
    stored_at: Timestamp,
    stored: Option<Offsets>,
}

/// What is asked of the database.
enum Request {
    Ask(Question),
    Look,
}

/// What it said.
enum Reply {
    Answers(Question, Vec<Result<Answer, String>>),
    Snapshot(Result<String, String>),
}

async fn serve<C: Confirm>(confirm: &C, request: Request) -> Reply {
    match request {
        Request::Ask(question) => {
            let answers = confirm.ask(&question).await;
            Reply::Answers(question, answers)
        }
        Request::Look => Reply::Snapshot(confirm.snapshot().await),
    }
}

/// What the loop is woken by.
enum Wake {
    Stop,
    Answered(Reply),
    Source(Event),
    Tick,
}

/// How work on an assignment ended.
enum Ended {
    Stopped,
    Read,
    Revoked,
}

impl<S: Source, C: Confirm, K: Sinks, T: Clock> Monitor<S, C, K, T> {
    /// Runs until `stop` is ready, or until the end with `until_end`.
    ///
    /// # Errors
    /// What the run does not get over by itself; [`MonitorError::Cut`] when it does not end in time after
    /// `stop`.
    pub async fn run(&mut self, stop: impl Future<Output = ()>) -> Result<Counts, MonitorError> {
        let stop = stop.shared();
        let hard_limit = stop.clone().then(|()| tokio::time::sleep(STOP_GRACE));
        tokio::select! {
            ended = self.run_until(stop) => ended,
            () = hard_limit => Err(MonitorError::Cut),
        }
    }

    async fn run_until(&mut self, stop: impl Future<Output = ()>) -> Result<Counts, MonitorError> {
        let mut stop = std::pin::pin!(stop);
        let mut counts = Counts::default();
        loop {
            let Some(partitions) = self.assigned(stop.as_mut()).await? else { return Ok(counts) };
            let mut session = self.recover(&partitions, std::mem::take(&mut counts)).await?;
            let ended = self.work(&mut session, stop.as_mut()).await?;
            match ended {
                Ended::Revoked => tracing::warn!("the group took the partitions away; waiting for them to come back"),
                Ended::Stopped | Ended::Read => return Ok(session.unit.counts),
            }
            counts = session.counts; // what was done since the newest epoch is done again
        }
    }

    /// Waits until the group gives all partitions of the topic to this member; `None` when stopped before.
    async fn assigned(
        &mut self,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Option<Vec<i32>>, MonitorError> {
        loop {
            let event = tokio::select! {
                () = &mut stop => return Ok(None),
                event = self.source.next() => event,
            };
            let given = match event {
                Event::Assigned(given) => given,
                Event::Failed(error) => return Err(error.into()),
                Event::Revoked | Event::Batch(_) => continue,
            };
            let all = patiently(async || self.source.partitions().await).await?;
            if given.len() == all.len() && !all.is_empty() {
                return Ok(Some(given));
            }
            let group = &self.settings.group;
            if self.settings.until_end || !given.is_empty() {
                return Err(MonitorError::Unsafe(format!(
                    "group {group} has another active member: this one was given {} of {} partitions, and a rule needs all of them; stop the other one, or use a group id of its own",
                    given.len(),
                    all.len()
                )));
            }
            tracing::warn!(group, "another member of the group holds the partitions; standing by");
        }
    }

    /// The loop.
    async fn work(
        &mut self,
        session: &mut Session,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Ended, MonitorError> {
        let mut asking = FuturesUnordered::new();
        loop {
            let now = self.clock.now();
            while asking.len() < self.settings.statements_max && session.rebuild.is_empty() {
                let Some(question) = session.unit.ask(now, self.settings.keys_per_statement) else { break };
                asking.push(serve(&self.confirm, Request::Ask(question)));
            }
            if session.wants_snapshot(now) {
                asking.push(serve(&self.confirm, Request::Look));
            }
            let may_ask = asking.len() < self.settings.statements_max;
            let wake = tokio::select! {
                biased;
                () = &mut stop => Wake::Stop,
                Some(reply) = asking.next(), if !asking.is_empty() => Wake::Answered(reply),
                event = self.source.next(), if session.stopped_by.is_none() => Wake::Source(event),
                () = tokio::time::sleep(session.until_next(now, may_ask, &self.settings)) => Wake::Tick,
            };
            let now = self.clock.now();
            match wake {
                Wake::Stop => {
                    close(&self.settings, &mut self.sinks, &self.source, &self.folder, session, now, true).await?;
                    return Ok(Ended::Stopped);
                }
                Wake::Answered(reply) => session.answered(reply, now),
                Wake::Source(Event::Batch(batch)) => {
                    session.step(batch, now, &self.settings);
                }
                Wake::Source(Event::Revoked) => return Ok(Ended::Revoked),
                Wake::Source(Event::Assigned(_)) => {
                    return Err(MonitorError::Internal("partitions were assigned twice".to_owned()));
                }
                Wake::Source(Event::Failed(error)) => return Err(error.into()),
                Wake::Tick => session.tick(now),
            }
            let ending = self.settings.until_end || session.stopped_by.is_some();
            let done = ending && session.is_done(now) && asking.is_empty();
            if done || session.is_due(now, &self.settings) {
                close(&self.settings, &mut self.sinks, &self.source, &self.folder, session, now, done).await?;
            }
            if done {
                return session.stopped_by.take().map_or(Ok(Ended::Read), Err);
            }
        }
    }
}

use epoch::close;

impl Session {
    /// Applies the records of one poll, then judges each touched group once.
    fn step(&mut self, batch: Batch, now: Timestamp, settings: &Settings) {
        self.backlog = batch.records.len() >= BATCH_RECORDS_MAX;
        for record in batch.records {
            let position = record.position;
            let replayed = self.rebuild.get(&position.partition).is_some_and(|end| position.offset < end.0);
            let counts = &mut self.unit.counts;
            if replayed {
                counts.replayed += 1;
            } else {
                counts.read += 1;
            }
            match record.content {
                Content::Change(change) => self.unit.apply(&change, position, now),
                Content::Ignored(reason) => tracing::trace!(?position, reason, "ignored"),
                Content::Rejected(_) if replayed => {}
                Content::Rejected(letter) => {
                    if let Err(error) = self.reject(*letter, settings) {
                        self.unit.counts.read -= 1;
                        self.unit.judge(now);
                        self.stopped_by = Some(error);
                        return;
                    }
                }
            }
            self.unit.advance(position.partition, NextOffset::after(position.offset));
            // At once, before what follows in the batch: that is news.
            self.end_rebuild(now);
        }
        self.ended.extend(batch.ended);
        self.end_rebuild(now);
        if self.rebuild.is_empty() {
            self.unit.judge(now);
        }
    }

    /// Whether it is time to see which transactions the database shows, so that those applied need not be
    /// remembered: once at first, then every second while there are new ones.
    fn wants_snapshot(&mut self, now: Timestamp) -> bool {
        let due = self.looked_at.is_none_or(|at| now.0.saturating_sub(at.0) >= SNAPSHOT_MICROS);
        if !due || !self.unit.is_confirmed() || self.looked_from.as_ref() == Some(self.unit.offsets()) {
            return false;
        }
        self.looked_at = Some(now);
        self.looked_from = Some(self.unit.offsets().clone());
        true
    }

    fn answered(&mut self, reply: Reply, now: Timestamp) {
        match reply {
            Reply::Answers(question, answers) => self.unit.answer(&question, &answers, now),
            Reply::Snapshot(Ok(text)) => {
                if let Some(snapshot) = Snapshot::parse(&text) {
                    self.unit.saw(&snapshot);
                }
            }
            Reply::Snapshot(Err(problem)) => tracing::debug!(problem, "no snapshot of the database"),
        }
    }

    /// What time alone has changed.
    fn tick(&mut self, now: Timestamp) {
        if self.rebuild.is_empty() {
            self.unit.judge(now);
        }
    }

    /// Once what was read before has been read again, every group is judged.
    fn end_rebuild(&mut self, now: Timestamp) {
        if self.rebuild.is_empty() || !self.is_rebuilt() {
            return;
        }
        for (partition, end) in std::mem::take(&mut self.rebuild) {
            self.unit.advance(partition, end); // the last offsets may hold no record
        }
        tracing::info!(rows = self.unit.rows(), replayed = self.unit.counts.replayed, "windows are rebuilt");
        self.unit.judge_all(now);
    }

    fn reject(&mut self, letter: DeadLetter, settings: &Settings) -> Result<(), MonitorError> {
        let (position, reason) = (letter.position, letter.reject.detail.clone());
        if settings.stop_on_bad_record {
            return Err(MonitorError::BadRecord {
                topic: settings.topic.clone(),
                partition: position.partition,
                offset: position.offset,
                reason,
            });
        }
        self.unit.counts.rejected += 1;
        let (partition, offset) = (position.partition, position.offset);
        tracing::warn!(topic = settings.topic, partition, offset, reason, "record not understood");
        self.dead.push(letter);
        Ok(())
    }

    /// Whether what was read before has been read again, in every partition.
    fn is_rebuilt(&self) -> bool {
        let reached = |(partition, end): (&i32, &NextOffset)| {
            self.unit.offsets().get(partition).is_some_and(|next| next >= end) || self.ended.contains(partition)
        };
        self.rebuild.iter().all(reached)
    }

    /// Whether everything that was there at the start has been read, and every candidate answered since.
    fn is_done(&mut self, now: Timestamp) -> bool {
        let read = |(partition, end): (&i32, &NextOffset)| {
            self.unit.offsets().get(partition).is_some_and(|next| next >= end) || self.ended.contains(partition)
        };
        if !self.rebuild.is_empty() || (self.stopped_by.is_none() && !self.ends.iter().all(read)) {
            return false;
        }
        match self.all_read_at {
            Some(then) => self.unit.all_answered_since(then),
            None => {
                self.all_read_at = Some(now);
                self.unit.hurry(now);
                self.unit.waiting() == 0
            }
        }
    }

    /// Whether an epoch is to be closed. While there is a backlog, alerts wait a little for each other.
    fn is_due(&self, now: Timestamp, settings: &Settings) -> bool {
        if !self.rebuild.is_empty() {
            return false;
        }
        let passed = now.0.saturating_sub(self.closed_at.0);
        let alerts = self.unit.undelivered() > 0 && (!self.backlog || passed >= ALERT_WAIT_MICROS);
        let progress = *self.unit.offsets() != self.logged && passed >= micros(settings.trigger_interval);
        // Due although nothing was read: time alone takes rows out of the windows.
        let state = now.0.saturating_sub(self.stored_at.0) >= micros(settings.state_interval);
        alerts || progress || state || self.dead.len() >= DEAD_LETTERS_MAX
    }

    /// How long the loop may sleep when nothing happens. `may_ask`: a statement is free for what falls due.
    fn until_next(&self, now: Timestamp, may_ask: bool, settings: &Settings) -> Duration {
        let mut next = now.0.saturating_add(SLEEP_MAX_MICROS);
        if self.rebuild.is_empty() {
            if *self.unit.offsets() != self.logged {
                next = next.min(self.closed_at.0.saturating_add(micros(settings.trigger_interval)));
            }
            if self.unit.undelivered() > 0 {
                next = next.min(self.closed_at.0.saturating_add(ALERT_WAIT_MICROS));
            }
            if let Some(due) = self.unit.next_due().filter(|_| may_ask) {
                next = next.min(due.0);
            }
            if let Some(edge) = self.unit.next_edge() {
                next = next.min(edge.0);
            }
        }
        // At least a millisecond, lest the loop spin.
        Duration::from_micros(u64::try_from(next.saturating_sub(now.0)).unwrap_or(0).max(1_000))
    }
}

/// Repeats a request until the broker answers: after the start, outages are ridden out.
async fn patiently<T>(mut ask: impl AsyncFnMut() -> Result<T, SourceError>) -> Result<T, SourceError> {
    loop {
        match ask().await {
            Err(SourceError::Call(problem)) => {
                tracing::warn!(problem, "asked again");
                tokio::time::sleep(ASK_AGAIN).await;
            }
            answered => return answered,
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "monitor/tests.rs"]
mod tests;
