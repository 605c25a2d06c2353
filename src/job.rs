//! What the jobs share: joining a group, asking a broker that may be away, and why a run ends.
//!
//! - this file: one assignment after the other
//! - [`checks`]: whether what is to be gone on with is still there
//! - [`gauge`]: how far a run is, for whoever shows it

pub mod checks;
pub mod gauge;

use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use futures_util::FutureExt;

use crate::checkpoint::{CheckpointError, Committed, Offsets};
use crate::model::Timestamp;
use crate::sink::{SinkError, SinkErrorKind};
use crate::source::{Event, Layers, PartitionState, Source, SourceError};

pub use checks::{Advice, check_readable, check_same_topic};

/// How long the last epoch may take after a stop. Leaving it then is as safe as a crash.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// How long a member that was given some of the partitions waits for the rest before it joins anew: longer than the
/// session of one that has gone.
const PARTLY_MAX: Duration = Duration::from_secs(20);

/// The wait before a broker that does not answer is asked again.
pub(crate) const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The first wait before a sink is tried again.
const RETRY_FIRST: Duration = Duration::from_millis(100);
/// The longest wait before a sink is tried again.
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Where a lineage starts that nothing is known of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// At the first record that the topic still has.
    Earliest,
    /// At the end.
    Latest,
    /// At the first record that is not older.
    Time(Timestamp),
}

/// Why a run ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The checkpoint folder.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Kafka.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A sink that refuses for good.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// `on_bad_record = "stop"`.
    #[error(
        "{topic} partition {partition} offset {offset}: {reason}; source.on_bad_record = \"stop\", so the run stops before this record"
    )]
    BadRecord {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// Offset of the record.
        offset: i64,
        /// Why it was not understood.
        reason: String,
    },
    /// Going on would lose or repeat something.
    #[error("{0}")]
    Unsafe(String),
    /// It was told to stop while a sink was away.
    #[error("stopped before everything was delivered: what was logged is delivered at the next start")]
    Cut,
    /// It was told to stop before the end that it was to read to.
    #[error("stopped before the end was reached; the next run goes on from here")]
    BeforeTheEnd,
    /// The columns of records are not known, or not what the settings say.
    #[error("{reason}")]
    Columns {
        /// A short name of what is wrong.
        kind: &'static str,
        /// What, and what to do.
        reason: String,
    },
    /// A rule or a stored state that does not fit.
    #[error("{0}")]
    Internal(String),
}

impl JobError {
    /// Whether another instance may work for the group.
    fn is_fenced(&self) -> bool {
        match self {
            Self::Sink(error) => error.kind == SinkErrorKind::Fenced,
            Self::Source(SourceError::Fenced(_)) => true,
            _ => false,
        }
    }
}

/// What a job does with the partitions of its topic while it has them.
pub(crate) trait Job {
    /// Where its changes come from.
    type Source: Source;

    /// Where its changes come from.
    fn source(&mut self) -> &mut Self::Source;

    /// Its consumer group.
    fn group(&self) -> String;

    /// Whether it ends once everything that was there at the start has been read.
    fn until_end(&self) -> bool;

    /// It has no partitions yet, or no longer.
    fn joins(&mut self) {}

    /// Goes on from what is durable, and works until `stop` is ready, the end has been read, or the partitions are taken
    /// away.
    ///
    /// # Errors
    /// What the run does not get over by itself.
    async fn work(&mut self, partitions: &[i32], stop: Pin<&mut impl Future<Output = ()>>) -> Result<Ended, JobError>;
}

/// How work on an assignment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was told to.
    Stopped,
    /// Everything that was there at the start has been read.
    Read,
    /// The partitions were taken away.
    Revoked,
}

/// Runs a job until `stop` is ready, or until the end: one assignment of the partitions after the other.
///
/// # Errors
/// What the run does not get over by itself; [`JobError::Cut`] when it does not end in time after `stop`,
/// [`JobError::BeforeTheEnd`] when it was to read to the end.
pub(crate) async fn run(job: &mut impl Job, stop: impl Future<Output = ()>) -> Result<(), JobError> {
    let stop = stop.shared();
    let hard_limit = stop.clone().then(|()| tokio::time::sleep(STOP_GRACE));
    tokio::select! {
        ended = run_until(job, stop) => ended,
        () = hard_limit => Err(JobError::Cut),
    }
}

/// `stop` may be ready at any place, and is asked after that: each step has one of its own.
async fn run_until(job: &mut impl Job, stop: impl Future<Output = ()> + Clone) -> Result<(), JobError> {
    let (group, until_end) = (job.group(), job.until_end());
    job.joins();
    loop {
        let partitions = assigned(job.source(), &group, until_end, pin!(stop.clone())).await?;
        let Some(partitions) = partitions else { return Ok(()) };
        match job.work(&partitions, pin!(stop.clone())).await {
            Ok(Ended::Revoked) => {
                tracing::warn!("the group took the partitions away: this instance stands by until the group is free");
            }
            Ok(Ended::Stopped) if until_end => return Err(JobError::BeforeTheEnd),
            Ok(Ended::Stopped | Ended::Read) => return Ok(()),
            Err(error) if error.is_fenced() && !until_end => {
                tracing::warn!(
                    %error,
                    "this instance can no longer be sure that it works for the group: it leaves, and begins anew from what is durable once the group is free"
                );
            }
            Err(error) => return Err(error),
        }
        job.joins();
        if rejoin(job.source(), pin!(stop.clone())).await? {
            return Ok(());
        }
    }
}

