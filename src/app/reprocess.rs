//! Reads everything again under another group id, and compares the open alerts with those of the previous group.
//!
//! - this file: the command
//! - `dry_run`: the same without keeping anything
//! - [`difference`]: alerts that are open in only one of the groups, pure

pub mod difference;
mod dry_run;

use std::io::Write;
use std::time::Duration;

use self::difference::{Difference, open};
use super::progress::{GroupOffsets, topics_of};
use super::run::{self, Prepared};
use crate::checkpoint::FolderView;
use crate::config::Config;
use crate::failure::{CallError, Exit, Failure};
use crate::job::JobError;
use crate::kafka::Cluster;
use crate::kafka::records::OpenTransaction;
use crate::model::Timestamp;
use crate::monitor::counts::Counts;
use crate::progress::StartAt;
use crate::retry::Retry;
use crate::sink::kafka::recovery;
use crate::unit::recovery::RecoveryState;

/// How long to retry reading the recovery topic.
const PATIENCE: Duration = Duration::from_secs(30);

/// The request to reprocess.
#[derive(Debug)]
pub struct Reprocess {
    /// The configuration with the new group, from the beginning of the topics.
    config: Config,
    /// The previous group.
    pub old_group: String,
    dry_run: bool,
}

/// A request whose servers have been checked. Nothing has been created or joined yet.
pub struct Checked<'a> {
    /// The job.
    pub job: Prepared<'a>,
    /// The lanes of all topics.
    partitions: Vec<i32>,
}

/// The result.
#[derive(Debug)]
pub struct Compared {
    /// When the previous group last committed. `None` if nothing is known of that group.
    pub as_of: Option<Timestamp>,
    /// The counts of the run.
    pub counts: Counts,
    /// The differences between the open alerts of the groups.
    pub open: Difference,
}

impl Reprocess {
    /// Creates the request. `to` is the new group. `None`: the one that follows the configuration's group.
    ///
    /// # Errors
    /// There is no name for the new group.
    pub fn new(mut config: Config, to: Option<&str>, dry_run: bool) -> Result<Self, Failure> {
        let old_group = config.kafka.group_id.clone();
        config.kafka.group_id = target(&old_group, to).map_err(Failure::misconfigured)?;
        config.kafka.auto_offset_reset = StartAt::Earliest;
        Ok(Self { config, old_group, dry_run })
    }

    /// The new group.
    pub fn new_group(&self) -> &str {
        &self.config.kafka.group_id
    }

