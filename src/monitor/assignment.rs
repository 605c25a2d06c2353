//! The work on one assignment of the partitions: records, evaluations, answers, and the times of further work. Pure.

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

/// The greatest number of dead letters that are held before an epoch is closed for them.
const DEAD_LETTERS_MAX: usize = 1_000;

/// The greatest number of their bytes.
const DEAD_LETTER_BYTES_MAX: usize = 16 << 20;

/// The longest wait of an alert for further alerts while there is more to read.
const ALERT_WAIT_MICROS: i64 = 100_000;

/// The longest sleep of the loop.
const SLEEP_MAX_MICROS: i64 = 1_000_000;

/// The shortest sleep of the loop before a step of the audit that is due.
const AUDIT_STEP_MICROS: i64 = 5_000;

/// The number of waiting candidates at which reading pauses.
const WAITING_MAX: usize = 100_000;

/// The same for candidates that are confirmed in the order of the stream. A backlog brings many for each key, and every
/// epoch contains all that wait.
const WAITING_IN_ORDER_MAX: usize = 10_000;

/// The reason to end the work on an assignment.
pub(super) enum Ending {
    /// Table or server have changed since the run was prepared, in these ways.
    Changed(Vec<String>),
    /// The topic is not the one that was read. The text says why.
    AnotherTopic(String),
}

/// The work on one assignment of the partitions.
pub(super) struct Assignment {
    /// The windows, episodes and decisions.
    pub(super) unit: Unit,
    /// The records that have come from the topic.
    pub(super) intake: Intake,
    /// The durable progress.
    pub(super) durable: Durable,
    /// The offsets up to which records only rebuild windows. Empty once the windows are rebuilt.
    pub(super) rebuild: Offsets,
    /// The counts so far, including previous assignments.
    pub(super) counts: Counts,
    /// Why reading pauses, if it does.
    pub(super) paused: Option<Pause>,
    memory: MemoryBound,
    /// The contracts for which the windows are valid. `None` once something has changed.
    pub(super) contracts: Option<Contracts>,
    /// The reason to end the work on this assignment.
    pub(super) ending: Option<Ending>,
    /// The new time zones of the rules. They are applied once no statement is under way.
    pub(super) new_zones: Option<Vec<Arc<Zone>>>,
    schedule: Schedule,
    /// The time at which everything up to the end had been read.
    all_read_at: Option<Timestamp>,
}

impl Assignment {
    /// Creates an assignment. Up to the offsets in `rebuild`, records only fill windows.
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

    /// Whether windows are still being rebuilt. Until then nothing is evaluated, confirmed or closed.
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
            // This comes before the rest of the batch, which has not been read before.
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

    /// Evaluates the keys that changes or time have touched.
    pub(super) fn evaluate(&mut self, now: Timestamp) {
        if !self.rebuilds() || planted::bug("replay-not-muted") {
            self.unit.evaluate(now);
        }
    }

    /// Stops evaluation up to these offsets, after rows were loaded from the table, which may be ahead of the topic.
    pub(super) fn rebuild_up_to(&mut self, ends: Offsets, now: Timestamp) {
        self.rebuild = ends;
        self.rebuild.retain(|partition, end| self.unit.offsets().get(partition) < Some(&*end));
        if !self.rebuilds() {
            self.unit.evaluate_all(now);
        }
    }

    /// Evaluates every key once the earlier records have been read again.
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

    /// Ends the assignment, because the topic continues with the table of another server. The rows come from the table.
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

    /// Requests the rows that an invalid record lacks from the table: the row of the record's key, or all keys.
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

    /// Returns the further requests to the database that are due.
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

    /// Takes the result of a look at table, server and topic. A difference ends the work on this assignment.
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
            // The requests about every key log an outage.
            Reply::Zones(Err(error)) if error.is_retried() => {
                tracing::debug!(%error, "no time zones of the rules");
            }
            Reply::Zones(Err(error)) => {
                tracing::warn!(%error, "the time zones of the rules cannot be asked for: they stay as they were");
            }
            Reply::Snapshot(Err(error)) => tracing::debug!(%error, "no snapshot of the database"),
        }
    }

    /// Takes the unit's events and counts them.
    pub(super) fn take_events(&mut self) -> UnitEvents {
        let events = self.unit.take_events();
        self.counts.add(&events);
        events
    }

    /// Whether to read on. Reading stops at a record that stops the run, and pauses at a limit. The remaining records
    /// wait in the source, and reading resumes by itself.
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

    /// The number of unread records up to the end, by their offsets.
    pub(super) fn left(&self) -> u64 {
        self.intake.left(self.unit.offsets())
    }

    /// Whether everything that existed at the start has been read, and every candidate was answered since.
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

    /// Whether to close an epoch. While there is a backlog, alerts wait a moment for each other.
    pub(super) fn is_due(&self, now: Timestamp, settings: &Settings) -> bool {
        if self.rebuilds() {
            return false;
        }
        let passed = now.0.saturating_sub(self.durable.closed_at.0);
        let alerts = self.unit.undelivered() > 0 && (!self.intake.backlog || passed >= ALERT_WAIT_MICROS);
        let progress =
            *self.unit.offsets() != self.durable.progress.offsets && passed >= micros(settings.trigger_interval);
        // This can be due although nothing was read, because time alone removes rows from the windows.
        let state = self.durable.is_state_due(now, settings);
        let dead =
            self.intake.dead_letters.len() >= DEAD_LETTERS_MAX || self.intake.dead_bytes >= DEAD_LETTER_BYTES_MAX;
        alerts || progress || state || dead
    }

    /// Returns how long the loop may sleep if nothing happens. `may_ask`: whether a statement is free for a due
    /// request.
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
        // A millisecond is the minimum, so that the loop does not spin.
        Duration::from_micros(u64::try_from(next.saturating_sub(now.0)).unwrap_or(0).max(1_000))
    }
}

/// Logs a request that failed. The loop logs an unreachable database once.
fn warn(error: &CallError, what: &str) {
    if error.is_retried() {
        tracing::debug!(%error, "{what}");
    } else {
        tracing::warn!(%error, "{what}");
    }
}
