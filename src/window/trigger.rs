//! The provenance of an alert.

use serde::{Deserialize, Serialize};

use crate::change::{Change, Op};
use crate::model::{Key, Lsn, Position, Timestamp};

/// How long Postgres has to show a change whose record lacks its transaction id. A change becomes visible a moment
/// after its commit is in the WAL.
pub const GRACE_MICROS: i64 = 1_000_000;

/// The change that caused a group's evaluation: the provenance of an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// The position of the record.
    pub position: Position,
    /// Debezium's letter for the operation.
    pub op: String,
    /// `source.lsn`.
    pub lsn: Option<Lsn>,
    /// `source.txId`.
    pub tx_id: Option<u32>,
    /// The row's primary key. `None` for a truncate.
    pub pk: Option<Key>,
    /// The row's value in the column of the rule's time bound, after the change. `None` for a delete, and for a rule
    /// without a time bound.
    pub event_time: Option<Timestamp>,
    /// The commit time of the change.
    pub committed_at: Option<Timestamp>,
}

impl Trigger {
    /// Whether the record lacks its transaction id and the database may not show the change yet.
    pub fn is_in_grace(&self, since: Timestamp, now: Timestamp) -> bool {
        self.is_unstamped() && now.0.saturating_sub(since.0) < GRACE_MICROS
    }

    /// Whether it is a streamed change whose record lacks its transaction id.
    pub fn is_unstamped(&self) -> bool {
        self.tx_id.is_none() && self.op != Op::Read.as_str()
    }

    pub(super) fn new(change: &Change, position: Position, event_time: Option<Timestamp>) -> Self {
        Self {
            position,
            op: change.op.as_str().to_owned(),
            lsn: change.lsn,
            tx_id: change.tx_id,
            pk: change.pk.clone(),
            event_time,
            committed_at: change.committed_at,
        }
    }
}
