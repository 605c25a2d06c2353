//! The status of a run. The monitor's loop writes it once in each turn. The page, `/metrics` and the demo's console
//! read it. A reader never waits for the loop.
//!
//! - this file: the interfaces for the loop and for readers
//! - [`snapshot`]: the numbers
//! - [`recent`]: recent events with numbers
//! - [`histogram`]: counted durations

pub mod histogram;
pub mod recent;
pub mod snapshot;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use crate::alert::{key_json, key_label};
use crate::episode::Status;
use crate::failure::CallError;
use crate::model::Timestamp;
use crate::progress::{Epoch, LastRecords, Offsets, Progress, Topics};
use crate::rule::evaluate::Evaluation;
use crate::rule::{Confirm, Rule, Time, render};
use crate::telemetry;
use crate::unit::Unit;
use crate::unit::events::UnitEvents;
use crate::unit::stored::Decisions;

pub use histogram::Histogram;
pub use recent::{EventKind, RecentEvent};
use recent::{KEPT_MAX, Recent};
pub use snapshot::{ClosedEpoch, OpenEpisode, PartitionStatus, Pause, Phase, RuleStatus, StatusSnapshot, TopKey};

/// How often the sizes of windows and queues are refreshed.
const REFRESH_EVERY: Duration = Duration::from_millis(250);
/// How often a full refresh is made.
const FULL_REFRESH_EVERY: Duration = Duration::from_secs(1);
/// The greatest share of the loop's time for finding the top keys, as one part in this many.
const TOP_SHARE: u32 = 50;
/// The number of keys that are listed for each rule.
const TOP_KEYS: usize = 20;
/// The greatest number of listed open episodes. The newest are listed.
pub const OPEN_MAX: usize = 1_000;
/// How long a run may be without progress, although there are unread records, or without a turn of its loop. After that
/// it counts as stalled.
pub const STALL_AFTER: Duration = Duration::from_secs(30);

/// The status, shared by an `Arc`. Every method holds its lock for a moment.
#[derive(Debug)]
pub struct RunStatus {
    state: Mutex<State>,
    newest: watch::Sender<u64>,
    viewers: AtomicUsize,
    lists_open: AtomicBool,
}

#[derive(Debug)]
struct State {
    snapshot: StatusSnapshot,
    recent: Recent,
    /// The records that the assignment had read and replayed at the last turn.
    counted: (u64, u64),
    /// Whether no broker of Kafka answers.
    cut_off: Arc<AtomicBool>,
    started: Instant,
    turned: Instant,
    progressed: Instant,
    closed: Option<Instant>,
    refreshed: Option<Instant>,
    fully_refreshed: Option<Instant>,
    top_due: Instant,
    open: Arc<Vec<OpenEpisode>>,
    /// The messages of firing alerts that this process has delivered, by the alert's id: those of listed episodes, and
    /// of alerts since the last listing.
    messages: BTreeMap<Uuid, String>,
    /// Whether episodes may have opened or closed since the last listing.
    open_changed: bool,
    open_due: Instant,
}

impl Default for RunStatus {
    fn default() -> Self {
        let now = Instant::now();
        let state = State {
            snapshot: StatusSnapshot::default(),
            recent: Recent::default(),
            counted: (0, 0),
            cut_off: Arc::default(),
            started: now,
            turned: now,
            progressed: now,
            closed: None,
            refreshed: None,
            fully_refreshed: None,
            top_due: now,
            open: Arc::default(),
            messages: BTreeMap::new(),
            open_changed: true,
            open_due: now,
        };
        Self {
            state: Mutex::new(state),
            newest: watch::Sender::new(0),
            viewers: AtomicUsize::new(0),
            lists_open: AtomicBool::new(false),
        }
    }
}

/// A viewer of the status. While there is one, the top keys are kept up to date.
#[derive(Debug)]
pub struct Viewer(Arc<RunStatus>);

