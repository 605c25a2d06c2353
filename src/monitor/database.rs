//! What the loop asks of the database, and when. Pure.

use std::sync::Arc;

use super::settings::Settings;
use crate::failure::CallError;
use crate::model::duration::micros;
use crate::model::zone::Zone;
use crate::model::{Key, Timestamp};
use crate::progress::Offsets;
use crate::rule::table_row::TableRow;
use crate::unit::{Answer, Question, Reload, Unit};

/// How often the database's snapshot is asked for while changes come.
const SNAPSHOT_MICROS: i64 = 1_000_000;

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
    /// The rows of these primary keys.
    Lookup(Vec<Key>),
    /// Every key of a rule that is over its threshold.
    Sweep(usize, Timestamp),
    /// The rules' time zones.
    Zones,
}

/// The reply to a [`Request`].
pub(super) enum Reply {
    Answers(Question, Vec<Result<Answer, CallError>>),
    Snapshot(Result<String, CallError>),
    Rows(Reload, Result<Vec<TableRow>, CallError>),
    Found(Result<Vec<TableRow>, CallError>),
    Swept(usize, Result<Vec<Key>, CallError>),
    Zones(Result<Vec<Arc<Zone>>, CallError>),
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
            | Self::Found(Err(problem))
            | Self::Swept(_, Err(problem)) => Err(problem),
            // The door that this is asked by is another one.
            Self::Zones(_) => Ok(None),
            Self::Snapshot(Ok(_)) | Self::Rows(..) | Self::Found(_) | Self::Swept(..) => Ok(None),
        }
    }
}

/// When the database is asked for something else than confirmations.
pub(super) struct Schedule {
    /// When its snapshot was last asked for, and where the stream stood then.
    snapshot: Option<(Timestamp, Offsets)>,
    /// When the last sweep was started.
    swept_at: Timestamp,
    /// When the time zones were last asked for.
    zones_at: Timestamp,
}

impl Schedule {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { snapshot: None, swept_at: now, zones_at: now }
    }

    /// What is due: the database's snapshot (once at first, then every second while changes come), keys to be read
    /// again, and the sweep, unless windows are being rebuilt.
    pub(super) fn due(&mut self, unit: &mut Unit, rebuilds: bool, now: Timestamp, settings: &Settings) -> Vec<Request> {
        let mut requests = Vec::new();
        let lookup = unit.next_lookup(now);
        if !lookup.is_empty() {
            requests.push(Request::Lookup(lookup));
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
        if let Some(interval) = settings.sweep_interval
            && !rebuilds
            && now.0.saturating_sub(self.swept_at.0) >= micros(interval)
        {
            self.swept_at = now;
            requests.extend((0..unit.versions().len()).map(|rule| Request::Sweep(rule, now)));
        }
        requests
    }
}
