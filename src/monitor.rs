//! The main job: changes in, alerts out. One loop over a closed set of events.
//!
//! ```text
//! source ─ decode ─ window ─ judge ─┬─ ask Postgres ─ answer ─ decide ─ offsets/N ─┬─ sinks
//!                                   │                                              ├─ the group's offsets
//!                                   └─ what still waits ── offsets/N, state/N      └─ commits/N
//! ```
//!
//! - this file: from one assignment of the partitions to its end
//! - [`session`]: what happens in one assignment, step by step
//! - [`recover`]: where an assignment goes on from
//! - [`epoch`]: how progress is made durable

pub mod epoch;
pub mod recover;
pub mod session;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use epoch::close;
use session::Session;

use crate::board::{Board, Phase, Turn};
use crate::change::Change;
use crate::checkpoint::Folder;
use crate::clock::Clock;
use crate::confirm::Confirm;
use crate::confirm::rows::TableRow;
use crate::job::gauge::Gauge;
use crate::job::{self, Ended, Job, JobError, StartAt};
use crate::model::{Key, Timestamp};
use crate::rule::Rule;
use crate::sink::Sinks;
use crate::source::{Event, Source};
use crate::telemetry;
use crate::unit::stored::Decisions;
use crate::unit::{Answer, Counts, Question, Reload};

/// Settings of the loop.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Consumer group.
    pub group: String,
    /// Topic of the changes.
    pub topic: String,
    /// Where a group starts that has no progress in either layer.
    pub start_at: StartAt,
    /// A group without offsets goes on from its folder, rather than starting anew.
    pub resume_without_group: bool,
    /// Open episodes go on when their rule has changed, rather than firing anew.
    pub carry_episodes: bool,
    /// An epoch is closed at least this often while there is progress.
    pub trigger_interval: Duration,
    /// The windows are stored about this often.
    pub state_interval: Duration,
    /// Groups asked in one statement at most.
    pub keys_per_statement: usize,
    /// Statements under way at most.
    pub statements_max: usize,
    /// How often the whole rule is run in Postgres, to find groups that the stream missed; `None`: never.
    pub sweep_interval: Option<Duration>,
    /// Rows held at most; then reading pauses.
    pub rows_max: Option<usize>,
    /// Resident memory at most, in MiB; then reading pauses.
    pub rss_max_mb: Option<usize>,
    /// Stop at a record that is not understood, rather than copying it to the dead-letter topic.
    pub stop_on_bad_record: bool,
    /// End once everything that was there at the start has been read and every candidate answered.
    pub until_end: bool,
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
    /// Shows how far it is.
    pub gauge: Arc<Gauge>,
    /// Shows everything else.
    pub board: Arc<Board>,
}

/// What is asked of the database.
enum Request {
    Ask(Question),
    Look,
    Reload(Reload),
    Sweep(usize, Timestamp),
}

/// What it said.
enum Reply {
    Answers(Question, Vec<Result<Answer, String>>),
    Snapshot(Result<String, String>),
    Rows(Reload, Result<Vec<TableRow>, String>),
    Swept(usize, Result<Vec<Key>, String>),
}

async fn serve<C: Confirm>(confirm: &C, request: Request) -> Reply {
    match request {
        Request::Ask(question) => {
            let answers = confirm.ask(&question).await;
            Reply::Answers(question, answers)
        }
        Request::Look => Reply::Snapshot(confirm.snapshot().await),
        Request::Reload(reload) => {
            let rows = confirm.rows(reload.rule, &reload.asked).await;
            Reply::Rows(reload, rows)
        }
        Request::Sweep(rule, now) => Reply::Swept(rule, confirm.sweep(rule, now).await),
    }
}

/// What the loop is woken by.
enum Wake {
    Stop,
    Answered(Reply),
    Source(Event),
    Tick,
}

/// A run of the monitor.
struct Running<'m, S, C, K, T> {
    monitor: &'m mut Monitor<S, C, K, T>,
    /// What has been done so far.
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
        self.monitor.board.phase(Phase::Joining);
    }

    async fn work(
        &mut self,
        partitions: &[i32],
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Ended, JobError> {
        self.monitor.board.phase(Phase::Recovering);
        let recovered = tokio::select! {
            recovered = self.monitor.recover(partitions, self.counts.clone()) => recovered,
            // Wherever it is left, it is as after a crash.
            () = &mut stop => {
                let whole = self.monitor.folder.unfinished::<Decisions>()?.is_empty();
                return if whole { Ok(Ended::Stopped) } else { Err(JobError::Cut) };
            }
        };
        let mut session = recovered?;
        let ended = self.monitor.work(&mut session, stop).await;
        // What was done since the newest epoch is done again where somebody else goes on.
        let went_on = matches!(ended, Ok(Ended::Stopped | Ended::Read));
        self.counts = if went_on { session.unit.counts } else { session.counts };
        ended
    }
}

