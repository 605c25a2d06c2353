//! The work on one assignment of the partitions: records in, evaluations, answers, and what is due when. Pure.

use std::sync::Arc;
use std::time::Duration;

use super::counts::Counts;
use super::database::{AuditReply, Reply, Request, Schedule, Seen};
use super::durable::Durable;
use super::intake::Intake;
use super::memory::MemoryBound;
use super::settings::Settings;
use crate::change::record::{About, BATCH_RECORDS_MAX, BadRecord, Batch, Content, DeadLetter};
use crate::change::{Change, RejectKind};
use crate::contract::Contracts;
use crate::failure::{CallError, HasKind};
use crate::model::duration::micros;
use crate::model::zone::Zone;
use crate::model::{Lsn, NextOffset, Position, Timestamp};
use crate::planted;
use crate::progress::start::ADVICE;
use crate::progress::topics::partition_of;
use crate::progress::{Offsets, Progress};
use crate::run_status::snapshot::Pause;
use crate::snapshot::Snapshot;
use crate::unit::Unit;
use crate::unit::events::UnitEvents;

/// Dead letters that are held before an epoch is closed for them.
const DEAD_LETTERS_MAX: usize = 1_000;

/// The same in bytes.
const DEAD_LETTER_BYTES_MAX: usize = 16 << 20;

/// An alert waits this long at most for more of its kind while there is more to read.
const ALERT_WAIT_MICROS: i64 = 100_000;

/// How long the loop sleeps at most.
const SLEEP_MAX_MICROS: i64 = 1_000_000;

/// How long the loop sleeps at least before a step of the audit that is due.
const AUDIT_STEP_MICROS: i64 = 5_000;

/// Candidates that may wait before reading pauses.
const WAITING_MAX: usize = 100_000;

/// The same for candidates that are asked in the order of the stream: a backlog brings many for each key, and every epoch
/// has all that wait.
const WAITING_IN_ORDER_MAX: usize = 10_000;

/// Why the work on an assignment has to end.
pub(super) enum Ending {
    /// Table or server are no longer what the run was prepared for: what has changed.
    Changed(Vec<String>),
    /// The topic is not the one that was read.
    AnotherTopic(String),
}

/// Work on one assignment of the partitions.
pub(super) struct Assignment {
    /// Windows, episodes and decisions.
    pub(super) unit: Unit,
    /// What has come from the topic.
    pub(super) intake: Intake,
    /// What is durable.
    pub(super) durable: Durable,
    /// Until these offsets records only rebuild windows; empty once they are rebuilt.
    pub(super) rebuild: Offsets,
    /// What has been done so far, also in the assignments before.
    pub(super) counts: Counts,
    /// Why reading pauses, if it does.
    pub(super) paused: Option<Pause>,
    memory: MemoryBound,
    /// The world that the windows are of; `None` once it has changed.
    pub(super) contracts: Option<Contracts>,
    /// Why the work on this assignment has to end.
    pub(super) ending: Option<Ending>,
    /// Time zones that the rules are to be run in, once no statement is under way.
    pub(super) new_zones: Option<Vec<Arc<Zone>>>,
    schedule: Schedule,
    /// When everything up to the end had been read.
    all_read_at: Option<Timestamp>,
}

impl Assignment {
    /// Up to the offsets `rebuild` records only fill windows.
    pub(super) fn new(unit: Unit, rebuild: Offsets, progress: Progress, contracts: &Contracts, now: Timestamp) -> Self {
        Self {
            unit,
            intake: Intake { known: rebuild.clone(), last_records: progress.last_records.clone(), ..Intake::default() },
            durable: Durable::new(progress, now),
            rebuild,
            counts: Counts::default(),
            paused: None,
            memory: MemoryBound::default(),
            contracts: Some(contracts.clone()),
            ending: None,
            new_zones: None,
            schedule: Schedule::new(now),
            all_read_at: None,
        }
    }

    /// Whether windows are still being rebuilt: nothing is evaluated, asked or closed until then.
    pub(super) fn rebuilds(&self) -> bool {
        !self.rebuild.is_empty()
    }

