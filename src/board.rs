//! The board: what a run shows of itself, shared between the monitor's loop, which writes it once per turn, and
//! whoever shows it: the page, `/metrics`, the demo's console. Reading it never waits for the loop.
//!
//! - this file: what the loop tells, and what a reader sees
//! - [`reading`]: the numbers
//! - [`recent`]: what has happened lately, numbered
//! - [`histogram`]: how durations are counted

pub mod histogram;
pub mod reading;
pub mod recent;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::alert::{having_text, key_json, key_label};
use crate::checkpoint::{Epoch, Marks, Offsets};
use crate::episode::Status;
use crate::model::Timestamp;
use crate::rule::evaluate::Verdict;
use crate::rule::{Clock, Confirm, Rule, render};
use crate::telemetry;
use crate::unit::backup::Progress;
use crate::unit::news::News;
use crate::unit::stored::Decisions;
use crate::unit::{Counts, Unit};

pub use histogram::Histogram;
pub use reading::{ClosedEpoch, Partition, Pause, Phase, Reading, RuleReading, Top};
pub use recent::{Entry, What};
use recent::{KEPT_MAX, Recent};

/// How often numbers that take a look at everything are refreshed.
const GLANCE_EVERY: Duration = Duration::from_millis(250);
/// How often what costs more is.
const LONG_GLANCE_EVERY: Duration = Duration::from_secs(1);
/// Looking for the top keys takes at most one part in so many of the loop's time.
const TOP_SHARE: u32 = 50;
/// Groups of each rule that are listed.
const TOP_KEYS: usize = 20;
/// Without progress, though there is something to read, or without a turn of the loop for so long, a run stalls.
pub const STALL_AFTER: Duration = Duration::from_secs(30);

/// Shared by an `Arc`; every method takes its lock for a moment.
#[derive(Debug)]
pub struct Board {
    state: Mutex<State>,
    newest: watch::Sender<u64>,
    lookers: AtomicUsize,
}

#[derive(Debug)]
struct State {
    reading: Reading,
    recent: Recent,
    /// The session's counts at the last turn.
    counts: Counts,
    /// Set while no broker of Kafka answers.
    cut_off: Arc<AtomicBool>,
    started: Instant,
    turned: Instant,
    progressed: Instant,
    closed: Option<Instant>,
    glanced: Option<Instant>,
    glanced_long: Option<Instant>,
    top_due: Instant,
}

impl Default for Board {
    fn default() -> Self {
        let now = Instant::now();
        let state = State {
            reading: Reading::default(),
            recent: Recent::default(),
            counts: Counts::default(),
            cut_off: Arc::default(),
            started: now,
            turned: now,
            progressed: now,
            closed: None,
            glanced: None,
            glanced_long: None,
            top_due: now,
        };
        Self { state: Mutex::new(state), newest: watch::Sender::new(0), lookers: AtomicUsize::new(0) }
    }
}

/// Somebody looks at the board: while one of these is there, the top keys are kept up to date.
#[derive(Debug)]
pub struct Looker(Arc<Board>);

