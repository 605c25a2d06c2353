//! Where changes come from.
//!
//! - [`kafka`]: a consumer on a thread of its own that reads and decodes ahead

pub mod kafka;

use crate::change::record::Batch;
use crate::failure::CallError;
use crate::progress::TopicState;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::change::Change;
use crate::model::Timestamp;
use crate::progress::Offsets;

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
    Failed(CallError),
}

/// A topic read in a consumer group.
#[expect(async_fn_in_trait, reason = "used by generic code on one task only")]
pub trait Source {
    /// What proves to the broker that this member works on the partitions.
    type Member;
    /// What a record is decoded into.
    type Change;

    /// Looks at the topic beside this source.
    type Beside: Beside;

    /// The next event. Cancelling the future loses nothing.
    async fn next(&mut self) -> Event<Self::Change>;

    /// The member that the newest assignment was given to.
    fn member(&self) -> Self::Member;

    /// What the group and the broker know of these partitions.
    ///
    /// # Errors
    /// The broker does not answer.
    async fn topic_state(&self, partitions: &[i32]) -> Result<TopicState, CallError>;

    /// The end of each assigned partition as it was last heard of, at no cost; for show. Where it is not known it is
    /// left out.
    fn ends(&self) -> Offsets;

    /// Set while no broker answers, as far as is known; for show, and for as long as the source is there.
    fn cut_off(&self) -> Arc<AtomicBool>;

    /// All partitions of the topic.
    ///
    /// # Errors
    /// The broker does not answer.
    async fn partitions(&self) -> Result<Vec<i32>, CallError>;

    /// The timestamp in Kafka, in milliseconds since 1970, of the record at each of these offsets by partition;
    /// nothing where there is no such record.
    ///
    /// # Errors
    /// The broker does not answer.
    async fn timestamps(&self, offsets: &BTreeMap<i32, i64>) -> Result<BTreeMap<i32, i64>, CallError>;

    /// By partition, the offset of the first record that is not older than this.
    ///
    /// # Errors
    /// The broker does not answer.
    async fn first_since(&self, partitions: &[i32], at: Timestamp) -> Result<Offsets, CallError>;

    /// How long the broker keeps the offsets of a group without members; `None` where it does not tell.
    async fn offsets_kept_for(&self) -> Option<Duration>;

    /// Looks at the topic while this source is read.
    fn beside(&self) -> Self::Beside;

    /// Starts to read the assigned partitions from here.
    fn start(&mut self, from: &Offsets);

    /// How this member stands among those of its group.
    ///
    /// # Errors
    /// The broker does not answer.
    async fn standing(&self) -> Result<Standing, CallError>;

    /// Leaves the group, and joins it again once it has no other active member.
    ///
    /// # Errors
    /// The source cannot be made anew.
    async fn rejoin(&mut self) -> Result<(), CallError>;
}

/// How a member stands that was not given all partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is no other: the broker remembers what this instance was given before, which is older than the topic's newest
    /// partitions.
    Alone,
    /// The others are what is left of this instance, until their sessions have expired.
    WithLeftovers,
    /// Of several that joined at once, it is the one to wait.
    First,
    /// Another one is the one to wait: this one leaves.
    Behind,
}

/// Looks at a topic while its records are read, without holding that up.
#[expect(async_fn_in_trait, reason = "used by generic code on one task only")]
pub trait Beside: Clone {
    /// The state of all its partitions, without what a group has committed; none where there is no such topic.
    ///
    /// # Errors
    /// The broker does not answer.
    async fn state(&self) -> Result<TopicState, CallError>;

    /// As [`Source::timestamps`].
    ///
    /// # Errors
    /// The broker does not answer.
    async fn timestamps(&self, offsets: &BTreeMap<i32, i64>) -> Result<BTreeMap<i32, i64>, CallError>;
}

/// Commits the group's offsets plainly, as a member of it.
#[expect(async_fn_in_trait, reason = "used by generic code on one task only")]
pub trait CommitOffsets {
    /// Commits these, with this text on every partition.
    ///
    /// # Errors
    /// As of [`Follow::commit`].
    async fn commit(&self, offsets: &Offsets, metadata: &str) -> Result<(), CallError>;
}

/// A source that carries its group's progress itself, where no sink does so in a transaction; and that can read twice.
#[expect(async_fn_in_trait, reason = "used by generic code on one task only")]
pub trait Follow: Source {
    /// Commits the group's offsets as this member, with this text on every partition.
    ///
    /// # Errors
    /// [`Kind::Fenced`](crate::failure::Kind::Fenced): this member has lost its place, and nothing was committed. After
    /// [`Kind::Unreachable`](crate::failure::Kind::Unreachable) it is not known whether it was; committing the same again
    /// is safe.
    async fn commit(&self, offsets: &Offsets, metadata: &str) -> Result<(), CallError>;

    /// A second reader of these partitions, which is not in the group and cannot commit.
    ///
    /// # Errors
    /// It cannot be made.
    fn open_without_group(&self, partitions: Vec<i32>) -> Result<Self, CallError>
    where
        Self: Sized;

    /// Leaves, and is gone.
    async fn close(self);
}