impl Drop for Viewer {
    fn drop(&mut self) {
        self.0.viewers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The interface for readers.
impl RunStatus {
    /// Returns the current numbers.
    pub fn snapshot(&self) -> StatusSnapshot {
        let now = Instant::now();
        let state = self.lock();
        let mut snapshot = state.snapshot.clone();
        let works = matches!(snapshot.phase, Phase::Rebuilding | Phase::Working);
        snapshot.uptime = now.duration_since(state.started);
        snapshot.checkpoint_age = state.closed.map(|closed| now.duration_since(closed));
        snapshot.cut_off = state.cut_off.load(Ordering::Relaxed);
        let still = now.duration_since(state.progressed);
        let silent = now.duration_since(state.turned);
        let lags = snapshot.lag_records() > 0 && snapshot.paused.is_none();
        snapshot.stalled = if works && silent >= STALL_AFTER {
            Some(("the loop waits for the disk, the alert topic or the commit of the group", silent))
        } else if works && lags && still >= STALL_AFTER {
            Some(("there are records to read, and none comes", still))
        } else {
            None
        };
        snapshot
    }

    /// Returns the events after the one with this number, as far as they are kept. 0 stands for all of them.
    pub fn since(&self, seq: u64) -> Vec<Arc<RecentEvent>> {
        self.lock().recent.since(seq)
    }

    /// Whether every later event is kept.
    pub fn has_all_since(&self, seq: u64) -> bool {
        self.lock().recent.has_all_since(seq)
    }

    /// Returns the alerts that are kept, newest first.
    pub fn alerts(&self) -> Vec<Arc<RecentEvent>> {
        self.lock().recent.alerts()
    }

    /// Returns the newest open episodes, newest first, at most [`OPEN_MAX`]. The list is at most about a second old. Empty
    /// without [`RunStatus::list_open`].
    pub fn open(&self) -> Arc<Vec<OpenEpisode>> {
        Arc::clone(&self.lock().open)
    }

    /// Receives the number of the newest event, whenever there is one.
    pub fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// The number of viewers.
    pub fn viewers(&self) -> usize {
        self.viewers.load(Ordering::Relaxed)
    }

    /// Keeps a list of open episodes from here on, for [`RunStatus::open`]. A run without a page has no use for it.
    pub fn list_open(&self) {
        self.lists_open.store(true, Ordering::Relaxed);
    }

    /// Keeps the top keys up to date as long as the viewer is held.
    pub fn viewer(self: &Arc<Self>) -> Viewer {
        self.viewers.fetch_add(1, Ordering::Relaxed);
        Viewer(Arc::clone(self))
    }
}

/// The values that the loop passes on after a turn.
pub(crate) struct Update {
    /// The records that the assignment has read for the first time.
    pub(crate) read: u64,
    /// The records that it has read again.
    pub(crate) replayed: u64,
    /// The kinds of invalid records.
    pub(crate) rejects: Vec<&'static str>,
    pub(crate) events: UnitEvents,
    /// Why reading pauses, if it does.
    pub(crate) paused: Option<Pause>,
    pub(crate) rebuilds: bool,
}

/// The parts of the status that are read from a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refresh {
    /// The sizes of windows and queues.
    Sizes,
    /// The same, with the ends of the partitions, the resident memory, and the top keys while there is a viewer.
    Full,
}

/// The interface for the loop.
impl RunStatus {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the facts about the run. `cut_off` is set while no broker of Kafka answers.
    pub(crate) fn begin(&self, group: &str, topics: &Topics, rules: &[Rule], cut_off: Arc<AtomicBool>) {
        let mut state = self.lock();
        state.cut_off = cut_off;
        let snapshot = &mut state.snapshot;
        (snapshot.group, snapshot.topic) = (group.to_owned(), topics.text());
        snapshot.topics = Some(topics.clone());
        snapshot.rules = rules.iter().map(RuleStatus::new).collect();
    }

    /// Sets the phase of the run.
    pub(crate) fn phase(&self, phase: Phase) {
        self.lock().snapshot.phase = phase;
    }

