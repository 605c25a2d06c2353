//! The provenance of an alert.

use serde::{Deserialize, Serialize};

use crate::change::Change;
use crate::model::{Key, Lsn, Position, Timestamp};

/// The change that made a group's evaluation what it is: the provenance of an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// Where the record stands.
    pub position: Position,
    /// Debezium's letter for what was done.
    pub op: String,
    /// `source.lsn`.
    pub lsn: Option<Lsn>,
    /// `source.txId`.
    pub tx_id: Option<u32>,
    /// The row's primary key; `None` for a truncate.
    pub pk: Option<Key>,
    /// The row's value in the column of the rule's time bound, after the change; `None` for a delete and
    /// for a rule without a bound.
    pub event_time: Option<Timestamp>,
    /// Commit time of the change.
    pub committed_at: Option<Timestamp>,
}

impl Trigger {
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