    /// Applies the records of one poll, then evaluates each touched key once.
    pub(super) fn take_batch(&mut self, batch: Batch, now: Timestamp, settings: &Settings) {
        self.intake.backlog = batch.records.len() >= BATCH_RECORDS_MAX;
        for record in batch.records {
            let (position, table) = (record.position, record.table);
            let replayed = self.intake.is_replayed(position);
            if let Content::Change(change) | Content::Partial(change, _) = &record.content
                && self.unit.begins_era(change, position)
            {
                self.begin_era(change, position, settings);
            }
            match record.content {
                Content::Change(change) => self.unit.apply_of(table, &change, position, now),
                Content::Partial(change, letter) => {
                    if !replayed && let Err(error) = self.reject(*letter, settings) {
                        self.unit.evaluate(now);
                        self.intake.stopped_by = Some(error);
                        return;
                    }
                    self.unit.apply_of(table, &change, position, now);
                }
                Content::Ignored(reason) => tracing::trace!(?position, reason, "ignored"),
                Content::Rejected(letter) if replayed => {
                    self.intake.unread_again += 1;
                    self.make_up_for(table, letter.about());
                }
                Content::Rejected(letter) => {
                    if letter.reject.kind == RejectKind::Identity {
                        self.unit.doubt();
                    }
                    let about = letter.about();
                    if let Err(error) = self.reject(*letter, settings) {
                        self.unit.evaluate(now);
                        self.intake.stopped_by = Some(error);
                        return;
                    }
                    self.make_up_for(table, about);
                }
            }
            if replayed {
                self.counts.replayed += 1;
            } else {
                self.counts.read += 1;
            }
            self.unit.advance(position.partition, NextOffset::after(position.offset));
            // At once, before what follows in the batch: that has not been read before.
            self.end_rebuild(now);
        }
        self.intake.advance(batch.last_records, batch.ended, batch.delivered);
        if !self.intake.catch_up.is_empty() && self.intake.has_reached(&self.intake.catch_up, self.unit.offsets()) {
            self.intake.catch_up.clear();
            self.unit.remember_deletes(false);
        }
        self.end_rebuild(now);
        self.evaluate(now);
    }

    /// Evaluates what changes or time have touched.
    pub(super) fn evaluate(&mut self, now: Timestamp) {
        if !self.rebuilds() || planted::bug("replay-not-muted") {
            self.unit.evaluate(now);
        }
    }

    /// Rows were loaded from the table, which may be ahead of the topic: nothing is evaluated before these offsets.
    pub(super) fn rebuild_up_to(&mut self, ends: Offsets, now: Timestamp) {
        self.rebuild = ends;
        self.rebuild.retain(|partition, end| self.unit.offsets().get(partition) < Some(&*end));
        if !self.rebuilds() {
            self.unit.evaluate_all(now);
        }
    }

    /// Once what was read before has been read again, every key is evaluated.
    fn end_rebuild(&mut self, now: Timestamp) {
        if !self.rebuilds() || !self.has_rebuilt() {
            return;
        }
        for (partition, end) in std::mem::take(&mut self.rebuild) {
            self.unit.advance(partition, end); // the last offsets may hold no record
        }
        let unread = std::mem::take(&mut self.intake.unread_again);
        if unread > 0 {
            tracing::warn!(
                records = unread,
                "records could not be read again; the rows that their keys name are read from the table"
            );
        }
        tracing::info!(rows = self.unit.rows(), replayed = self.counts.replayed, "windows are rebuilt");
        if !planted::bug("rebuilt-not-evaluated") {
            self.unit.evaluate_all(now);
        }
    }

    fn has_rebuilt(&self) -> bool {
        if planted::bug("rebuilt-too-early") {
            let next = self.unit.offsets();
            return self.rebuild.iter().any(|(partition, end)| next.get(partition).is_some_and(|next| next >= end));
        }
        self.intake.has_reached(&self.rebuild, self.unit.offsets())
    }

    /// The topic goes on with another server's table. Rows come from the table.
    fn begin_era(&mut self, change: &Change, position: Position, settings: &Settings) {
        self.unit.begin_era();
        self.contracts = None;
        let lsn = change.lsn.map_or(0, |lsn| lsn.0);
        self.ending = Some(Ending::Changed(vec![format!(
            "the topic goes on with the snapshot of another server at {} offset {}, LSN {:X}/{:X}",
            settings.topics.place_text(position.partition),
            position.offset,
            lsn >> 32,
            lsn & u64::from(u32::MAX)
        )]));
    }

    /// The table is asked for what a record does not say: the row that its key names, or all keys.
    fn make_up_for(&mut self, table: usize, about: About) {
        match about {
            About::Row(row) => self.unit.look_up(table, &row),
            About::AnotherTable => {}
            About::AnyRow => self.intake.sweep_at = Some(self.intake.sweep_at.take().unwrap_or_default()),
        }
    }

