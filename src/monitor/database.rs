//! What the loop asks of the database, and when. Pure.

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

/// How often the database's snapshot is asked for while changes come.
const SNAPSHOT_MICROS: i64 = 1_000_000;

/// How often table, server and topic are looked at.
const LOOK_MICROS: i64 = 60_000_000;
/// How soon they may be looked at again where there is a reason to.
const LOOK_AGAIN_MICROS: i64 = 1_000_000;
/// How often the time zones of the rules are asked for: the database or the role may get another one.
const ZONES_MICROS: i64 = 10_000_000;

/// A request to the database.
pub(super) enum Request {
    /// Are these candidates over their threshold?
    Confirm(Question),
    /// Which transactions are visible?
    Snapshot,
    /// The rows of one key.
    Rows(Reload),
    /// The rows of these primary keys of the table at this place.
    Lookup(usize, Vec<Key>),
    /// Are table, server and topic what they were? The last records that were taken.
    Look(LastRecords, (u64, Lsn)),
    /// What the audit wants to know.
    Audit(AuditRequest, Timestamp),
    /// The rules' time zones.
    Zones,
}

/// Statements under way, numbered in the order in which they were begun.
#[derive(Default)]
pub(super) struct UnderWay {
    next: u64,
    open: BTreeSet<u64>,
    /// Those before it had been begun when all of those before had last been answered.
    mark: u64,
}

impl UnderWay {
    /// One begins; its number.
    pub(super) fn begin(&mut self) -> u64 {
        self.open.insert(self.next);
        self.next += 1;
        self.next - 1
    }

    /// One is answered. Whether all are that were under way when this was last so.
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

/// What one look has found.
pub(super) struct Seen {
    /// Of the database.
    pub(super) look: Look,
    /// The topic's ends, asked for after that; or why it is not the topic that was read.
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
    /// How long a confirmation took in milliseconds; or why Postgres did not answer.
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
            // Half of it is asked of Kafka.
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

/// When the database is asked for something else than confirmations.
pub(super) struct Schedule {
    /// When its snapshot was last asked for, and where the stream stood then.
    snapshot: Option<(Timestamp, Offsets)>,
    /// When the last sweep was started.
    swept_at: Timestamp,
    /// When the last look was started.
    looked_at: Option<Timestamp>,
    /// Whether it is under way.
    looking: bool,
    /// There is a reason to look again soon.
    look_soon: bool,
    /// When the time zones were last asked for.
    zones_at: Timestamp,
}

impl Schedule {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { snapshot: None, swept_at: now, zones_at: now, looked_at: None, looking: false, look_soon: false }
    }

    /// A record could not be read: the table may have changed.
    pub(super) fn look_soon(&mut self) {
        self.look_soon = true;
    }

    /// A look has ended.
    pub(super) fn looked(&mut self) {
        self.looking = false;
    }

    /// Whether a look is due, or `wanted` and not begun a moment ago; it counts as begun then.
    pub(super) fn begin_look(&mut self, wanted: bool, now: Timestamp, settings: &Settings) -> bool {
        let often = LOOK_MICROS.min(micros(settings.audit_period));
        let every = if self.look_soon || wanted { LOOK_AGAIN_MICROS } else { often };
        // A run that is to end has just been prepared.
        let first = !settings.until_end || self.look_soon;
        let due = self.looked_at.map_or(first, |at| now.0.saturating_sub(at.0) >= every);
        if self.looking || !due {
            return false;
        }
        (self.looked_at, self.looking, self.look_soon) = (Some(now), true, false);
        true
    }

    /// What is due: the database's snapshot (once at first, then every second while changes come), keys to be read
    /// again, and the sweep, unless windows are being rebuilt.
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
