//! Where changes come from.
//!
//! - [`kafka`]: a consumer on a thread of its own that reads and decodes ahead
//! - [`memory`]: its twin for tests

pub mod kafka;
pub mod memory;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::change::{Change, Reject};
use crate::checkpoint::{Marks, Offsets};
use crate::model::{NextOffset, Position, Timestamp};

/// Records of a batch at most: small enough that the loop looks up often, large enough to be cheap. A full
/// batch means that there is more to read right now.
pub const BATCH_RECORDS_MAX: usize = 2_048;

/// Bytes of a batch, after which it is full as well: several batches wait for the loop, whatever the size of a record.
pub const BATCH_BYTES_MAX: usize = 8 << 20;

/// What a source tells the loop. Everything comes in the order in which it happened.
#[derive(Debug)]
pub enum Event<T = Change> {
    /// The group gave these partitions to this member; nothing is read before [`Source::start`].
    Assigned(Vec<i32>),
    /// They were taken away.
    Revoked,
    /// Records, decoded.
    Batch(Batch<T>),
    /// The source cannot go on.
    Failed(SourceError),
}

/// The records of one poll.
#[derive(Debug)]
pub struct Batch<T = Change> {
    /// In the order of each partition's offsets.
    pub records: Vec<Record<T>>,
    /// Partitions whose end was reached after these records.
    pub ended: Vec<i32>,
    /// The last record of each partition in the batch.
    pub marks: Marks,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self { records: Vec::new(), ended: Vec::new(), marks: Marks::default() }
    }
}

/// One record of the topic.
#[derive(Debug)]
pub struct Record<T = Change> {
    /// Where it stands.
    pub position: Position,
    /// Its timestamp in Kafka, milliseconds since 1970; -1 where it has none.
    pub timestamp_ms: i64,
    /// What it turned out to be.
    pub content: Content<T>,
}

/// What a record turned out to be.
#[derive(Clone, Debug)]
pub enum Content<T = Change> {
    /// A change of a row.
    Change(T),
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

impl DeadLetter {
    /// The memory that it takes, about.
    pub fn bytes(&self) -> usize {
        let texts = [&self.key, &self.value].into_iter().chain(self.headers.iter().map(|(_, value)| value));
        let names: usize = self.headers.iter().map(|(name, _)| name.len()).sum();
        size_of::<Self>() + names + self.reject.detail.len() + texts.flatten().map(Vec::len).sum::<usize>()
    }
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

/// What both ends know at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layers {
    /// Id of the cluster, where the broker tells it.
    pub cluster: Option<String>,
    /// Every partition.
    pub partitions: Vec<PartitionState>,
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
    /// What proves to the broker that this member works on the partitions.
    type Member;
    /// What a record is decoded into.
    type Change;

    /// The next event. Cancelling the future loses nothing.
    async fn next(&mut self) -> Event<Self::Change>;

    /// The member that the newest assignment was given to.
    fn member(&self) -> Self::Member;

    /// What the group and the broker know of these partitions.
    ///
    /// # Errors
    /// The broker does not answer.
    async fn layers(&self, partitions: &[i32]) -> Result<Layers, SourceError>;

    /// The end of each assigned partition as it was last heard of, at no cost; for show. Where it is not known it is
    /// left out.
    fn ends(&self) -> Offsets;

    /// Set while no broker answers, as far as is known; for show, and for as long as the source is there.
    fn cut_off(&self) -> Arc<AtomicBool>;

    /// All partitions of the topic.
    ///
    /// # Errors
    /// The broker does not answer.
    async fn partitions(&self) -> Result<Vec<i32>, SourceError>;

    /// The timestamp in Kafka, in milliseconds since 1970, of the record at each of these offsets by partition;
    /// nothing where there is no such record.
    ///
    /// # Errors
    /// The broker does not answer.
    async fn timestamps(&self, offsets: &BTreeMap<i32, i64>) -> Result<BTreeMap<i32, i64>, SourceError>;

    /// By partition, the offset of the first record that is not older than this.
    ///
    /// # Errors
    /// The broker does not answer.
    async fn first_since(&self, partitions: &[i32], at: Timestamp) -> Result<Offsets, SourceError>;

    /// How long the broker keeps the offsets of a group without members; `None` where it does not tell.
    async fn offsets_kept_for(&self) -> Option<Duration>;

    /// Starts to read the assigned partitions from here.
    fn start(&mut self, from: &Offsets);

    /// Whether this member is the one to wait, where several have joined at once; the others leave.
    ///
    /// # Errors
    /// The broker does not answer.
    async fn is_first(&self) -> Result<bool, SourceError>;

    /// Leaves the group, and joins it again once it has no other active member.
    ///
    /// # Errors
    /// The source cannot be made anew.
    async fn rejoin(&mut self) -> Result<(), SourceError>;
}

/// A source that carries its group's progress itself, where no sink does so in a transaction; and that can read twice.
#[expect(async_fn_in_trait, reason = "used by generic code on one task only")]
pub trait Follow: Source {
    /// Commits the group's offsets as this member, with this text on every partition.
    ///
    /// # Errors
    /// [`SourceError::Fenced`]: this member has lost its place, and nothing was committed. After
    /// [`SourceError::Call`] it is not known whether it was; committing the same again is safe.
    async fn commit(&self, offsets: &Offsets, metadata: &str) -> Result<(), SourceError>;

    /// A second reader of these partitions, which is not in the group and cannot commit.
    ///
    /// # Errors
    /// It cannot be made.
    fn alone(&self, partitions: Vec<i32>) -> Result<Self, SourceError>
    where
        Self: Sized;

    /// Leaves, and is gone.
    async fn close(self);
}
