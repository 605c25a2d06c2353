//! The loop's requests to the database, and their times. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::settings::Settings;
use crate::contract::Look;
use crate::failure::{CallError, HasKind, Server};
use crate::model::duration::micros;
use crate::model::zone::Zone;
use crate::model::{Key, Lsn, Timestamp};
use crate::progress::checks::Mismatch;
use crate::progress::{LastRecords, Offsets};
use crate::rule::table_row::TableRow;
use crate::unit::audit::AuditRequest;
use crate::unit::{Answer, Compared, Question, Reload, SeenRows, Unit};

/// How often the database's snapshot is read while changes come.
const SNAPSHOT_MICROS: i64 = 1_000_000;

/// How often table, server and topic are checked.
const LOOK_MICROS: i64 = 60_000_000;
/// How soon they may be checked again if there is a reason.
const LOOK_AGAIN_MICROS: i64 = 1_000_000;
/// How often the time zones of the rules are read, since that of the database or of the role may change.
const ZONES_MICROS: i64 = 10_000_000;

/// A request to the database.
pub(super) enum Request {
    /// Whether these candidates are over their threshold.
    Confirm(Question),
    /// The visible transactions.
    Snapshot,
    /// The rows of one key.
    Rows(Reload),
    /// The rows of these primary keys of the table at this place.
    Lookup(usize, Vec<Key>),
    /// Whether table, server and topic are unchanged. It has the last records that were taken.
    Look(LastRecords, (u64, Lsn)),
    /// A request of the audit.
    Audit(AuditRequest, Timestamp),
    /// The rules' time zones.
    Zones,
}

/// The statements under way, numbered in the order in which they began.
#[derive(Default)]
pub(super) struct UnderWay {
    next: u64,
    open: BTreeSet<u64>,
    /// The number of the next statement when `end` last returned true. It returns true again once all statements below
    /// this number are answered.
    mark: u64,
}

impl UnderWay {
    /// Begins a statement. Returns its number.
    pub(super) fn begin(&mut self) -> u64 {
        self.open.insert(self.next);
        self.next += 1;
        self.next - 1
    }

    /// Ends a statement. Returns whether all statements are answered that were under way when this was last true.
    pub(super) fn end(&mut self, number: u64) -> bool {
        self.open.remove(&number);
        let is_passed = self.open.first().is_none_or(|first| *first >= self.mark);
        if is_passed {
            self.mark = self.next;
        }
        is_passed
    }
}

/// The reply to a [`Request`].
pub(super) enum Reply {
    Answers(Question, Vec<Result<Answer, CallError>>),
    Snapshot(Result<String, CallError>),
    Rows(Reload, Result<Vec<TableRow>, CallError>),
    Found(usize, Result<SeenRows, CallError>),
    Audited(AuditReply, Duration),
    Looked((u64, Lsn), Result<Box<Seen>, CallError>),
    Zones(Result<Vec<Arc<Zone>>, CallError>),
}

/// The result of a look.
pub(super) struct Seen {
    /// The facts about the database.
    pub(super) look: Look,
    /// The topic's ends, read after that, or why it is not the topic that was read.
    pub(super) topic: Result<Offsets, Mismatch>,
}

/// The reply to an [`AuditRequest`].
pub(super) enum AuditReply {
    Compared(Question, Vec<Result<Compared, CallError>>),
    Page(usize, Result<Vec<Key>, CallError>),
    Healed(Question, Result<SeenRows, CallError>),
    Swept(usize, Result<Vec<Key>, CallError>),
}

impl Reply {
    /// Returns the duration of a confirmation in milliseconds, or why Postgres did not answer.
    pub(super) fn took(&self) -> Result<Option<u64>, &CallError> {
        match self {
            Self::Answers(_, answers) => {
                let failed = answers.iter().find_map(|answer| answer.as_ref().err());
                let answered = answers.iter().find_map(|answer| answer.as_ref().ok()).map(|answer| answer.millis);
                failed.filter(|_| answered.is_none()).map_or(Ok(answered), Err)
            }
            Self::Snapshot(Err(problem))
            | Self::Rows(_, Err(problem))
            | Self::Found(_, Err(problem))
            | Self::Zones(Err(problem))
            | Self::Audited(
                AuditReply::Swept(_, Err(problem))
                | AuditReply::Page(_, Err(problem))
                | AuditReply::Healed(_, Err(problem)),
                _,
            ) => Err(problem),
            // One half of the look is a request to Kafka.
            Self::Looked(_, Err(problem)) if problem.server() == Some(Server::Postgres) => Err(problem),
            Self::Audited(AuditReply::Compared(_, answers), _) => {
                let failed = answers.iter().find_map(|answer| answer.as_ref().err());
                failed.filter(|_| answers.iter().all(Result::is_err)).map_or(Ok(None), Err)
            }
            Self::Snapshot(Ok(_))
            | Self::Rows(..)
            | Self::Found(..)
            | Self::Audited(..)
            | Self::Looked(..)
            | Self::Zones(Ok(_)) => Ok(None),
        }
    }
}

