//! The main job: from changes to alerts. One loop over a closed set of events.
//!
//! ```text
//! source ─ decode ─ window ─ evaluate ─┬─ ask Postgres ─ answer ─ decide ─ offsets/N ─┬─ sinks
//!                                      │                                              ├─ the group's offsets
//!                                      └─ what still waits ── offsets/N, state/N      └─ commits/N
//! ```
//!
//! - this file: from one assignment of the partitions to its end
//! - [`assignment`]: the work on one assignment, micro-batch by micro-batch
//! - [`intake`]: the records that have come from the topic
//! - [`database`]: the requests to Postgres, and their times
//! - [`look`]: whether table, server and topic are those for which the run was prepared
//! - [`recover`]: where an assignment resumes, [`lookups`]: the facts for that decision
//! - [`epoch`]: making progress durable, [`durable`]: the durable progress
//! - [`memory`]: whether memory is full
//! - [`settings`], [`counts`]: the settings of a run, and its counts

pub mod assignment;
pub mod counts;
mod database;
mod durable;
pub mod epoch;
mod intake;
mod look;
mod lookups;
mod memory;
pub mod recover;
mod settings;

pub use settings::Settings;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use assignment::{Assignment, Ending};
use counts::Counts;
use database::{AuditReply, Reply, Request, UnderWay};
use epoch::close;

use crate::change::Change;
use crate::checkpoint::Folder;
use crate::clock::Clock;
use crate::confirm::Confirm;
use crate::contract::Contracts;
use crate::failure::{CallError, HasKind, Kind, Server};
use crate::job::gauge::Gauge;
use crate::job::{self, Ended, Job, JobError};
use crate::model::Timestamp;
use crate::retry::Outage;
use crate::rule::Rule;
use crate::rule::table_row::TableRow;
use crate::rule::watched::Watched;
use crate::run_status::{Phase, Refresh, RunStatus, Update};
use crate::sink::Sinks;
use crate::snapshot::Snapshot;
use crate::source::{Beside, Event, Source};
use crate::telemetry;
use crate::unit::SeenRows;
use crate::unit::audit::AuditRequest;
use crate::unit::events::UnitEvents;
use crate::unit::stored::Decisions;

/// The parts of the main job.
pub struct Monitor<S, C, K, T> {
    /// The settings.
    pub settings: Settings,
    /// The rules.
    pub rules: Vec<Rule>,
    /// The tables of the source's changes, in the order of the source's numbers.
    pub tables: Vec<Watched>,
    /// The state of tables and server for which rules and decoders were created.
    pub contracts: Contracts,
    /// The known changes of that state since the windows were stored. If there are any, the windows come from the
    /// table.
    pub changes: Vec<String>,
    /// The source of changes.
    pub source: S,
    /// The confirmation by Postgres.
    pub confirm: C,
    /// The sinks of alerts.
    pub sinks: K,
    /// The clock.
    pub clock: T,
    /// The checkpoint folder.
    pub folder: Folder,
    /// The gauge of the run's progress.
    pub gauge: Arc<Gauge>,
    /// The status of the run.
    pub status: Arc<RunStatus>,
    /// The counts so far.
    pub counts: Counts,
}

/// Sends a request of this number and waits for the reply.
async fn ask<C: Confirm, B: Beside>(number: u64, confirm: &C, beside: B, request: Request) -> (u64, Reply) {
    (number, reply(confirm, beside, request).await)
}

async fn reply<C: Confirm, B: Beside>(confirm: &C, beside: B, request: Request) -> Reply {
    match request {
        Request::Confirm(question) => {
            let answers = confirm.ask(&question).await;
            Reply::Answers(question, answers)
        }
        Request::Look(last_records, begun) => {
            Reply::Looked(begun, look::look(confirm, &beside, &last_records).await.map(Box::new))
        }
        Request::Snapshot => Reply::Snapshot(confirm.snapshot().await),
        Request::Rows(reload) => {
            let rows = confirm.rows(reload.rule, &reload.asked).await;
            Reply::Rows(reload, rows)
        }
        Request::Lookup(table, pks) => Reply::Found(table, with_snapshot(confirm, confirm.lookup(table, &pks)).await),
        Request::Zones => Reply::Zones(confirm.zones().await),
        Request::Audit(request, now) => {
            let started = tokio::time::Instant::now();
            let reply = audit(confirm, request, now).await;
            Reply::Audited(reply, started.elapsed())
        }
    }
}

/// Reads rows, and before them a snapshot. The rows show everything that the snapshot shows.
async fn with_snapshot<C: Confirm>(
    confirm: &C,
    rows: impl Future<Output = Result<Vec<TableRow>, CallError>>,
) -> Result<SeenRows, CallError> {
    let text = confirm.snapshot().await?;
    let unreadable = || CallError::new("Postgres", format!("{text:?} is no snapshot"), Kind::Internal);
    let snapshot = Snapshot::parse(&text).ok_or_else(unreadable)?;
    Ok(SeenRows { rows: rows.await?, snapshot })
}

