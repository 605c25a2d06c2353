//! Moving the group manually, and saving its offsets.
//!
//! - this file: the commands
//! - [`plan`]: the effect of a reset on each partition, pure
//! - [`csv`]: offsets in the format of Kafka's own tool, pure

pub mod csv;
pub mod plan;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::progress::{GroupOffsets, folder, topics_of};
use super::run::setting_of;
use super::servers::{MissingTopic, wait_for_topic};
use crate::checkpoint::{CheckpointError, Folder};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::job::JobError;
use crate::model::{NextOffset, Timestamp};
use crate::progress::group::GroupState;
use crate::progress::topics::partition_of;
use crate::progress::{Offsets, TopicState, Topics};
use plan::{Goal, Move};

/// How long to wait for a broker that cannot be reached.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the coordinator counts a member that stopped without leaving as active, unless the setting differs.
const SESSION_TIMEOUT_MS: &str = "10000";

/// Where to move a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To the oldest record that the topic still has.
    Earliest,
    /// After the newest record.
    Latest,
    /// To this offset.
    Offset(NextOffset),
    /// To the first record that is not older than this.
    At(Timestamp),
    /// By this many records.
    Shift(i64),
    /// To the offsets in this file.
    File(PathBuf),
}

/// The request for a reset.
#[derive(Clone, Debug)]
pub struct ResetRequest {
    /// Where to move the group.
    pub target: Target,
    /// The topics to move. Empty: all of them.
    pub topics: Vec<String>,
    /// The partitions to move. Empty: all of them.
    pub partitions: Vec<i32>,
    /// The file for the previous offsets. `None`: a file in the checkpoint folder.
    pub export: Option<PathBuf>,
    /// Whether to move the group, or only to show the effect.
    pub execute: bool,
}

/// The effect of a reset.
#[derive(Clone, Debug)]
pub struct Reset {
    /// The topics that the group reads.
    pub topics: Topics,
    /// The group's state and members.
    pub group: GroupState,
    /// The effect on each partition.
    pub moves: Vec<Move>,
    /// The file with the previous offsets, if the group had any and was moved.
    pub saved: Option<PathBuf>,
    /// Why the reset would be refused, if it was only shown.
    pub refused: Option<String>,
}

/// Waits for the topics of a configuration. Returns access to the group's offsets.
///
/// # Errors
/// A topic does not exist, or the cluster does not answer, or refuses.
pub async fn open(config: &Config) -> Result<GroupOffsets, Failure> {
    let cluster = super::servers::cluster(&config.kafka);
    let patience = PATIENCE.min(config.startup_wait);
    let missing = MissingTopic::Fail(Duration::ZERO);
    for source in &config.sources {
        wait_for_topic(&cluster, &source.topic, setting_of(config), patience, missing).await?;
    }
    GroupOffsets::new(cluster, &config.kafka.group_id, topics_of(config))
}

/// Moves the group, or shows the effect of doing so.
///
/// # Errors
/// The target does not fit the topic, the group has an active member, or a server does not answer.
pub async fn reset(config: &Config, request: &ResetRequest) -> Result<Reset, Failure> {
    let offsets = open(config).await?;
    let now = SystemClock::default().now();
    let topic = offsets.topic_state().await?;
    let topics = offsets.topics.clone();
    let chosen = chosen(request, &topics, &topic).map_err(Failure::misconfigured)?;
    let goal = match &request.target {
        Target::Earliest => Goal::Earliest,
        Target::Latest => Goal::Latest,
        Target::Offset(next) => Goal::Offset(*next),
        Target::Shift(by) => Goal::Shift(*by),
        Target::At(at) => {
            let all: Vec<i32> = topic.partitions.iter().map(|state| state.partition).collect();
            let mut since = offsets.since(*at, &all).await?;
            since.retain(|lane, _| chosen.is_empty() || chosen.contains(lane));
            Goal::Each(since)
        }
        Target::File(file) => Goal::Each(read(file, &topics)?),
    };
    let moves = plan::plan(&topic.partitions, &chosen, &goal)
        .map_err(|problem| Failure::misconfigured(format!("{}: {problem}", topics.text())))?;
    let group = offsets.group_state().await?;
    let inactive = check_inactive(config, &group);
    let mut saved = None;
    if request.execute {
        inactive?;
        // The lock is held until the group has been moved, so that no run on this folder starts meanwhile. A run on
        // another machine is a member by then, and the broker rejects the commit.
        let _lock = lock(config)?;
        saved = save(config, request.export.as_deref(), (&topics, &topic), now)?;
        offsets.commit(&plan::offsets(&moves)).await?;
        return Ok(Reset { topics, group, moves, saved, refused: None });
    }
    Ok(Reset { topics, group, moves, saved, refused: inactive.err().map(|failure| failure.message) })
}

