//! Where changes come from.
//!
//! - [`kafka`]: a consumer on a thread of its own that reads and decodes ahead
//! - [`memory`]: its twin for tests

pub mod kafka;
pub mod memory;

use crate::change::{Change, Reject};
use crate::checkpoint::Offsets;
use crate::model::{NextOffset, Position};

/// Records of a batch at most: small enough that the loop looks up often, large enough to be cheap. A full
/// batch means that there is more to read right now.
pub const BATCH_RECORDS_MAX: usize = 2_048;

/// What a source tells the loop. Everything comes in the order in which it happened.
#[derive(Debug)]
pub enum Event {
    /// The group gave these partitions to this member; nothing is read before [`Source::start`].
    Assigned(Vec<i32>),
    /// They were taken away.
    Revoked,
    /// Records, decoded.
    Batch(Batch),
    /// The source cannot go on.
    Failed(SourceError),
}

/// The records of one poll.
#[derive(Debug, Default)]
pub struct Batch {
    /// In the order of each partition's offsets.
    pub records: Vec<Record>,
    /// Partitions whose end was reached after these records.
    pub ended: Vec<i32>,
}

/// One record of the topic.
#[derive(Debug)]
pub struct Record {
    /// Where it stands.
    pub position: Position,
    /// What it turned out to be.
    pub content: Content,
}

/// What a record turned out to be.
#[derive(Debug)]
pub enum Content {
    /// A change of a row.
    Change(Change),
    /// Nothing to do, by its nature.
    Ignored(&'static str),
    /// Not understood: all of it, for the dead-letter topic.
    Rejected(Box<DeadLetter>),
}

/// A record that was not understood, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where it stood.
    pub position: Position,
    /// Why.
    pub reject: Reject,
    /// The record's key, as it was.
    pub key: Option<Vec<u8>>,
    /// The record's value, as it was.
    pub value: Option<Vec<u8>>,
    /// The record's headers, as they were.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// What both ends know of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionState {
    /// Its number.
    pub partition: i32,
    /// What the group committed, with its metadata text.
    pub committed: Option<(NextOffset, String)>,
    /// The oldest offset that can still be read.
    pub low: NextOffset,
    /// The end at the moment of asking.
    pub high: NextOffset,
}

/// Why a source cannot go on, or a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// A call failed; it can be tried again.
    #[error("Kafka: {0}")]
    Call(String),
    /// This member is no longer the one that may work on the partitions.
    #[error("Kafka: {0}")]
    Fenced(String),
    /// Offsets that are needed are no longer there.
    #[error("Kafka: {0}")]
    Lost(String),
}

/// A topic read in a consumer group.
#[expect(async_fn_in_trait, reason = "used by generic code on one task only")]
pub trait Source {
    /// The next event. Cancelling the future loses nothing.
    async fn next(&mut self) -> Event;

    /// What the group and the broker know of these partitions.
    ///
    /// # Errors
    /// The broker does not answer.
    async fn layers(&self, partitions: &[i32]) -> Result<Vec<PartitionState>, SourceError>;

    /// All partitions of the topic.
    ///
    /// # Errors
    /// The broker does not answer.
    async fn partitions(&self) -> Result<Vec<i32>, SourceError>;

    /// Starts to read the assigned partitions from here.
    fn start(&mut self, from: &Offsets);

    /// Commits the group's offsets with this text, and waits for it.
    ///
    /// # Errors
    /// The broker does not take it, or the partitions are no longer this member's.
    async fn commit(&self, offsets: &Offsets, metadata: &str) -> Result<(), SourceError>;
}
