//! What happens in one assignment, step by step: records in, verdicts, answers, and when what is due. No awaiting.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Reply, Request, Settings, micros};
use crate::board::Pause;
use crate::checkpoint::{Marks, Offsets};
use crate::job::JobError;
use crate::model::{NextOffset, Timestamp};
use crate::snapshot::Snapshot;
use crate::source::{BATCH_RECORDS_MAX, Batch, Content, DeadLetter};
use crate::unit::backup::Progress;
use crate::unit::{Counts, Unit};

/// Dead letters that are held before an epoch is closed for them.
const DEAD_LETTERS_MAX: usize = 1_000;

/// An alert waits this long at most for more of its kind while there is more to read.
const ALERT_WAIT_MICROS: i64 = 100_000;

/// How often the database's snapshot is asked for while changes come.
const SNAPSHOT_MICROS: i64 = 1_000_000;

/// How long the loop sleeps at most.
const SLEEP_MAX_MICROS: i64 = 1_000_000;

/// Candidates that may wait before reading pauses.
const WAITING_MAX: usize = 100_000;

/// Work on one assignment of the partitions.
pub(super) struct Session {
    pub(super) unit: Unit,
    /// How far the group has come with the newest epoch.
    pub(super) progress: Progress,
    /// What is before these offsets has been read before.
    known: Offsets,
    /// The windows hold everything up to the offsets that are read on from.
    pub(super) whole: bool,
    /// Until these offsets records only rebuild windows; empty once they are rebuilt.
    pub(super) rebuild: Offsets,
    /// The end of each partition at the start, for `--until-end`.
    pub(super) ends: Offsets,
    /// Partitions of which everything up to `ends` has been read.
    pub(super) ended: BTreeSet<i32>,
    /// When everything had been read.
    pub(super) all_read_at: Option<Timestamp>,
    /// When the database's snapshot was last asked for, and where the stream stood then.
    pub(super) looked_at: Option<Timestamp>,
    pub(super) looked_from: Option<Offsets>,
    /// When the last sweep was started.
    pub(super) swept_at: Timestamp,
    /// Why reading pauses, if it does.
    pub(super) full: Option<Pause>,
    /// The last batch was full: there is more to read right now.
    pub(super) backlog: bool,
    pub(super) dead: Vec<DeadLetter>,
    /// Why records were not understood, since the board was last told.
    pub(super) rejects: Vec<&'static str>,
    /// The record that the run stops before, once what came before it is done with.
    pub(super) stopped_by: Option<JobError>,
    /// The counts as of the newest epoch.
    pub(super) counts: Counts,
    /// The last record taken from each partition.
    pub(super) marks: Marks,
    pub(super) closed_at: Timestamp,
    pub(super) stored_at: Timestamp,
    /// The epoch that the windows were last stored at.
    pub(super) stored: Option<u64>,
}

impl Session {
    /// Up to the offsets `rebuild` records only fill windows.
    pub(super) fn new(unit: Unit, rebuild: Offsets, progress: Progress, now: Timestamp) -> Self {
        Self {
            unit,
            known: rebuild.clone(),
            whole: false,
            rebuild,
            ends: Offsets::new(),
            ended: BTreeSet::new(),
            all_read_at: None,
            full: None,
            looked_at: None,
            looked_from: None,
            swept_at: now,
            backlog: false,
            dead: Vec::new(),
            rejects: Vec::new(),
            stopped_by: None,
            counts: Counts::default(),
            marks: progress.marks.clone(),
            progress,
            closed_at: now,
            stored_at: now,
            stored: None,
        }
    }