async fn audit<C: Confirm>(confirm: &C, request: AuditRequest, now: Timestamp) -> AuditReply {
    match request {
        AuditRequest::Compare(question) => {
            let answers = confirm.compare(&question).await;
            AuditReply::Compared(question, answers)
        }
        AuditRequest::Page(rule, after) => AuditReply::Page(rule, confirm.page(rule, after.as_ref(), now).await),
        AuditRequest::Heal(question) => {
            let rows = with_snapshot(confirm, confirm.rows_of(&question)).await;
            AuditReply::Healed(question, rows)
        }
        AuditRequest::Sweep(rule) => AuditReply::Swept(rule, confirm.sweep(rule, now).await),
    }
}

/// The events that wake the loop.
enum Wake {
    Stop,
    Answered(u64, Reply),
    Source(Event),
    Tick,
}

/// A run of the monitor.
struct Running<'m, S, C, K, T> {
    monitor: &'m mut Monitor<S, C, K, T>,
    /// The counts so far.
    counts: Counts,
}

impl<S: Source<Change = Change>, C: Confirm, K: Sinks<Member = S::Member>, T: Clock> Job for Running<'_, S, C, K, T> {
    type Source = S;

    fn source(&mut self) -> &mut S {
        &mut self.monitor.source
    }

    fn group(&self) -> String {
        self.monitor.settings.group.clone()
    }

    fn until_end(&self) -> bool {
        self.monitor.settings.until_end
    }

    fn joins(&mut self) {
        self.monitor.status.phase(Phase::Joining);
    }

    async fn work(
        &mut self,
        partitions: &[i32],
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Ended, JobError> {
        self.monitor.status.phase(Phase::Recovering);
        let recovered = tokio::select! {
            biased;
            recovered = self.monitor.recover(partitions, self.counts.clone()) => recovered,
            // Wherever this is left, the state is as after a crash.
            () = &mut stop => {
                let finished = self.monitor.folder.unfinished::<Decisions>()?.is_empty();
                return if finished { Ok(Ended::Stopped) } else { Err(JobError::Cut) };
            }
        };
        let mut assignment = match recovered {
            Ok(assignment) => assignment,
            Err(error) => return Err(self.monitor.explained(error).await),
        };
        let ended = match self.monitor.work(&mut assignment, stop).await {
            Ok(ended) => Ok(ended),
            Err(error) => Err(self.monitor.explained(error).await),
        };
        // If another instance continues, it repeats the work since the newest epoch.
        let went_on = matches!(ended, Ok(Ended::Stopped | Ended::Read));
        self.counts = if went_on { assignment.counts } else { assignment.durable.counts };
        ended
    }
}

impl<S: Source<Change = Change>, C: Confirm, K: Sinks<Member = S::Member>, T: Clock> Monitor<S, C, K, T> {
    /// Runs until `stop` is ready, or to the end with `until_end`.
    ///
    /// # Errors
    /// An error that the run cannot recover from. It is [`JobError::Cut`] if the run does not end in time after `stop`,
    /// and [`JobError::BeforeTheEnd`] if it was to read to the end.
    pub async fn run(&mut self, stop: impl Future<Output = ()>) -> Result<Counts, JobError> {
        self.status.begin(&self.settings.group, &self.settings.topics, &self.rules, self.source.cut_off());
        let counts = self.counts.clone();
        let mut running = Running { monitor: self, counts };
        let ended = job::run(&mut running, stop).await;
        self.counts = running.counts;
        self.status.phase(Phase::Ended);
        ended.map(|()| self.counts.clone())
    }

    /// Returns the error to end with. Postgres may reject a statement because the table has changed since the statement
    /// was created. Then that change is the error.
    async fn explained(&self, error: JobError) -> JobError {
        let is_refused = matches!(&error, JobError::Call(call) if call.server() == Some(Server::Postgres))
            && matches!(error.kind(), Kind::Misconfigured | Kind::Refused);
        if !is_refused {
            return error;
        }
        match self.confirm.look().await.map(|look| self.contracts.changes(&look.contracts)) {
            Ok(changes) if !changes.is_empty() => JobError::Changed(changes),
            _ => error,
        }
    }

    /// Updates the run status after a turn of the loop.
    fn show(&self, assignment: &mut Assignment, events: UnitEvents, now: Timestamp, refresh: Option<Refresh>) {
        self.status.update(Update {
            read: assignment.counts.read,
            replayed: assignment.counts.replayed,
            rejects: std::mem::take(&mut assignment.intake.rejects),
            events,
            paused: assignment.paused,
            rebuilds: assignment.rebuilds(),
        });
        if let Some(refresh) = self.status.due_refresh().max(refresh) {
            let ends = (refresh == Refresh::Full).then(|| self.source.ends());
            self.status.refresh(&assignment.unit, &assignment.intake.last_records, ends.as_ref(), now);
        }
    }