/// The times of all requests to the database other than confirmations.
pub(super) struct Schedule {
    /// The time of the last snapshot request, and the stream's offsets at that time.
    snapshot: Option<(Timestamp, Offsets)>,
    /// The time at which the last sweep started.
    swept_at: Timestamp,
    /// The time at which the last look started.
    looked_at: Option<Timestamp>,
    /// Whether a look is under way.
    looking: bool,
    /// Whether there is a reason to look again soon.
    look_soon: bool,
    /// The time of the last request for time zones.
    zones_at: Timestamp,
}

impl Schedule {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { snapshot: None, swept_at: now, zones_at: now, looked_at: None, looking: false, look_soon: false }
    }

    /// Requests a look, because a record could not be read and the table may have changed.
    pub(super) fn look_soon(&mut self) {
        self.look_soon = true;
    }

    /// Ends a look.
    pub(super) fn looked(&mut self) {
        self.looking = false;
    }

    /// Whether a look begins now. It does if it is due, or `wanted` and the last one did not begin just before.
    pub(super) fn begin_look(&mut self, wanted: bool, now: Timestamp, settings: &Settings) -> bool {
        let often = LOOK_MICROS.min(micros(settings.audit_period));
        let every = if self.look_soon || wanted { LOOK_AGAIN_MICROS } else { often };
        // A run to the end was prepared just before.
        let first = !settings.until_end || self.look_soon;
        let due = self.looked_at.map_or(first, |at| now.0.saturating_sub(at.0) >= every);
        if self.looking || !due {
            return false;
        }
        (self.looked_at, self.looking, self.look_soon) = (Some(now), true, false);
        true
    }

    /// Returns the due requests. Rows and groups to read from the table are due at once. The database's snapshot is due
    /// once at first, and then every second while changes come. The sweep is due at its interval, unless windows are
    /// being rebuilt.
    pub(super) fn due(&mut self, unit: &mut Unit, rebuilds: bool, now: Timestamp, settings: &Settings) -> Vec<Request> {
        let mut requests = Vec::new();
        if let Some((table, pks)) = unit.next_lookup(now) {
            requests.push(Request::Lookup(table, pks));
        }
        if now.0.saturating_sub(self.zones_at.0) >= ZONES_MICROS {
            self.zones_at = now;
            requests.push(Request::Zones);
        }
        if !unit.is_confirmed() {
            return requests;
        }
        let is_due = self
            .snapshot
            .as_ref()
            .is_none_or(|(at, offsets)| now.0.saturating_sub(at.0) >= SNAPSHOT_MICROS && offsets != unit.offsets());
        if is_due {
            self.snapshot = Some((now, unit.offsets().clone()));
            requests.push(Request::Snapshot);
        }
        requests.extend(unit.next_reload().map(Request::Rows));
        if !rebuilds {
            unit.keep_asking(now);
        }
        if let Some(interval) = settings.sweep_interval
            && !rebuilds
            && now.0.saturating_sub(self.swept_at.0) >= micros(interval)
        {
            self.swept_at = now;
            unit.sweep_soon();
        }
        requests
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_have_passed_once_the_oldest_is_answered() {
        let mut under_way = UnderWay::default();
        let (slow, quick) = (under_way.begin(), under_way.begin());
        assert!(under_way.end(quick), "none was under way before");
        let later = under_way.begin();
        assert!(!under_way.end(later), "the slow one was, and is");
        let newest = under_way.begin();
        assert!(under_way.end(slow));
        assert!(under_way.end(newest));
    }
}
