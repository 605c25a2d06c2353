//! The source of changes.
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

/// An event of the source. The events come in the order in which they happened.
#[derive(Debug)]
pub enum Event<T = Change> {
    /// The group gave these partitions to this member. Nothing is read before [`Source::start`].
    Assigned(Vec<i32>),
    /// The group took the partitions back.
    Revoked,
    /// Decoded records.
    Batch(Batch<T>),
    /// The source cannot continue.
    Failed(CallError),
}

/// Topics that are read in a consumer group.
#[expect(async_fn_in_trait, reason = "used by generic code on one task only")]
pub trait Source {
    /// The proof to the broker that this member works on the partitions.
    type Member;
    /// The type of a decoded change.
    type Change;

    /// The type that reads the state of the topic beside this source.
    type Beside: Beside;

    /// Returns the next event. Cancelling the future loses nothing.
    async fn next(&mut self) -> Event<Self::Change>;

    /// Returns the member of the newest assignment.
    fn member(&self) -> Self::Member;

    /// Reads the group's and the broker's state of these partitions.
    ///
    /// # Errors
    /// The broker does not answer.
    async fn topic_state(&self, partitions: &[i32]) -> Result<TopicState, CallError>;

    /// Returns the last known end of each assigned partition without a request, for display. Unknown ends are left out.
    fn ends(&self) -> Offsets;

    /// Returns the flag that is set while no broker is known to answer. It is for display, and lasts as long as the
    /// source.
    fn cut_off(&self) -> Arc<AtomicBool>;

    /// Reads all partitions of the topic.
    ///
    /// # Errors
    /// The broker does not answer.
    async fn partitions(&self) -> Result<Vec<i32>, CallError>;

    /// Reads the timestamp in Kafka of the record at each of these offsets by partition, in milliseconds since 1970.
    /// Offsets without a record are left out.
    ///
    /// # Errors
    /// The broker does not answer.
    async fn timestamps(&self, offsets: &BTreeMap<i32, i64>) -> Result<BTreeMap<i32, i64>, CallError>;

    /// Finds the offset of the first record of each partition that is not older than this.
    ///
    /// # Errors
    /// The broker does not answer.
    async fn first_since(&self, partitions: &[i32], at: Timestamp) -> Result<Offsets, CallError>;

    /// Reads how long the broker keeps the offsets of a group without members. `None` where it does not report that.
    async fn offsets_kept_for(&self) -> Option<Duration>;

    /// Returns access to the state of the topic while this source is read.
    fn beside(&self) -> Self::Beside;

    /// Starts to read the assigned partitions at these offsets.
    fn start(&mut self, from: &Offsets);

    /// Reads this member's standing among the members of its group.
    ///
    /// # Errors
    /// The broker does not answer.
    async fn standing(&self) -> Result<Standing, CallError>;

    /// Leaves the group, and joins it again once it has no other active member.
    ///
    /// # Errors
    /// The consumer cannot be created again.
    async fn rejoin(&mut self) -> Result<(), CallError>;
}

/// The standing of a member that did not get all partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is no other member. The broker remembers the old assignment of this instance, from before the topic's
    /// newest partitions.
    Alone,
    /// The others are left over from this instance until their sessions expire.
    WithLeftovers,
    /// Of several members that joined at once, this one waits.
    First,
    /// Another member is the one to wait, so this one leaves.
    Behind,
}

/// Reads the state of a topic without delaying the reading of its records.
#[expect(async_fn_in_trait, reason = "used by generic code on one task only")]
pub trait Beside: Clone {
    /// Reads the state of all partitions without the offsets of a group. It has none if there is no such topic.
    ///
    /// # Errors
    /// The broker does not answer.
    async fn state(&self) -> Result<TopicState, CallError>;

    /// Does the same as [`Source::timestamps`].
    ///
    /// # Errors
    /// The broker does not answer.
    async fn timestamps(&self, offsets: &BTreeMap<i32, i64>) -> Result<BTreeMap<i32, i64>, CallError>;
}

/// Commits the group's offsets outside of a transaction, as a member of it.
#[expect(async_fn_in_trait, reason = "used by generic code on one task only")]
pub trait CommitOffsets {
    /// Commits these offsets, with this text on every partition.
    ///
    /// # Errors
    /// Those of [`Follow::commit`].
    async fn commit(&self, offsets: &Offsets, metadata: &str) -> Result<(), CallError>;
}

/// A source that commits its group's progress itself, where no sink does so in a transaction. It can also read a second
/// time.
#[expect(async_fn_in_trait, reason = "used by generic code on one task only")]
pub trait Follow: Source {
    /// Commits the group's offsets as this member, with this text on every partition.
    ///
    /// # Errors
    /// [`Kind::Fenced`](crate::failure::Kind::Fenced): this member has lost its partitions, and nothing was committed.
    /// After [`Kind::Unreachable`](crate::failure::Kind::Unreachable) it is not known whether the commit took effect.
    /// It is safe to commit the same again.
    async fn commit(&self, offsets: &Offsets, metadata: &str) -> Result<(), CallError>;

    /// Opens a second reader of these partitions, which is not in the group and cannot commit.
    ///
    /// # Errors
    /// The reader cannot be created.
    fn open_without_group(&self, partitions: Vec<i32>) -> Result<Self, CallError>
    where
        Self: Sized;

    /// Leaves the group and ends.
    async fn close(self);
}