impl<S: Source<Change = Change>, C: Confirm, K: Sinks<Member = S::Member>, T: Clock> Monitor<S, C, K, T> {
    /// Runs until `stop` is ready, or until the end with `until_end`.
    ///
    /// # Errors
    /// What the run does not get over by itself; [`JobError::Cut`] when it does not end in time after `stop`,
    /// [`JobError::BeforeTheEnd`] when it was to read to the end.
    pub async fn run(&mut self, stop: impl Future<Output = ()>) -> Result<Counts, JobError> {
        self.board.begin(&self.settings.group, &self.settings.topic, &self.rules, self.source.cut_off());
        let mut running = Running { monitor: self, counts: Counts::default() };
        let ended = job::run(&mut running, stop).await;
        let counts = running.counts;
        self.board.phase(Phase::Ended);
        ended.map(|()| counts)
    }

    /// Lets the board know what a turn of the loop has brought. `look`: it is to have a look now, and whether a long one.
    fn show(&self, session: &mut Session, now: Timestamp, look: Option<bool>) {
        for kind in session.rejects.drain(..) {
            self.board.rejected(kind);
        }
        let news = std::mem::take(&mut session.unit.news);
        let (paused, rebuilds) = (session.full, !session.rebuild.is_empty());
        self.board.turn(Turn { counts: &session.unit.counts, news, paused, rebuilds });
        if let Some(long) = self.board.wants_glance().max(look) {
            let ends = long.then(|| self.source.ends());
            self.board.glance(&session.unit, &session.marks, ends.as_ref(), now);
        }
    }

    /// The loop.
    async fn work(
        &mut self,
        session: &mut Session,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Ended, JobError> {
        let member = self.source.member();
        let mut asking = FuturesUnordered::new();
        self.board.assigned(&session.counts, &session.progress);
        self.gauge.tell(session.left(), session.unit.waiting());
        loop {
            let now = self.clock.now();
            while asking.len() < self.settings.statements_max && session.rebuild.is_empty() {
                let Some(question) = session.unit.ask(now, self.settings.keys_per_statement) else { break };
                asking.push(serve(&self.confirm, Request::Ask(question)));
            }
            for request in session.requests(now, &self.settings) {
                asking.push(serve(&self.confirm, request));
            }
            let rss_mb = self.settings.rss_max_mb.and_then(|_| telemetry::resident_mb());
            let reads = session.reads(rss_mb, &self.settings);
            let may_ask = asking.len() < self.settings.statements_max;
            let wake = tokio::select! {
                biased;
                () = &mut stop => Wake::Stop,
                Some(reply) = asking.next(), if !asking.is_empty() => Wake::Answered(reply),
                event = self.source.next(), if reads => Wake::Source(event),
                () = tokio::time::sleep(session.until_next(now, may_ask, &self.settings)) => Wake::Tick,
            };
            let now = self.clock.now();
            match wake {
                Wake::Stop => {
                    let closed =
                        close(&self.settings, &mut self.sinks, &member, &self.folder, session, now, true).await?;
                    closed.iter().for_each(|epoch| self.board.closed(epoch, &session.progress));
                    return Ok(Ended::Stopped);
                }
                Wake::Answered(reply) => {
                    self.board.asked(reply.took());
                    session.answered(reply, now);
                }
                Wake::Source(Event::Batch(batch)) => {
                    session.step(batch, now, &self.settings);
                }
                Wake::Source(Event::Revoked) => return Ok(Ended::Revoked),
                Wake::Source(Event::Assigned(_)) => {
                    return Err(JobError::Internal("partitions were assigned twice".to_owned()));
                }
                Wake::Source(Event::Failed(error)) => return Err(error.into()),
                Wake::Tick => session.tick(now),
            }
            self.gauge.tell(session.left(), session.unit.waiting());
            let ending = self.settings.until_end || session.stopped_by.is_some();
            let done = ending && session.is_done(now) && asking.is_empty();
            let due = done || session.is_due(now, &self.settings);
            let closed = if due {
                close(&self.settings, &mut self.sinks, &member, &self.folder, session, now, done).await?
            } else {
                None
            };
            self.show(session, now, if done { Some(true) } else { closed.as_ref().map(|_| false) });
            closed.iter().for_each(|epoch| self.board.closed(epoch, &session.progress));
            if done {
                return session.stopped_by.take().map_or(Ok(Ended::Read), Err);
            }
        }
    }
}

impl Reply {
    /// How long a question of candidates took in milliseconds; or why Postgres did not answer.
    fn took(&self) -> Result<Option<u64>, &str> {
        match self {
            Self::Answers(_, answers) => {
                let failed = answers.iter().find_map(|answer| answer.as_ref().err());
                let answered = answers.iter().find_map(|answer| answer.as_ref().ok()).map(|answer| answer.millis);
                failed.filter(|_| answered.is_none()).map_or(Ok(answered), |problem| Err(problem))
            }
            Self::Snapshot(Err(problem)) | Self::Rows(_, Err(problem)) | Self::Swept(_, Err(problem)) => Err(problem),
            Self::Snapshot(Ok(_)) | Self::Rows(..) | Self::Swept(..) => Ok(None),
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
