//! What the jobs share: joining a group, one assignment of partitions after the other, and why a run ends.
//!
//! - this file: one assignment after the other
//! - [`start`]: where an assignment goes on from
//! - [`gauge`]: how far a run is, for a progress bar

pub mod gauge;
pub mod start;

use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use futures_util::FutureExt;

use crate::change::record::BadRecord;
use crate::checkpoint::CheckpointError;
use crate::failure::{CallError, HasKind, Kind, Server};
use crate::fault;
use crate::retry::Retry;
use crate::source::{Event, Source, Standing};

/// How long the last epoch may take after a stop. Leaving it then is as safe as a crash.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// How long a member that was given some of the partitions waits for the rest before it joins again: longer than the
/// session of one that has gone.
const PARTLY_MAX: Duration = Duration::from_secs(20);

/// Why a run ended before it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The checkpoint folder.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Kafka, Postgres, or a sink that refuses for good.
    #[error(transparent)]
    Call(#[from] CallError),
    /// `on_bad_record = "stop"`.
    #[error(transparent)]
    BadRecord(#[from] BadRecord),
    /// Going on would lose or repeat something.
    #[error("{0}")]
    Unsafe(String),
    /// The table or its server is no longer what the job was prepared for.
    #[error("the table or its server has changed: {}", .0.join(", "))]
    Changed(Vec<String>),
    /// It was asked to stop while a sink could not be reached.
    #[error("stopped before everything was delivered: what was logged is delivered at the next start")]
    Cut,
    /// It was asked to stop before the end that it was to read to.
    #[error("stopped before the end was reached; the next run goes on from here")]
    BeforeTheEnd,
    /// The columns of records are not known, or not what the settings say.
    #[error(transparent)]
    Columns(#[from] ColumnsError),
    /// A rule or a stored state that does not fit.
    #[error("{0}")]
    Internal(String),
}

/// Why the rows of a topic cannot be read, although the records are valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ColumnsError {
    /// A record has a column that was not known.
    #[error("{reason}")]
    Unknown {
        /// The column.
        column: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A record has no schema, and its table is not known.
    #[error("{0}")]
    Schemaless(String),
    /// A record is unwrapped, and lacks what an archive needs.
    #[error("{0}")]
    Unwrapped(String),
    /// A record cannot be read, and the table's columns are others by now.
    #[error("the table's columns have changed: {0}")]
    Changed(String),
    /// Columns have other types than those that records were read by.
    #[error("the table has changed: {0}")]
    Retyped(String),
    /// `archive.partition_by` does not fit the table.
    #[error("archive.partition_by: {0}")]
    PartitionBy(String),
}

impl HasKind for JobError {
    fn kind(&self) -> Kind {
        match self {
            Self::Checkpoint(error) => error.kind(),
            Self::Call(error) => error.kind,
            Self::BadRecord(_) | Self::Unsafe(_) | Self::Changed(_) => Kind::Unsafe,
            Self::Cut | Self::BeforeTheEnd => Kind::Interrupted,
            Self::Columns(_) => Kind::Misconfigured,
            Self::Internal(_) => Kind::Internal,
        }
    }

    fn server(&self) -> Option<Server> {
        if let Self::Call(error) = self { error.server() } else { None }
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

    /// Goes on from what is durable, and works until `stop` is ready, the end has been read, or the partitions are
    /// revoked.
    ///
    /// # Errors
    /// What the run does not get over by itself.
    async fn work(&mut self, partitions: &[i32], stop: Pin<&mut impl Future<Output = ()>>) -> Result<Ended, JobError>;
}

/// How work on an assignment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was asked to.
    Stopped,
    /// Everything that was there at the start has been read.
    Read,
    /// The partitions were revoked.
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
        biased;
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
            Err(error) if error.kind() == Kind::Fenced && !until_end => {
                tracing::warn!(
                    %error,
                    "this instance can no longer be sure that it works for the group: it leaves, and starts again from what is durable once the group is free"
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
    let stopped = || if until_end { Err(JobError::BeforeTheEnd) } else { Ok(None) };
    let mut partly = false;
    loop {
        let event = tokio::select! {
            biased;
            () = &mut stop => return stopped(),
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
                    return stopped();
                }
                continue;
            }
        };
        let all = Retry::WORKING.run("asking for the topic's partitions", async || source.partitions().await).await?;
        if given.len() == all.len() && !all.is_empty() {
            return Ok(Some(given));
        }
        let ask = async || source.standing().await;
        let standing = Retry::WORKING.run("asking for the group's members", ask).await?;
        if standing == Standing::Alone {
            tracing::info!(
                group,
                given = given.len(),
                all = all.len(),
                "joining the group again, for partitions that were added"
            );
            if rejoin(source, stop.as_mut()).await? {
                return stopped();
            }
            continue;
        }
        if until_end && standing != Standing::WithLeftovers {
            return Err(JobError::Unsafe(format!(
                "group {group} has another active member: this one was given {} of {} partitions, and needs all of them; stop the other one, or use a group id of its own",
                given.len(),
                all.len()
            )));
        }
        // Of several that joined at once, the first stays and is given the rest when the others have gone.
        partly = standing != Standing::Behind;
        if standing != Standing::WithLeftovers {
            tracing::warn!(group, given = given.len(), all = all.len(), stays = partly, "the group has another member");
        }
        if !partly && rejoin(source, stop.as_mut()).await? {
            return stopped();
        }
    }
}

/// Leaves the group and joins it again once it is free. Whether it was stopped before that.
///
/// # Errors
/// The source cannot be re-created.
async fn rejoin<S: Source>(source: &mut S, mut stop: Pin<&mut impl Future<Output = ()>>) -> Result<bool, JobError> {
    tokio::select! {
        biased;
        () = &mut stop => Ok(true), // it can be asked only once
        joined = source.rejoin() => joined.map(|()| false).map_err(JobError::from),
    }
}

/// The id of a lineage that begins now.
pub fn new_lineage() -> String {
    fault::next_lineage().map_or_else(uuid::Uuid::now_v7, uuid::Uuid::from_u128).to_string()
}