    /// Applies the records of one poll, then judges each touched group once.
    pub(super) fn step(&mut self, batch: Batch, now: Timestamp, settings: &Settings) {
        self.backlog = batch.records.len() >= BATCH_RECORDS_MAX;
        for record in batch.records {
            let position = record.position;
            let replayed = self.known.get(&position.partition).is_some_and(|end| position.offset < end.0);
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
        for (partition, mark) in batch.marks {
            let held = self.marks.entry(partition).or_insert(mark);
            if mark.offset > held.offset {
                *held = mark;
            }
        }
        self.ended.extend(batch.ended);
        self.end_rebuild(now);
        if self.rebuild.is_empty() {
            self.unit.judge(now);
        }
    }

    /// What else is to be asked of the database: what it shows at present (once at first, then every second while
    /// changes come), groups to be read anew, the sweep.
    pub(super) fn requests(&mut self, now: Timestamp, settings: &Settings) -> Vec<Request> {
        let mut requests = Vec::new();
        if !self.unit.is_confirmed() {
            return requests;
        }
        let due = self.looked_at.is_none_or(|at| now.0.saturating_sub(at.0) >= SNAPSHOT_MICROS);
        if due && self.looked_from.as_ref() != Some(self.unit.offsets()) {
            self.looked_at = Some(now);
            self.looked_from = Some(self.unit.offsets().clone());
            requests.push(Request::Look);
        }
        requests.extend(self.unit.next_reload().map(Request::Reload));
        if let Some(interval) = settings.sweep_interval
            && self.rebuild.is_empty()
            && now.0.saturating_sub(self.swept_at.0) >= micros(interval)
        {
            self.swept_at = now;
            requests.extend((0..self.unit.versions().len()).map(|rule| Request::Sweep(rule, now)));
        }
        requests
    }

    pub(super) fn answered(&mut self, reply: Reply, now: Timestamp) {
        match reply {
            Reply::Answers(question, answers) => self.unit.answer(&question, &answers, now),
            Reply::Snapshot(Ok(text)) => {
                if let Some(snapshot) = Snapshot::parse(&text) {
                    self.unit.saw(&snapshot);
                }
            }
            Reply::Rows(reload, Ok(rows)) => self.unit.reload(&reload, &rows, now),
            Reply::Swept(rule, Ok(keys)) => self.unit.swept(rule, keys, now),
            Reply::Rows(_, Err(problem)) => tracing::warn!(problem, "a group's rows could not be read from the table"),
            Reply::Swept(_, Err(problem)) => tracing::warn!(problem, "the sweep failed"),
            Reply::Snapshot(Err(problem)) => tracing::debug!(problem, "no snapshot of the database"),
        }
    }

    /// Whether to read on: not past a record that stops the run, and not past a bound. What is not fetched from the
    /// source waits there, and it goes on by itself.
    pub(super) fn reads(&mut self, rss_mb: Option<usize>, settings: &Settings) -> bool {
        let (waiting, rows) = (self.unit.waiting(), self.unit.rows());
        let full = if waiting >= WAITING_MAX {
            Some(Pause::Candidates)
        } else if settings.rows_max.is_some_and(|max| rows >= max) {
            Some(Pause::Rows)
        } else if settings.rss_max_mb.zip(rss_mb).is_some_and(|(max, rss)| rss >= max) {
            Some(Pause::Memory)
        } else {
            None
        };
        if full != std::mem::replace(&mut self.full, full) {
            match full {
                Some(why) => tracing::warn!(waiting, rows, rss_mb, "reading pauses: {}", why.as_str()),
                None => tracing::info!(waiting, rows, "reading goes on"),
            }
        }
        self.stopped_by.is_none() && full.is_none()
    }

    /// What time alone has changed.
    pub(super) fn tick(&mut self, now: Timestamp) {
        if self.rebuild.is_empty() {
            self.unit.judge(now);
        }
    }

    /// Once what was read before has been read again, every group is judged.
    pub(super) fn end_rebuild(&mut self, now: Timestamp) {
        if self.rebuild.is_empty() || !self.is_rebuilt() {
            return;
        }
        for (partition, end) in std::mem::take(&mut self.rebuild) {
            self.unit.advance(partition, end); // the last offsets may hold no record
        }
        tracing::info!(rows = self.unit.rows(), replayed = self.unit.counts.replayed, "windows are rebuilt");
        self.unit.judge_all(now);
    }

    pub(super) fn reject(&mut self, letter: DeadLetter, settings: &Settings) -> Result<(), JobError> {
        let (position, reason) = (letter.position, letter.reject.detail.clone());
        if settings.stop_on_bad_record {
            return Err(JobError::BadRecord {
                topic: settings.topic.clone(),
                partition: position.partition,
                offset: position.offset,
                reason,
            });
        }
        self.unit.counts.rejected += 1;
        let (partition, offset) = (position.partition, position.offset);
        tracing::warn!(topic = settings.topic, partition, offset, reason, "record not understood");
        self.rejects.push(letter.reject.kind);
        self.dead.push(letter);
        Ok(())
    }

    /// Whether what was read before has been read again, in every partition.
    pub(super) fn is_rebuilt(&self) -> bool {
        let reached = |(partition, end): (&i32, &NextOffset)| {
            self.unit.offsets().get(partition).is_some_and(|next| next >= end) || self.ended.contains(partition)
        };
        self.rebuild.iter().all(reached)
    }

    /// How many records are still to be read up to `ends`, by their offsets.
    pub(super) fn left(&self) -> u64 {
        let left = |(partition, end): (&i32, &NextOffset)| match self.unit.offsets().get(partition) {
            Some(next) if !self.ended.contains(partition) => u64::try_from(end.0.saturating_sub(next.0)).unwrap_or(0),
            _ => 0,
        };
        self.ends.iter().map(left).sum()
    }

    /// Whether everything that was there at the start has been read, and every candidate answered since.
    pub(super) fn is_done(&mut self, now: Timestamp) -> bool {
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
    pub(super) fn is_due(&self, now: Timestamp, settings: &Settings) -> bool {
        if !self.rebuild.is_empty() {
            return false;
        }
        let passed = now.0.saturating_sub(self.closed_at.0);
        let alerts = self.unit.undelivered() > 0 && (!self.backlog || passed >= ALERT_WAIT_MICROS);
        let progress = *self.unit.offsets() != self.progress.offsets && passed >= micros(settings.trigger_interval);
        // Due although nothing was read: time alone takes rows out of the windows.
        let state = now.0.saturating_sub(self.stored_at.0) >= micros(settings.state_interval);
        alerts || progress || state || self.dead.len() >= DEAD_LETTERS_MAX
    }

    /// How long the loop may sleep when nothing happens. `may_ask`: a statement is free for what falls due.
    pub(super) fn until_next(&self, now: Timestamp, may_ask: bool, settings: &Settings) -> Duration {
        let mut next = now.0.saturating_add(SLEEP_MAX_MICROS);
        if self.rebuild.is_empty() {
            if *self.unit.offsets() != self.progress.offsets {
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