    /// Checks the servers, and that the new group is not used yet.
    ///
    /// # Errors
    /// A server cannot be reached or refuses, or the group has been used before.
    pub async fn prepare(&self) -> Result<Checked<'_>, Failure> {
        let job = run::prepare(&self.config, true).await?;
        let partitions = self.unused(&job.cluster).await?;
        Ok(Checked { job, partitions })
    }

    /// Reads everything. Writes alert lines to `lines`.
    ///
    /// # Errors
    /// An error that the run cannot recover from.
    pub async fn run(&self, checked: Checked<'_>, lines: impl Write + 'static) -> Result<Compared, Failure> {
        let Checked { job, partitions } = checked;
        let cluster = job.cluster.clone();
        let (counts, new) = if self.dry_run {
            dry_run::run(&self.config, job, partitions).await?
        } else {
            self.for_good(job, &cluster, lines).await?
        };
        let old = self.known(&cluster, &self.old_group).await?;
        let as_of = old.progress.as_ref().map(|progress| progress.at);
        Ok(Compared { as_of, counts, open: Difference::between(open(&old), open(&new)) })
    }

    /// Checks that nothing is known of the new group. Otherwise the run would continue that group's own progress, or
    /// lose it. Returns the topic's partitions.
    async fn unused(&self, cluster: &Cluster) -> Result<Vec<i32>, Failure> {
        let (config, group) = (&self.config, self.new_group());
        let mut has = Vec::new();
        if FolderView::of_group(&config.checkpoint.dir, group).map_err(JobError::from)?.is_some() {
            has.push(format!("a checkpoint folder, {}", config.checkpoint.dir.join(group).display()));
        }
        let topic = GroupOffsets::new(cluster.clone(), group, topics_of(config))?.topic_state().await?;
        if topic.partitions.iter().any(|state| state.committed.is_some()) {
            has.push("committed offsets".to_owned());
        }
        // Without folder and offsets a run would resume from here if it took the offsets for expired.
        if self.known(cluster, group).await?.progress.is_some() {
            has.push(format!("its progress on topic {}", config.checkpoint.episodes_topic));
        }
        if has.is_empty() {
            return Ok(topic.partitions.iter().map(|state| state.partition).collect());
        }
        Err(Failure::new(
            Exit::Protected,
            format!(
                "group {group} has been used before: it has {}; name another one with --to GROUP, or go on with this one: `tripline run` with kafka.group_id = \"{group}\"",
                has.join(", and ")
            ),
        ))
    }

    /// Runs as `tripline run --until-end` would. Afterwards the open alerts are read from Kafka.
    async fn for_good(
        &self,
        job: Prepared<'_>,
        cluster: &Cluster,
        lines: impl Write + 'static,
    ) -> Result<(Counts, RecoveryState), Failure> {
        let group = self.new_group();
        let begun = |mut failure: Failure| {
            if matches!(FolderView::of_group(&self.config.checkpoint.dir, group), Ok(Some(_))) {
                failure.message = format!(
                    "{}; group {group} has begun: `tripline run` with kafka.group_id = \"{group}\" goes on with it",
                    failure.message
                );
            }
            failure
        };
        let counts = job.work(lines).await.map_err(begun)?;
        let stopped = || Failure::new(Exit::Failed, "stopped before anything was done");
        Ok((counts.ok_or_else(stopped)?, self.known(cluster, group).await?))
    }

    /// Reads what the recovery topic has of a group.
    async fn known(&self, cluster: &Cluster, group: &str) -> Result<RecoveryState, CallError> {
        let topic = &self.config.checkpoint.episodes_topic;
        let read = async || recovery::read(cluster, topic, group, OpenTransaction::Wait).await;
        Retry::for_at_most(PATIENCE).run("reading the recovery topic", read).await
    }
}

/// Returns the group as which everything is read.
fn target(old: &str, to: Option<&str>) -> Result<String, String> {
    match to {
        Some(to) if to == old => Err(format!("--to {to} is the group of the configuration: name another one")),
        Some(to) => Ok(to.to_owned()),
        None => next_group(old).ok_or_else(|| {
            format!("which group comes after {old}, whose id does not end in -v and a number? Name it with --to GROUP")
        }),
    }
}

/// Returns `…-v4` for `…-v3`, with at least as many digits.
fn next_group(group: &str) -> Option<String> {
    let (stem, number) = group.rsplit_once("-v")?;
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let next = number.parse::<u64>().ok()?.checked_add(1)?;
    Some(format!("{stem}-v{next:0width$}", width = number.len()))
}

#[cfg(test)]
mod tests {
    use super::{next_group, target};

    #[test]
    fn the_group_after_a_group() {
        let check = |group: &str, want: Option<&str>| assert_eq!(next_group(group).as_deref(), want, "{group}");
        check("flink-monitor-group-v3", Some("flink-monitor-group-v4"));
        check("a-v9", Some("a-v10"));
        check("a-v09", Some("a-v10"));
        check("a-v007", Some("a-v008"));
        check("a-v1-v2", Some("a-v1-v3"));
        check("-v0", Some("-v1"));
        for none in ["a", "a-v", "av3", "a-v3b", "a-v+3", "a-v-3", "a-V3", "a-v3 ", "a-v18446744073709551615", ""] {
            check(none, None);
        }
    }

    #[test]
    fn the_group_to_be_is_another_one() {
        assert_eq!(target("a-v3", None), Ok("a-v4".to_owned()));
        assert_eq!(target("a-v3", Some("b")), Ok("b".to_owned()));
        assert!(target("a", None).is_err_and(|problem| problem.contains("--to GROUP")));
        assert!(target("a", Some("a")).is_err());
    }
}