    /// Begins an assignment, with this many records read and replayed before, and this progress.
    pub(crate) fn assigned(&self, counted: (u64, u64), progress: &Progress) {
        let mut state = self.lock();
        state.counted = counted;
        (state.turned, state.progressed) = (Instant::now(), Instant::now());
        (state.refreshed, state.fully_refreshed) = (None, None);
        state.open_changed = true;
        state.snapshot.closed(progress);
    }

    /// Records a turn of the loop.
    pub(crate) fn update(&self, update: Update) {
        let Update { read, replayed, rejects, events, paused, rebuilds } = update;
        let mut state = self.lock();
        let State { snapshot, recent, counted, .. } = &mut *state;
        snapshot.read += read.saturating_sub(counted.0);
        snapshot.replayed += replayed.saturating_sub(counted.1);
        *counted = (read, replayed);
        rejects.into_iter().for_each(|kind| *snapshot.rejected.entry(kind).or_default() += 1);
        snapshot.paused = paused;
        snapshot.phase = if rebuilds { Phase::Rebuilding } else { Phase::Working };
        snapshot.count(&events);
        let is_new = !events.reports.is_empty();
        events.reports.into_iter().for_each(|report| recent.push(EventKind::Candidate(Box::new(report))));
        state.turned = Instant::now();
        let newest = state.recent.newest();
        drop(state);
        if is_new {
            self.newest.send_replace(newest);
        }
    }

    /// Returns the refresh that is due, if there is one.
    pub(crate) fn due_refresh(&self) -> Option<Refresh> {
        let state = self.lock();
        let due = |last: Option<Instant>, every| last.is_none_or(|last| state.turned.duration_since(last) >= every);
        if due(state.fully_refreshed, FULL_REFRESH_EVERY) {
            Some(Refresh::Full)
        } else {
            due(state.refreshed, REFRESH_EVERY).then_some(Refresh::Sizes)
        }
    }

    /// Refreshes the values that are read from the unit. `ends` is given for a full refresh.
    pub(crate) fn refresh(&self, unit: &Unit, last_records: &LastRecords, ends: Option<&Offsets>, now: Timestamp) {
        let at = Instant::now();
        let resident = ends.and_then(|_| telemetry::resident_mb());
        let top = (ends.is_some() && self.viewers() > 0 && self.lock().top_due <= at).then(|| top_of(unit));
        if ends.is_some() {
            self.update_open(unit, at);
        }
        let mut state = self.lock();
        let State { snapshot, .. } = &mut *state;
        (snapshot.rows, snapshot.keys, snapshot.waiting) = (unit.rows(), unit.keys(), unit.waiting());
        snapshot.audit = unit.audit_status();
        for (rule, open) in snapshot.rules.iter_mut().zip(unit.firing()) {
            rule.open = open;
        }
        let moved = snapshot.place(unit.offsets(), last_records, ends, now);
        let lags = snapshot.lag_records() > 0;
        snapshot.resident_mb = resident.or(snapshot.resident_mb);
        if let Some(top) = top {
            snapshot.top = top;
            state.top_due = at + FULL_REFRESH_EVERY.max(at.elapsed().saturating_mul(TOP_SHARE));
        }
        state.refreshed = Some(at);
        if ends.is_some() {
            state.fully_refreshed = Some(at);
        }
        if moved || !lags {
            state.progressed = at;
        }
    }

