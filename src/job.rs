//! The common part of the jobs: joining a group, handling one assignment of partitions after the other, and ending a
//! run.
//!
//! - this file: the assignments
//! - [`start`]: where an assignment continues
//! - [`gauge`]: a run's progress, for a progress bar

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

/// How long the last epoch may take after a stop. Abandoning it is as safe as a crash.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// How long a member with only some of the partitions waits for the others before it joins again. Longer than the
/// session of a member that has died.
const PARTLY_MAX: Duration = Duration::from_secs(20);

/// Why a run ended before it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The checkpoint folder.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Kafka, Postgres, or a sink that rejects for good.
    #[error(transparent)]
    Call(#[from] CallError),
    /// `on_bad_record = "stop"`.
    #[error(transparent)]
    BadRecord(#[from] BadRecord),
    /// Continuing would lose or repeat something.
    #[error("{0}")]
    Unsafe(String),
    /// The table or its server has changed since the job was prepared.
    #[error("the table or its server has changed: {}", .0.join(", "))]
    Changed(Vec<String>),
    /// The run was asked to stop while a sink was unreachable.
    #[error("stopped before everything was delivered: what was logged is delivered at the next start")]
    Cut,
    /// The run was asked to stop before the end that it was to reach.
    #[error("stopped before the end was reached; the next run goes on from here")]
    BeforeTheEnd,
    /// The columns of records are not known, or differ from the settings.
    #[error(transparent)]
    Columns(#[from] ColumnsError),
    /// A rule or a stored state does not fit.
    #[error("{0}")]
    Internal(String),
}

/// Why the rows of a topic cannot be read, although the records are valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ColumnsError {
    /// A record has an unknown column.
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
    /// A record is unwrapped, and lacks fields that the archive needs.
    #[error("{0}")]
    Unwrapped(String),
    /// A record cannot be read, and the table's columns have changed since.
    #[error("the table's columns have changed: {0}")]
    Changed(String),
    /// Columns have other types than those by which records were decoded.
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

/// The work of a job while it has the partitions of its topic.
pub(crate) trait Job {
    /// The source of the changes.
    type Source: Source;

    /// Returns the source of the changes.
    fn source(&mut self) -> &mut Self::Source;

    /// The consumer group.
    fn group(&self) -> String;

    /// Whether the job ends after all records that existed at the start have been read.
    fn until_end(&self) -> bool;

    /// Called while the job has no partitions.
    fn joins(&mut self) {}

    /// Continues from the durable state, and works until `stop` is ready, the end has been read, or the partitions are
    /// revoked.
    ///
    /// # Errors
    /// Errors that the job cannot recover from.
    async fn work(&mut self, partitions: &[i32], stop: Pin<&mut impl Future<Output = ()>>) -> Result<Ended, JobError>;
}

/// How work on an assignment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The job was asked to stop.
    Stopped,
    /// All records that existed at the start have been read.
    Read,
    /// The partitions were revoked.
    Revoked,
}

/// Runs a job until `stop` is ready, or until the end: one assignment of the partitions after the other.
///
/// # Errors
/// Errors that the job cannot recover from. [`JobError::Cut`] if it does not end in time after `stop`.
/// [`JobError::BeforeTheEnd`] if `stop` came before the end that it was to reach.
pub(crate) async fn run(job: &mut impl Job, stop: impl Future<Output = ()>) -> Result<(), JobError> {
    let stop = stop.shared();
    let hard_limit = stop.clone().then(|()| tokio::time::sleep(STOP_GRACE));
    tokio::select! {
        biased;
        ended = run_until(job, stop) => ended,
        () = hard_limit => Err(JobError::Cut),
    }
}

/// `stop` may become ready at any place and is polled again after that. So each step has a copy of its own.
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

/// Waits until the group assigns all partitions of the topic to this member. `None`: stopped before that. For a run
/// that has to reach the end, this is an error.
///
/// # Errors
/// The run was stopped with `until_end`, another member has some of the partitions with `until_end`, or the source
/// fails.
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
            // The broker's assignment to this member may be older than the topic's newest partitions.
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
        // If several members joined at once, the first remains and is assigned the rest after the others have left.
        partly = standing != Standing::Behind;
        if standing != Standing::WithLeftovers {
            tracing::warn!(group, given = given.len(), all = all.len(), stays = partly, "the group has another member");
        }
        if !partly && rejoin(source, stop.as_mut()).await? {
            return stopped();
        }
    }
}

/// Leaves the group and joins it again after it is free. Returns whether the run was stopped before that.
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

/// Makes the id of a new lineage.
pub fn new_lineage() -> String {
    fault::next_lineage().map_or_else(uuid::Uuid::now_v7, uuid::Uuid::from_u128).to_string()
}