    fn reject(&mut self, letter: DeadLetter, settings: &Settings) -> Result<(), BadRecord> {
        if settings.stop_on_bad_record {
            let (lane, offset, reason) = (letter.position.partition, letter.position.offset, letter.reject.detail);
            let position = Position { partition: partition_of(lane), offset };
            return Err(BadRecord { topic: settings.topics.name(lane).to_owned(), position, reason });
        }
        self.counts.rejected += 1;
        if !letter.reject.kind.is_elsewhere() {
            self.schedule.look_soon();
        }
        self.intake.rejects.push(letter.reject.kind.as_str());
        if !planted::bug("bad-records-not-kept") {
            self.intake.dead_letter(letter);
        }
        Ok(())
    }

    /// What else is to be asked of the database.
    pub(super) fn requests(&mut self, now: Timestamp, settings: &Settings) -> Vec<Request> {
        let rebuilds = self.rebuilds();
        let mut requests = self.schedule.due(&mut self.unit, rebuilds, now, settings);
        if self.schedule.begin_look(self.unit.wants_look(), now, settings) {
            let last_records = settings.topics.of_read(&self.intake.last_records);
            requests.push(Request::Look(last_records, self.unit.begin_look()));
        }
        if !rebuilds {
            if self.intake.sweep_at.as_ref().is_some_and(|ends| self.intake.has_reached(ends, self.unit.offsets())) {
                self.intake.sweep_at = None;
                self.unit.sweep_soon();
            }
            if self.unit.wants_look() {
                let (intake, next) = (&self.intake, self.unit.offsets().clone());
                self.unit.settle_suspects(now, |ends| intake.has_read(ends, &next));
            }
            let compares = !settings.until_end && !self.intake.backlog;
            requests.extend(self.unit.next_audit(compares, now).map(|audit| Request::Audit(audit, now)));
        }
        requests
    }

    /// Table, server and topic were looked at: a difference ends the work on this assignment.
    fn looked(&mut self, begun: (u64, Lsn), seen: &Seen, settings: &Settings, now: Timestamp) {
        match &seen.topic {
            Ok(ends) => self.unit.looked(begun, &seen.look, ends, now),
            Err(mismatch) => {
                let text = mismatch.text(&settings.topics, "this run", ADVICE);
                self.ending = Some(Ending::AnotherTopic(text));
                return;
            }
        }
        let Some(then) = &self.contracts else { return };
        let differences = then.changes(&seen.look.contracts);
        if !differences.is_empty() {
            self.contracts = None;
            self.ending = Some(Ending::Changed(differences));
        }
    }

    pub(super) fn answered(&mut self, reply: Reply, now: Timestamp, settings: &Settings) {
        match reply {
            Reply::Answers(question, answers) => self.unit.answer(&question, &answers, now),
            Reply::Snapshot(Ok(text)) => {
                if let Some(snapshot) = Snapshot::parse(&text) {
                    self.unit.saw(&snapshot);
                }
            }
            Reply::Looked(begun, looked) => {
                self.schedule.looked();
                match looked {
                    Ok(seen) => self.looked(begun, &seen, settings, now),
                    Err(error) => tracing::debug!(%error, "table, server and topic could not be looked at"),
                }
            }
            Reply::Found(table, Ok(seen)) => {
                self.unit.looked_up(table, &seen, now);
                self.evaluate(now);
            }
            Reply::Found(table, Err(error)) => {
                warn(&error, "rows could not be read from the table");
                self.unit.lookup_failed(table, now);
            }
            Reply::Rows(reload, Ok(rows)) => self.unit.reload(&reload, &rows, now),
            Reply::Audited(reply, took) => {
                match reply {
                    AuditReply::Compared(question, answers) => self.unit.compared(&question, &answers, took, now),
                    AuditReply::Page(rule, page) => self.unit.paged(rule, page, took, now),
                    AuditReply::Healed(question, rows) => self.unit.healed(&question, rows, took, now),
                    AuditReply::Swept(rule, keys) => self.unit.swept(rule, keys, took, now),
                }
                self.evaluate(now);
            }
            Reply::Rows(_, Err(error)) => warn(&error, "a key's rows could not be read from the table"),
            Reply::Zones(Ok(zones)) => {
                let differs = |(rule, zone): (usize, &Arc<Zone>)| {
                    self.unit.rule(rule).is_some_and(|rule| rule.query.zone != *zone)
                };
                self.new_zones = Some(zones).filter(|zones| zones.iter().enumerate().any(differs));
            }
            // What is asked of every key logs an outage.
            Reply::Zones(Err(error)) if error.is_retried() => {
                tracing::debug!(%error, "no time zones of the rules");
            }
            Reply::Zones(Err(error)) => {
                tracing::warn!(%error, "the time zones of the rules cannot be asked for: they stay as they were");
            }
            Reply::Snapshot(Err(error)) => tracing::debug!(%error, "no snapshot of the database"),
        }
    }