/// Waits until the group gives all partitions of the topic to this member; `None` when stopped before. A run that is to
/// come to the end ends otherwise then.
///
/// # Errors
/// With `until_end`, another member has some of them; or the source fails.
async fn assigned<S: Source>(
    source: &mut S,
    group: &str,
    until_end: bool,
    mut stop: Pin<&mut impl Future<Output = ()>>,
) -> Result<Option<Vec<i32>>, JobError> {
    let mut partly = false;
    loop {
        let event = tokio::select! {
            () = &mut stop => return if until_end { Err(JobError::BeforeTheEnd) } else { Ok(None) },
            event = source.next() => event,
            // What the broker remembers of this member may be older than the topic's newest partitions.
            () = tokio::time::sleep(PARTLY_MAX), if partly => Event::Revoked,
        };
        let given = match event {
            Event::Assigned(given) => given,
            Event::Failed(error) => return Err(error.into()),
            Event::Batch(_) => continue,
            Event::Revoked => {
                partly = false;
                if rejoin(source, stop.as_mut()).await? {
                    return Ok(None);
                }
                continue;
            }
        };
        let all = patiently(async || source.partitions().await).await?;
        if given.len() == all.len() && !all.is_empty() {
            return Ok(Some(given));
        }
        if until_end {
            return Err(JobError::Unsafe(format!(
                "group {group} has another active member: this one was given {} of {} partitions, and needs all of them; stop the other one, or use a group id of its own",
                given.len(),
                all.len()
            )));
        }
        // Of several that joined at once, the first stays and is given the rest when the others have gone.
        partly = patiently(async || source.is_first().await).await?;
        tracing::warn!(group, given = given.len(), all = all.len(), stays = partly, "the group has another member");
        if !partly && rejoin(source, stop.as_mut()).await? {
            return Ok(None);
        }
    }
}

/// Leaves the group and joins it again once it is free. Whether it was stopped before that.
///
/// # Errors
/// The source cannot be made anew.
async fn rejoin<S: Source>(source: &mut S, mut stop: Pin<&mut impl Future<Output = ()>>) -> Result<bool, JobError> {
    tokio::select! {
        () = &mut stop => Ok(true), // it can be asked only once
        joined = source.rejoin() => joined.map(|()| false).map_err(JobError::from),
    }
}

/// Repeats a request until the broker answers: after the start, outages are ridden out.
///
/// # Errors
/// What asking again does not change.
pub async fn patiently<T>(mut ask: impl AsyncFnMut() -> Result<T, SourceError>) -> Result<T, SourceError> {
    loop {
        match ask().await {
            Err(SourceError::Call(problem)) => {
                tracing::warn!(problem, "asked again");
                tokio::time::sleep(ASK_AGAIN).await;
            }
            answered => return answered,
        }
    }
}

/// Repeats until a server that is away is back.
///
/// # Errors
/// What repeating does not change.
pub async fn retry<T>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T, SinkError>) -> Result<T, JobError> {
    let mut wait = RETRY_FIRST;
    loop {
        match attempt().await {
            Err(error) if error.kind == SinkErrorKind::Away => {
                tracing::warn!(%error, "{what}: a server is away; tried again in {wait:?}");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY_MAX);
            }
            done => return done.map_err(JobError::from),
        }
    }
}

/// The id of a lineage that begins now.
pub fn new_lineage() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// Where a lineage starts that nothing is known of.
///
/// # Errors
/// What asking again does not change.
pub async fn first_offsets<S: Source>(source: &S, start_at: StartAt, layers: &Layers) -> Result<Offsets, JobError> {
    let states = layers.partitions.iter();
    Ok(match start_at {
        StartAt::Earliest => states.map(|p| (p.partition, p.low)).collect(),
        StartAt::Latest => states.map(|p| (p.partition, p.high)).collect(),
        StartAt::Time(at) => {
            let all: Vec<i32> = states.map(|p| p.partition).collect();
            patiently(async || source.first_since(&all, at).await).await?
        }
    })
}

/// What the group committed, where it committed anything.
pub fn committed(layers: &[PartitionState]) -> Option<Committed> {
    let mut offsets = Offsets::new();
    let mut metadata = None;
    for layer in layers {
        if let Some((next, text)) = &layer.committed {
            offsets.insert(layer.partition, *next);
            // Any foreign text is a sign of a hand; ours stands on all partitions.
            let first = metadata.get_or_insert_with(|| text.clone());
            if first != text {
                first.clear();
            }
        }
    }
    metadata.map(|metadata| Committed { offsets, metadata })
}

/// A partition that is new to the topic is read from its beginning.
pub fn with_new_partitions(mut offsets: Offsets, layers: &Layers) -> Offsets {
    for layer in &layers.partitions {
        offsets.entry(layer.partition).or_insert(layer.low);
    }
    offsets
}