impl Drop for Looker {
    fn drop(&mut self) {
        self.0.lookers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// For a reader.
impl Board {
    /// The numbers as of now.
    pub fn look(&self) -> Reading {
        let now = Instant::now();
        let state = self.lock();
        let mut reading = state.reading.clone();
        let works = matches!(reading.phase, Phase::Rebuilding | Phase::Working);
        reading.uptime = now.duration_since(state.started);
        reading.checkpoint_age = state.closed.map(|closed| now.duration_since(closed));
        reading.cut_off = state.cut_off.load(Ordering::Relaxed);
        let still = now.duration_since(state.progressed);
        let silent = now.duration_since(state.turned);
        let is_behind = reading.lag_records() > 0 && reading.paused.is_none();
        reading.stalled = if works && silent >= STALL_AFTER {
            Some(("the loop waits for the disk, the alert topic or the commit of the group", silent))
        } else if works && is_behind && still >= STALL_AFTER {
            Some(("there are records to read, and none comes", still))
        } else {
            None
        };
        reading
    }

    /// What happened after the thing with this number, as far as it is kept; 0: all of it.
    pub fn since(&self, seq: u64) -> Vec<Arc<Entry>> {
        self.lock().recent.since(seq)
    }

    /// Whether everything that came after is kept.
    pub fn has_all_since(&self, seq: u64) -> bool {
        self.lock().recent.has_all_since(seq)
    }

    /// The alerts that are kept, the newest first.
    pub fn alerts(&self) -> Vec<Arc<Entry>> {
        self.lock().recent.alerts()
    }

    /// Tells the number of the newest thing, whenever there is one.
    pub fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// How many look.
    pub fn lookers(&self) -> usize {
        self.lookers.load(Ordering::Relaxed)
    }

    /// Asks for the top keys for as long as the looker is held.
    pub fn looker(self: &Arc<Self>) -> Looker {
        self.lookers.fetch_add(1, Ordering::Relaxed);
        Looker(Arc::clone(self))
    }
}

/// What the loop hands over after a turn.
pub(crate) struct Turn<'a> {
    pub(crate) counts: &'a Counts,
    pub(crate) news: News,
    /// Why reading pauses, if it does.
    pub(crate) paused: Option<Pause>,
    pub(crate) rebuilds: bool,
}

/// For the loop.
impl Board {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the run is about. `cut_off` is set while no broker of Kafka answers.
    pub(crate) fn begin(&self, group: &str, topic: &str, rules: &[Rule], cut_off: Arc<AtomicBool>) {
        let mut state = self.lock();
        state.cut_off = cut_off;
        let reading = &mut state.reading;
        (reading.group, reading.topic) = (group.to_owned(), topic.to_owned());
        reading.rules = rules.iter().map(RuleReading::new).collect();
    }

    /// What the run does now.
    pub(crate) fn phase(&self, phase: Phase) {
        self.lock().reading.phase = phase;
    }

    /// Work on an assignment begins, with these counts and this progress.
    pub(crate) fn assigned(&self, counts: &Counts, progress: &Progress) {
        let mut state = self.lock();
        state.counts = counts.clone();
        (state.turned, state.progressed) = (Instant::now(), Instant::now());
        (state.glanced, state.glanced_long) = (None, None);
        state.reading.closed(progress);
    }

    /// One turn of the loop is done.
    pub(crate) fn turn(&self, turn: Turn<'_>) {
        let mut state = self.lock();
        let State { reading, recent, counts, .. } = &mut *state;
        reading.read += turn.counts.read.saturating_sub(counts.read);
        reading.replayed += turn.counts.replayed.saturating_sub(counts.replayed);
        reading.paused = turn.paused;
        reading.phase = if turn.rebuilds { Phase::Rebuilding } else { Phase::Working };
        counts.clone_from(turn.counts);
        let news = !turn.news.heard.is_empty();
        if !turn.news.is_empty() {
            reading.count(&turn.news);
            turn.news.heard.into_iter().for_each(|heard| recent.push(What::Candidate(Box::new(heard))));
        }
        state.turned = Instant::now();
        let newest = state.recent.newest();
        drop(state);
        if news {
            self.newest.send_replace(newest);
        }
    }

    /// Whether the loop is to let the board have a look, and a long one.
    pub(crate) fn wants_glance(&self) -> Option<bool> {
        let state = self.lock();
        let due = |last: Option<Instant>, every| last.is_none_or(|last| state.turned.duration_since(last) >= every);
        let long = due(state.glanced_long, LONG_GLANCE_EVERY);
        (long || due(state.glanced, GLANCE_EVERY)).then_some(long)
    }