    /// Runs the loop.
    async fn work(
        &mut self,
        assignment: &mut Assignment,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Ended, JobError> {
        let member = self.source.member();
        let (mut asking, mut under_way) = (FuturesUnordered::new(), UnderWay::default());
        let mut database = Outage::new("asking the database");
        let Assignment { counts, durable, .. } = &*assignment;
        self.status.assigned((counts.read, counts.replayed), &durable.progress);
        self.gauge.report(assignment.left(), assignment.unit.waiting());
        loop {
            if asking.is_empty()
                && let Some(zones) = assignment.new_zones.take()
            {
                // Answers that were under way belong to the previous time zones.
                self.use_zones(assignment, &zones).await?;
                self.rules.iter_mut().zip(zones).for_each(|(rule, zone)| rule.query.zone = zone);
            }
            let now = self.clock.now();
            let may_ask = assignment.new_zones.is_none();
            while may_ask && asking.len() < self.settings.statements_max && !assignment.rebuilds() {
                let Some(question) = assignment.unit.ask(now, self.settings.keys_per_statement) else { break };
                asking.push(ask(under_way.begin(), &self.confirm, self.source.beside(), Request::Confirm(question)));
            }
            if may_ask {
                for request in assignment.requests(now, &self.settings) {
                    asking.push(ask(under_way.begin(), &self.confirm, self.source.beside(), request));
                }
            }
            let rss_mb = self.settings.rss_max_mb.and_then(|_| telemetry::resident_mb());
            let reads = assignment.reads(rss_mb, &self.settings);
            let may_ask = may_ask && asking.len() < self.settings.statements_max;
            let wake = tokio::select! {
                biased;
                () = &mut stop => Wake::Stop,
                Some((number, reply)) = asking.next(), if !asking.is_empty() => Wake::Answered(number, reply),
                event = self.source.next(), if reads => Wake::Source(event),
                () = tokio::time::sleep(assignment.until_next(now, may_ask, &self.settings)) => Wake::Tick,
            };
            let now = self.clock.now();
            match wake {
                Wake::Stop => {
                    assignment.take_events();
                    let closed =
                        close(&self.settings, &mut self.sinks, &member, &self.folder, assignment, now, true).await?;
                    closed.iter().for_each(|epoch| self.status.closed(epoch, &assignment.durable.progress));
                    return Ok(Ended::Stopped);
                }
                Wake::Answered(number, reply) => {
                    match reply.took() {
                        Ok(_) => database.works_at(Server::Postgres),
                        Err(error) if error.is_retried() => database.goes_on(error),
                        Err(_) => {}
                    }
                    self.status.answered(reply.took());
                    assignment.answered(reply, now, &self.settings);
                    if under_way.end(number) {
                        assignment.unit.statements_have_passed();
                    }
                }
                Wake::Source(Event::Batch(batch)) => {
                    assignment.take_batch(batch, now, &self.settings);
                }
                Wake::Source(Event::Revoked) => return Ok(Ended::Revoked),
                Wake::Source(Event::Assigned(_)) => {
                    return Err(JobError::Internal("partitions were assigned twice".to_owned()));
                }
                Wake::Source(Event::Failed(error)) => return Err(error.into()),
                Wake::Tick => assignment.evaluate(now),
            }
            match assignment.ending.take() {
                None => {}
                Some(Ending::AnotherTopic(text)) => return Err(JobError::Unsafe(text)),
                Some(Ending::Changed(changes)) => {
                    // Everything that was decided is delivered. The windows are invalid from here on.
                    assignment.take_events();
                    let closed =
                        close(&self.settings, &mut self.sinks, &member, &self.folder, assignment, now, true).await?;
                    closed.iter().for_each(|epoch| self.status.closed(epoch, &assignment.durable.progress));
                    return Err(JobError::Changed(changes));
                }
            }
            let events = assignment.take_events();
            self.gauge.report(assignment.left(), assignment.unit.waiting());
            let ending = self.settings.until_end || assignment.intake.stopped_by.is_some();
            let done = ending && assignment.is_done(now) && asking.is_empty();
            let due = done || assignment.is_due(now, &self.settings);
            let closed = if due {
                close(&self.settings, &mut self.sinks, &member, &self.folder, assignment, now, done).await?
            } else {
                None
            };
            let refresh = if done { Some(Refresh::Full) } else { closed.as_ref().map(|_| Refresh::Sizes) };
            self.show(assignment, events, now, refresh);
            closed.iter().for_each(|epoch| self.status.closed(epoch, &assignment.durable.progress));
            if done {
                return assignment.intake.stopped_by.take().map_or(Ok(Ended::Read), |record| Err(record.into()));
            }
        }
    }
}
