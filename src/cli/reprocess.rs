//! `tripline reprocess`: everything read once more under another group id, and what is open then held against the group
//! of before.
//!
//! - this file: the command
//! - `shadow`: the same, and nothing of it stays
//! - `difference`: what is open in one group and not in the other, pure

mod difference;
mod shadow;

use std::sync::Arc;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio::time::Instant;

use self::difference::{Difference, Report};
use super::bar::Bar;
use super::failure::Failure;
use super::run::{Job, configured};
use super::{Exit, Output, ReprocessArgs, offsets};
use crate::checkpoint::Folder;
use crate::config::{Config, OffsetReset};
use crate::job::JobError;
use crate::sink::kafka::backup;
use crate::unit::Counts;
use crate::unit::backup::Backup;

/// How long the topic of episodes is tried to be read.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);
/// How long one request for metadata may take.
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads everything again as a new group, and compares the open episodes with those of the old one.
///
/// # Errors
/// A [`Failure`] that says how the process is to end.
pub async fn reprocess(args: &ReprocessArgs) -> Result<(), Failure> {
    let mut config = configured(&args.config)?;
    let old_group = config.kafka.group_id.clone();
    let new_group = target(&old_group, args.to.as_deref()).map_err(|e| Failure::new(Exit::Misconfigured, e))?;
    config.kafka.group_id.clone_from(&new_group);
    config.kafka.auto_offset_reset = OffsetReset::Earliest;
    let job = Job::check(&config, true).await?;
    let client = job.client.clone();
    let partitions = unused(&config, &client).await?;

    let bar = Bar::start(Arc::clone(&job.gauge), "reprocessing", false);
    let ended =
        if args.shadow { shadow::run(&config, job, partitions).await } else { for_good(&config, job, &client).await };
    bar.end().await;
    let (counts, new) = ended?;
    let old = known(&config, &client, &old_group).await?;
    let as_of = old.progress.as_ref().map(|progress| progress.at);
    let report = Report {
        old_group: &old_group,
        new_group: &new_group,
        shadow: args.shadow,
        as_of,
        counts: &counts,
        open: &Difference::between(difference::open(&old), difference::open(&new)),
    };
    offsets::print(&match args.output {
        Output::Table => report.table(),
        Output::Json => vec![report.json().to_string()],
    })?;
    if as_of.is_none() {
        offsets::tell(&format!(
            "Kafka has no record of the episodes of group {old_group} (checkpoint.episodes_topic): all that is open counts as new."
        ));
    }
    offsets::tell(&if args.shadow {
        format!("A shadow: nothing was sent, and nothing of group {new_group} is kept.")
    } else {
        format!(
            "Group {new_group} has read everything. To go on with it, stop the run of {old_group}, set kafka.group_id = \"{new_group}\" and start `tripline run`: it reads only what is new."
        )
    });
    Ok(())
}

/// The group that everything is read as.
fn target(old: &str, to: Option<&str>) -> Result<String, String> {
    match to {
        Some(to) if to == old => Err(format!("--to {to} is the group of the configuration: name another one")),
        Some(to) => Ok(to.to_owned()),
        None => next_group(old).ok_or_else(|| {
            format!("which group comes after {old}, whose id does not end in -v and a number? Name it with --to GROUP")
        }),
    }
}

/// `…-v4` after `…-v3`; as many digits at least.
fn next_group(group: &str) -> Option<String> {
    let (stem, number) = group.rsplit_once("-v")?;
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let next = number.parse::<u64>().ok()?.checked_add(1)?;
    Some(format!("{stem}-v{next:0width$}", width = number.len()))
}

/// Nothing may be known of the group; else its own progress would be gone on with, or lost. Returns the topic's
/// partitions.
async fn unused(config: &Config, client: &ClientConfig) -> Result<Vec<i32>, Failure> {
    let group = &config.kafka.group_id;
    let mut has = Vec::new();
    if Folder::look(&config.checkpoint.dir, group).map_err(JobError::from)?.is_some() {
        has.push(format!("a checkpoint folder, {}", config.checkpoint.dir.join(group).display()));
    }
    let (partitions, committed) = offsets::committed(config).await?;
    if !committed.is_empty() {
        has.push("committed offsets".to_owned());
    }
    // Without folder and offsets a run would go on from here, if it took the offsets for expired.
    if known(config, client, group).await?.progress.is_some() {
        has.push(format!("its progress on topic {}", config.checkpoint.episodes_topic));
    }
    if has.is_empty() {
        return Ok(partitions);
    }
    Err(Failure::new(
        Exit::Protected,
        format!(
            "group {group} has been used before: it has {}; name another one with --to GROUP, or go on with this one: `tripline run` with kafka.group_id = \"{group}\"",
            has.join(", and ")
        ),
    ))
}

/// As `tripline run --until-end` would. What is open then is read back from Kafka.
async fn for_good(config: &Config, job: Job<'_>, client: &ClientConfig) -> Result<(Counts, Backup), Failure> {
    let group = &config.kafka.group_id;
    let begun = |mut failure: Failure| {
        if matches!(Folder::look(&config.checkpoint.dir, group), Ok(Some(_))) {
            failure.message = format!(
                "{}; group {group} has begun: `tripline run` with kafka.group_id = \"{group}\" goes on with it",
                failure.message
            );
        }
        failure
    };
    // Standard output is for the difference.
    let counts = job.work(super::bar::lines()).await.map_err(begun)?;
    let stopped = || Failure::new(Exit::Failed, "stopped before anything was done");
    Ok((counts.ok_or_else(stopped)?, known(config, client, group).await?))
}

/// What Kafka knows of a group.
async fn known(config: &Config, client: &ClientConfig, group: &str) -> Result<Backup, Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (client, topic, group) = (client.clone(), config.checkpoint.episodes_topic.clone(), group.to_owned());
        let read = tokio::task::spawn_blocking(move || read(&client, &topic, &group)).await;
        let problem = match read {
            Ok(Ok(backup)) => return Ok(backup),
            Ok(Err(problem)) => problem,
            Err(error) => error.to_string(),
        };
        if Instant::now() >= deadline {
            let servers = &config.kafka.bootstrap_servers;
            return Err(Failure::new(Exit::Unreachable, format!("Kafka at {servers}: {problem}")));
        }
        tracing::warn!(problem, "reading the topic of episodes, again");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Blocks. A topic that does not exist knows nothing, and is not made.
fn read(client: &ClientConfig, topic: &str, group: &str) -> Result<Backup, String> {
    let consumer: BaseConsumer = client.create().map_err(|error| error.to_string())?;
    let metadata = consumer.fetch_metadata(Some(topic), METADATA_TIMEOUT).map_err(|error| error.to_string())?;
    if metadata.topics().iter().all(|found| found.name() != topic || found.partitions().is_empty()) {
        return Ok(Backup::default());
    }
    backup::read(client, topic, group)
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