/// Returns the group's current offsets as CSV.
///
/// # Errors
/// A server does not answer.
pub async fn export(config: &Config) -> Result<String, Failure> {
    let offsets = open(config).await?;
    let present = present(&offsets.topics, &offsets.topic_state().await?);
    if present.is_empty() {
        tracing::warn!(group = config.kafka.group_id, "the group has no offsets");
    }
    Ok(csv::write(&offsets.topics, &present))
}

/// Returns the requested lanes. Empty: all of them.
fn chosen(request: &ResetRequest, topics: &Topics, state: &TopicState) -> Result<Vec<i32>, String> {
    let names: Vec<&str> = topics.read().map(|(_, name)| name).collect();
    if let Some(other) = request.topics.iter().find(|topic| !names.contains(&topic.as_str())) {
        return Err(format!("--topic {other} is not read; the topics are {}", names.join(", ")));
    }
    if request.partitions.is_empty() && request.topics.is_empty() {
        return Ok(Vec::new());
    }
    let of_topics: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| request.topics.is_empty() || request.topics.iter().any(|t| t == name))
        .collect();
    if !request.partitions.is_empty() && of_topics.len() > 1 {
        return Err(format!(
            "--partition is of one topic: say which with --topic; the topics are {}",
            names.join(", ")
        ));
    }
    let there = |lane: &i32| of_topics.contains(&topics.name(*lane));
    let lanes: Vec<i32> = state.partitions.iter().map(|state| state.partition).filter(there).collect();
    if let Some(missing) = request.partitions.iter().find(|p| !lanes.iter().any(|lane| partition_of(*lane) == **p)) {
        let there: Vec<String> = lanes.iter().map(|lane| partition_of(*lane).to_string()).collect();
        return Err(format!(
            "{}: there is no partition {missing}; the topic has {}",
            of_topics.join(", "),
            there.join(", ")
        ));
    }
    let is_chosen = |lane: &i32| request.partitions.is_empty() || request.partitions.contains(&partition_of(*lane));
    Ok(lanes.into_iter().filter(is_chosen).collect())
}

fn read(file: &Path, topics: &Topics) -> Result<Offsets, Failure> {
    let named = |problem: String| Failure::misconfigured(format!("--from-file {}: {problem}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| named(error.to_string()))?;
    csv::read(topics, &text).map_err(named)
}

/// Fails if the group has active members, since it cannot be moved then.
fn check_inactive(config: &Config, group: &GroupState) -> Result<(), Failure> {
    if group.members.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = group.members.iter().map(ToString::to_string).collect();
    let timeout = config.kafka.properties.get("session.timeout.ms").map_or(SESSION_TIMEOUT_MS, String::as_str);
    Err(Failure::new(
        Exit::Protected,
        format!(
            "group {} has an active member: {}; stop it first. A member that was stopped counts as active until its session times out ({timeout} ms)",
            config.kafka.group_id,
            names.join(", ")
        ),
    ))
}

/// Takes the lock of the folder, which a running process holds.
fn lock(config: &Config) -> Result<Folder, Failure> {
    Folder::open(&config.checkpoint.dir, &config.kafka.group_id).map_err(|error| match error {
        CheckpointError::Locked(path) => Failure::new(
            Exit::Protected,
            format!("checkpoint folder {} is in use by another process: stop that one first", path.display()),
        ),
        other => JobError::from(other).into(),
    })
}

/// Writes the current offsets to a file. `None` if there are none.
fn save(
    config: &Config,
    export: Option<&Path>,
    (topics, topic): (&Topics, &TopicState),
    now: Timestamp,
) -> Result<Option<PathBuf>, Failure> {
    let offsets = present(topics, topic);
    if offsets.is_empty() {
        return Ok(None);
    }
    let file = export.map_or_else(
        || {
            let compact: String = now.rfc3339().chars().filter(|c| !matches!(c, '-' | ':')).collect();
            folder(config).join(format!("reset-{compact}.csv"))
        },
        Path::to_owned,
    );
    write_new(&file, &csv::write(topics, &offsets))?;
    Ok(Some(file))
}

/// Returns the group's current offsets. Logs a warning for partitions without one.
fn present(topics: &Topics, topic: &TopicState) -> Offsets {
    let (offsets, without) = plan::present(&topic.partitions);
    for lane in without {
        tracing::warn!(
            topic = topics.name(lane),
            partition = partition_of(lane),
            "the group has no offset in this partition: its oldest offset is written, where a start would read it"
        );
    }
    offsets
}

/// Creates a file, which must not exist, and makes it durable.
///
/// # Errors
/// The file exists, or the file system refuses.
pub fn write_new(file: &Path, text: &str) -> Result<(), Failure> {
    let written = || -> io::Result<()> {
        let mut out = OpenOptions::new().write(true).create_new(true).open(file)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()
    };
    written().map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::misconfigured(format!("{} exists already: choose another name", file.display()))
        }
        _ => Failure::new(Exit::Failed, format!("cannot write {}: {error}", file.display())),
    })
}
