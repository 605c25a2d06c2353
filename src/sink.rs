//! The destinations of alerts.
//!
//! - [`kafka`]: alerts, episodes and the group's offsets in one transaction, and the dead-letter topic
//! - [`postgres`]: the table `tripline.alerts`
//! - [`log`]: a line on standard output

pub mod kafka;
pub mod log;
pub mod postgres;

use std::collections::BTreeMap;

use crate::alert::Alert;
use crate::change::record::DeadLetter;
use crate::failure::CallError;
use crate::progress::topics::partition_of;
use crate::progress::{Progress, Topics};
use crate::unit::recovery::{EpisodeRecord, RecoveryState};

/// The changes that an epoch makes in Kafka: all of them or none.
#[derive(Clone, Copy, Debug)]
pub struct Transaction<'a> {
    /// Alerts, in order.
    pub alerts: &'a [Alert],
    /// The states of the episodes that the alerts open or close.
    pub episodes: &'a [EpisodeRecord],
    /// The group's progress: its next offsets and the metadata that is committed with them. The recovery topic gets a
    /// copy of both.
    pub progress: &'a Progress,
}

/// The destinations of everything that a run writes.
#[expect(async_fn_in_trait, reason = "used by generic code on one task only")]
pub trait Sinks {
    /// Proof for the broker that this member is assigned the partitions.
    type Member;

    /// Shuts out the previous instance of this group. Nothing that it does takes effect after this has returned.
    ///
    /// # Errors
    /// A server is down.
    async fn fence(&mut self) -> Result<(), CallError>;

    /// Copies invalid records to the dead-letter topic, at least once.
    ///
    /// # Errors
    /// The topic did not accept them. Copying all of them again is safe.
    async fn dead_letter(&mut self, dead: &[DeadLetter]) -> Result<(), CallError>;

    /// Begins a transaction and sends everything to the broker. It is not visible before [`Sinks::commit`], and without
    /// that call nothing of it remains.
    ///
    /// # Errors
    /// After [`Kind::Unreachable`](crate::failure::Kind::Unreachable), preparing again is safe.
    async fn prepare(&mut self, member: &Self::Member, transaction: &Transaction<'_>) -> Result<(), CallError>;

    /// Commits the transaction that was prepared last.
    ///
    /// # Errors
    /// After [`Kind::Unreachable`](crate::failure::Kind::Unreachable), committing again is safe.
    async fn commit(&mut self) -> Result<(), CallError>;

    /// Delivers alerts to the table, each id once, and then to the log, at least once.
    ///
    /// # Errors
    /// After [`Kind::Unreachable`](crate::failure::Kind::Unreachable), delivering all of them again is safe.
    async fn deliver(&mut self, alerts: &[Alert]) -> Result<(), CallError>;

    /// Reads the state of this group from Kafka, up to the last transaction.
    ///
    /// # Errors
    /// The broker does not answer.
    async fn recovery(&mut self) -> Result<RecoveryState, CallError>;
}

/// The destination of invalid records.
#[expect(async_fn_in_trait, reason = "used by generic code on one task only")]
pub trait DeadLetterSink {
    /// Copies the records, at least once.
    ///
    /// # Errors
    /// Not all of them were accepted. Copying all of them again is safe.
    async fn dead_letter(&self, dead: &[DeadLetter]) -> Result<(), CallError>;
}

/// Logs one line for each kind of invalid record, with the first record of the kind. Each record is logged at DEBUG.
/// The records of one epoch are logged together, so that a topic full of them does not fill the disk.
pub fn log_invalid(topics: &Topics, dead: &[DeadLetter]) {
    let at = |letter: &DeadLetter| {
        let lane = letter.position.partition;
        (topics.name(lane).to_owned(), partition_of(lane), letter.position.offset)
    };
    let mut kinds: BTreeMap<&'static str, (usize, &DeadLetter)> = BTreeMap::new();
    for letter in dead {
        kinds.entry(letter.reject.kind.as_str()).or_insert((0, letter)).0 += 1;
        let ((topic, partition, offset), reason) = (at(letter), &letter.reject);
        tracing::debug!(topic, partition, offset, %reason, "invalid");
    }
    for (records, letter) in kinds.into_values() {
        let ((topic, partition, offset), reason) = (at(letter), &letter.reject);
        if records == 1 {
            tracing::warn!(topic, partition, offset, %reason, "invalid record");
        } else {
            tracing::warn!(topic, records, partition, offset, %reason, "invalid records, this one first");
        }
    }
}
