//! The beginning of an assignment: looks up the facts that the decision depends on.

use std::collections::BTreeMap;
use std::time::Duration;

use super::JobError;
use crate::failure::{CallError, Kind};
use crate::model::Timestamp;
use crate::progress::checks::{self, Advice, Mismatch};
use crate::progress::start::{Decision, Known, Lookup, decide};
use crate::progress::{LastRecords, Offsets, Progress, StartAt, TopicState, Topics};
use crate::retry::Retry;
use crate::source::{Beside, Source};

/// Looks up the facts that a decision depends on.
#[expect(async_fn_in_trait, reason = "used by generic code on one task only")]
pub trait Lookups {
    /// The error of a lookup.
    type Error;

    /// Reads the group's progress from the recovery topic.
    ///
    /// # Errors
    /// The broker does not answer.
    async fn recovery(&mut self) -> Result<Option<Progress>, Self::Error>;

    /// Reads how long the broker keeps the offsets of a group without members. `None`: the broker does not report it.
    async fn retention(&mut self) -> Option<Duration>;

    /// Reads the checksum and the next offsets of the folder's epoch with this number, if there is one.
    ///
    /// # Errors
    /// The file is damaged.
    fn logged(&mut self, epoch: u64) -> Result<Option<(u32, Offsets)>, Self::Error>;

    /// Reads the timestamps of the records at these offsets, in milliseconds since 1970 by partition.
    ///
    /// # Errors
    /// The broker does not answer.
    async fn timestamps(&mut self, offsets: &BTreeMap<i32, i64>) -> Result<BTreeMap<i32, i64>, Self::Error>;

    /// Returns for each partition the first offset that is not older than this.
    ///
    /// # Errors
    /// The broker does not answer.
    async fn since(&mut self, at: Timestamp) -> Result<Offsets, Self::Error>;
}

/// Decides where to continue, and looks up the facts that this depends on.
///
/// # Errors
/// A lookup's error.
pub async fn decide_with<L: Lookups>(known: &mut Known, lookups: &mut L) -> Result<Decision, L::Error> {
    loop {
        let lookup = match decide(known) {
            Ok(decision) => return Ok(decision),
            Err(lookup) => lookup,
        };
        let answers = &mut known.answers;
        match lookup {
            Lookup::Recovery => answers.recovery = Some(lookups.recovery().await?),
            Lookup::Retention => answers.retention = Some(lookups.retention().await),
            Lookup::Logged(epoch) => answers.logged = Some(lookups.logged(epoch)?),
            Lookup::Timestamps(offsets) => answers.timestamps = Some(lookups.timestamps(&offsets).await?),
            Lookup::Since(at) => answers.since = Some(lookups.since(at).await?),
        }
    }
}

/// The offsets at which a lineage starts if nothing is known about it.
///
/// # Errors
/// An error that a retry does not change.
pub async fn first_offsets<S: Source>(source: &S, start_at: StartAt, topic: &TopicState) -> Result<Offsets, CallError> {
    Ok(match start_at {
        StartAt::Earliest => topic.lows(),
        StartAt::Latest => topic.ends(),
        StartAt::Time(at) => {
            let all: Vec<i32> = topic.partitions.iter().map(|state| state.partition).collect();
            Retry::WORKING.run("asking for offsets by time", async || source.first_since(&all, at).await).await?
        }
    })
}

/// Checks during work that a topic still has these last records. Returns the topic's state, or why it is not the topic
/// that was read.
///
/// # Errors
/// The broker does not answer, or the topic does not exist. It may be about to be re-created.
pub async fn look_at_topic<B: Beside>(
    beside: &B,
    last_records: &LastRecords,
) -> Result<Result<TopicState, Mismatch>, CallError> {
    let state = beside.state().await?;
    if state.partitions.is_empty() {
        return Err(CallError::new("Kafka", "the topic of changes does not exist at present", Kind::Unreachable));
    }
    let compared = match checks::to_compare(last_records, &state) {
        Ok(compared) => compared,
        Err(mismatch) => return Ok(Err(mismatch)),
    };
    if compared.is_empty() {
        return Ok(Ok(state));
    }
    let timestamps = beside.timestamps(&compared).await?;
    Ok(checks::same_records(last_records, &timestamps).map(|()| state))
}

/// Checks that a topic still has the last records that were taken from it. `cluster` and `last_records` are stored in
/// `place`.
///
/// # Errors
/// The topic is another one.
pub async fn check_same_topic<S: Source>(
    source: &S,
    topic: &str,
    place: &str,
    (cluster, last_records): (Option<&String>, &LastRecords),
    state: &TopicState,
    advice: Advice,
) -> Result<(), JobError> {
    let stop = |mismatch: Mismatch| JobError::Unsafe(mismatch.text(&Topics::from(topic), place, advice));
    checks::same_cluster(cluster, state.cluster.as_ref()).map_err(stop)?;
    let compared = checks::to_compare(last_records, state).map_err(stop)?;
    if compared.is_empty() {
        return Ok(());
    }
    let what = "reading the last records that were taken";
    let found = Retry::WORKING.run(what, async || source.timestamps(&compared).await).await?;
    checks::same_records(last_records, &found).map_err(stop)
}