    /// Counts what has happened in the unit, and returns it.
    pub(super) fn take_events(&mut self) -> UnitEvents {
        let events = self.unit.take_events();
        self.counts.add(&events);
        events
    }

    /// Whether to read on: not past a record that stops the run, and not past a bound. What is not fetched from the
    /// source waits there, and it goes on by itself.
    pub(super) fn reads(&mut self, rss_mb: Option<usize>, settings: &Settings) -> bool {
        let (waiting, rows) = (self.unit.waiting(), self.unit.rows());
        let is_full = waiting >= WAITING_MAX || self.unit.waiting_in_order() >= WAITING_IN_ORDER_MAX;
        let is_out_of_memory = self.memory.is_reached(settings.rss_max_mb, rss_mb, rows);
        let paused = if is_full {
            Some(Pause::Candidates)
        } else if settings.rows_max.is_some_and(|max| rows >= max) {
            Some(Pause::Rows)
        } else if is_out_of_memory {
            Some(Pause::Memory)
        } else {
            None
        };
        if paused != std::mem::replace(&mut self.paused, paused) {
            match paused {
                Some(why) => tracing::warn!(waiting, rows, rss_mb, "reading pauses: {}", why.as_str()),
                None => tracing::info!(waiting, rows, "reading goes on"),
            }
        }
        self.intake.stopped_by.is_none() && paused.is_none()
    }

    /// How many records are still to be read up to the end, by their offsets.
    pub(super) fn left(&self) -> u64 {
        self.intake.left(self.unit.offsets())
    }

    /// Whether everything that was there at the start has been read, and every candidate answered since.
    pub(super) fn is_done(&mut self, now: Timestamp) -> bool {
        let Intake { ends, stopped_by, .. } = &self.intake;
        let read = stopped_by.is_some() || self.intake.has_reached(ends, self.unit.offsets());
        if self.rebuilds() || !read || (stopped_by.is_none() && self.intake.sweep_at.is_some()) {
            return false;
        }
        match self.all_read_at {
            _ if self.unit.incomplete() > 0 || self.unit.is_sweeping() => false,
            Some(then) => self.unit.all_answered_since(then),
            None => {
                self.all_read_at = Some(now);
                self.unit.make_due_now(now);
                self.unit.waiting() == 0
            }
        }
    }

    /// Whether an epoch is to be closed. While there is a backlog, alerts wait a little for each other.
    pub(super) fn is_due(&self, now: Timestamp, settings: &Settings) -> bool {
        if self.rebuilds() {
            return false;
        }
        let passed = now.0.saturating_sub(self.durable.closed_at.0);
        let alerts = self.unit.undelivered() > 0 && (!self.intake.backlog || passed >= ALERT_WAIT_MICROS);
        let progress =
            *self.unit.offsets() != self.durable.progress.offsets && passed >= micros(settings.trigger_interval);
        // Due although nothing was read: time alone takes rows out of the windows.
        let state = self.durable.is_state_due(now, settings);
        let dead =
            self.intake.dead_letters.len() >= DEAD_LETTERS_MAX || self.intake.dead_bytes >= DEAD_LETTER_BYTES_MAX;
        alerts || progress || state || dead
    }

    /// How long the loop may sleep when nothing happens. `may_ask`: a statement is free for what falls due.
    pub(super) fn until_next(&self, now: Timestamp, may_ask: bool, settings: &Settings) -> Duration {
        let mut next = now.0.saturating_add(SLEEP_MAX_MICROS);
        if !self.rebuilds() {
            let closed_at = self.durable.closed_at.0;
            if *self.unit.offsets() != self.durable.progress.offsets {
                next = next.min(closed_at.saturating_add(micros(settings.trigger_interval)));
            }
            if self.unit.undelivered() > 0 {
                next = next.min(closed_at.saturating_add(ALERT_WAIT_MICROS));
            }
            if let Some(due) = self.unit.next_due().filter(|_| may_ask) {
                next = next.min(due.0);
            }
            if let Some(edge) = self.unit.next_edge() {
                next = next.min(edge.0);
            }
            if let Some(audit) = self.unit.next_audit_at().filter(|_| !settings.until_end) {
                next = next.min(audit.0.max(now.0.saturating_add(AUDIT_STEP_MICROS)));
            }
        }
        // At least a millisecond, so that the loop does not spin.
        Duration::from_micros(u64::try_from(next.saturating_sub(now.0)).unwrap_or(0).max(1_000))
    }
}

/// A question that failed. The loop says once that the database is away.
fn warn(error: &CallError, what: &str) {
    if error.is_retried() {
        tracing::debug!(%error, "{what}");
    } else {
        tracing::warn!(%error, "{what}");
    }
}