    /// A look at everything. `ends` come with a long one.
    pub(crate) fn glance(&self, unit: &Unit, marks: &Marks, ends: Option<&Offsets>, now: Timestamp) {
        let at = Instant::now();
        let resident = ends.and_then(|_| telemetry::resident_mb());
        let top = (ends.is_some() && self.lookers.load(Ordering::Relaxed) > 0 && self.lock().top_due <= at)
            .then(|| top_of(unit));
        let mut state = self.lock();
        let State { reading, .. } = &mut *state;
        (reading.rows, reading.keys, reading.waiting) = (unit.rows(), unit.keys(), unit.waiting());
        for (rule, open) in reading.rules.iter_mut().zip(unit.firing()) {
            rule.open = open;
        }
        let moved = reading.place(unit.offsets(), marks, ends, now);
        let behind = reading.lag_records() > 0;
        reading.resident_mb = resident.or(reading.resident_mb);
        if let Some(top) = top {
            reading.top = top;
            state.top_due = at + LONG_GLANCE_EVERY.max(at.elapsed().saturating_mul(TOP_SHARE));
        }
        state.glanced = Some(at);
        if ends.is_some() {
            state.glanced_long = Some(at);
        }
        if moved || !behind {
            state.progressed = at;
        }
    }

    /// A record was not understood.
    pub(crate) fn rejected(&self, kind: &'static str) {
        *self.lock().reading.rejected.entry(kind).or_default() += 1;
    }

    /// Postgres answered a statement, or did not.
    pub(crate) fn asked(&self, took: Result<Option<u64>, &str>) {
        let reading = &mut self.lock().reading;
        if let Ok(Some(millis)) = took {
            reading.statements.observe(millis.saturating_mul(1_000));
        }
        reading.postgres = took.err().map(str::to_owned);
    }

    /// An epoch was closed, and is everywhere.
    pub(crate) fn closed(&self, epoch: &Epoch<Decisions>, progress: &Progress) {
        self.told(epoch);
        let mut state = self.lock();
        state.closed = Some(Instant::now());
        state.reading.closed(progress);
    }

    /// The alerts of an epoch are durable, and told.
    pub(crate) fn told(&self, epoch: &Epoch<Decisions>) {
        let alerts = &epoch.body.alerts;
        if alerts.is_empty() {
            return;
        }
        let mut state = self.lock();
        for alert in alerts {
            let rule = state.reading.rules.iter_mut().find(|rule| rule.name == alert.rule);
            match (rule, alert.status) {
                (Some(rule), Status::Firing) => rule.fired += 1,
                (Some(rule), Status::Resolved) => rule.resolved += 1,
                (None, _) => {}
            }
        }
        let kept = alerts.len().saturating_sub(KEPT_MAX);
        alerts.iter().skip(kept).for_each(|alert| state.recent.push(What::Alert(alert.clone())));
        let newest = state.recent.newest();
        drop(state);
        self.newest.send_replace(newest);
    }
}

fn top_of(unit: &Unit) -> Vec<Top> {
    let of = |(rule, standings): (&Rule, Vec<crate::window::Standing>)| {
        let top = standings.into_iter().map(move |standing| Top {
            rule: rule.name.clone(),
            key: key_json(&rule.query, &standing.key),
            label: key_label(&rule.query, &standing.key),
            total: standing.measure,
            threshold: rule.query.having.threshold.to_string(),
            over: standing.verdict == Verdict::Holds,
            rows: standing.rows,
        });
        top.collect::<Vec<_>>()
    };
    unit.top(TOP_KEYS).flat_map(of).collect()
}

impl RuleReading {
    fn new(rule: &Rule) -> Self {
        let query = &rule.query;
        let names = query.group_by.iter().filter_map(|index| query.table.columns.get(*index));
        Self {
            name: rule.name.clone(),
            version: rule.version.clone(),
            severity: rule.severity.clone(),
            having: having_text(query),
            comparison: query.having.comparison.as_str(),
            threshold: query.having.threshold.to_string(),
            key: names.map(|column| column.name.clone()).collect(),
            sql: render::original(query),
            confirmed_by_postgres: rule.confirm == Confirm::Required,
            event_clock: rule.clock == Clock::Event,
            ..Self::default()
        }
    }
}