    /// Lists the open episodes again, if any may have opened or closed.
    fn update_open(&self, unit: &Unit, at: Instant) {
        let mut state = self.lock();
        if !self.lists_open.load(Ordering::Relaxed) || !state.open_changed || state.open_due > at {
            return;
        }
        state.open_changed = false;
        drop(state);
        let began = Instant::now();
        let listed = unit.newest_open(OPEN_MAX);
        let mut state = self.lock();
        let mut known = std::mem::take(&mut state.messages);
        let mut open = Vec::with_capacity(listed.len());
        for (rule, key, episode) in listed {
            let message = known.remove(&episode.alert);
            if let Some(message) = &message {
                state.messages.insert(episode.alert, message.clone());
            }
            open.push(OpenEpisode {
                rule: rule.name.clone(),
                severity: rule.severity.clone(),
                key: key_json(&rule.query, key),
                label: key_label(&rule.query, key),
                since: episode.since,
                alert: episode.alert,
                message,
            });
        }
        state.open = Arc::new(open);
        state.snapshot.open_lists += 1;
        state.open_due = at + FULL_REFRESH_EVERY.max(began.elapsed().saturating_mul(TOP_SHARE));
    }

    /// Records that Postgres answered a statement, or did not.
    pub(crate) fn answered(&self, took: Result<Option<u64>, &CallError>) {
        let snapshot = &mut self.lock().snapshot;
        if let Ok(Some(millis)) = took {
            snapshot.statements.observe(millis.saturating_mul(1_000));
        }
        snapshot.postgres = took.err().map(CallError::to_string);
    }

    /// Records that an epoch was closed everywhere.
    pub(crate) fn closed(&self, epoch: &Epoch<Decisions>, progress: &Progress) {
        self.delivered(epoch);
        let mut state = self.lock();
        state.closed = Some(Instant::now());
        state.snapshot.closed(progress);
    }

    /// Records that the alerts of an epoch are durable and were delivered.
    pub(crate) fn delivered(&self, epoch: &Epoch<Decisions>) {
        let alerts = &epoch.body.alerts;
        if alerts.is_empty() {
            return;
        }
        let mut state = self.lock();
        for alert in alerts {
            let rule = state.snapshot.rules.iter_mut().find(|rule| rule.name == alert.rule);
            match (rule, alert.status) {
                (Some(rule), Status::Firing) => rule.fired += 1,
                (Some(rule), Status::Resolved) => rule.resolved += 1,
                (None, _) => {}
            }
        }
        let kept = alerts.len().saturating_sub(KEPT_MAX);
        if self.lists_open.load(Ordering::Relaxed) {
            let firing = alerts.iter().skip(kept).filter(|alert| alert.status == Status::Firing);
            state.messages.extend(firing.map(|alert| (alert.id, alert.line.clone())));
        }
        state.open_changed = true;
        alerts.iter().skip(kept).for_each(|alert| state.recent.push(EventKind::Alert(alert.clone())));
        let newest = state.recent.newest();
        drop(state);
        self.newest.send_replace(newest);
    }
}

fn top_of(unit: &Unit) -> Vec<TopKey> {
    let of = |(rule, standings): (&Rule, Vec<crate::window::Standing>)| {
        let top = standings.into_iter().map(move |standing| TopKey {
            rule: rule.name.clone(),
            key: key_json(&rule.query, &standing.key),
            label: key_label(&rule.query, &standing.key),
            total: standing.measure,
            threshold: rule.query.threshold().map(|threshold| threshold.value.to_string()).unwrap_or_default(),
            over: standing.evaluation == Evaluation::Holds,
            rows: standing.rows,
        });
        top.collect::<Vec<_>>()
    };
    unit.top(TOP_KEYS).flat_map(of).collect()
}

impl RuleStatus {
    fn new(rule: &Rule) -> Self {
        let query = &rule.query;
        let names = query.group_by.iter().filter_map(|index| query.table.columns.get(*index));
        Self {
            name: rule.name.clone(),
            version: rule.version.clone(),
            severity: rule.severity.clone(),
            having: render::having_text(query),
            comparison: query.threshold().map_or("", |threshold| threshold.comparison.as_str()),
            threshold: query.threshold().map(|threshold| threshold.value.to_string()).unwrap_or_default(),
            key: names.map(|column| column.name.clone()).collect(),
            sql: render::original(query),
            confirmed_by_postgres: rule.confirm == Confirm::Required,
            event_time: rule.time == Time::Event,
            ..Self::default()
        }
    }
}
