//! Moving the group by hand, and writing its offsets down.
//!
//! - this file: what the commands do
//! - [`plan`]: what a reset does to each partition, pure
//! - [`csv`]: offsets as Kafka's own tool reads and writes them, pure

pub mod csv;
pub mod plan;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::progress::{GroupOffsets, folder};
use super::servers::{MissingTopic, wait_for_topic};
use crate::checkpoint::{CheckpointError, Folder};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::job::JobError;
use crate::model::{NextOffset, Timestamp};
use crate::progress::group::GroupState;
use crate::progress::{Offsets, TopicState};
use plan::{Goal, Move};

/// How long a broker is waited for that cannot be reached.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the coordinator counts a member as active that has stopped without leaving, unless set otherwise.
const SESSION_TIMEOUT_MS: &str = "10000";

/// Where a group is to be moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To the oldest record that the topic still has.
    Earliest,
    /// Past the newest record.
    Latest,
    /// To this offset.
    Offset(NextOffset),
    /// To the first record that is not older.
    At(Timestamp),
    /// By this many records.
    Shift(i64),
    /// To the offsets in this file.
    File(PathBuf),
}

/// A reset that is asked for.
#[derive(Clone, Debug)]
pub struct ResetRequest {
    /// Where to.
    pub target: Target,
    /// Only these partitions; all of them where it is empty.
    pub partitions: Vec<i32>,
    /// Where the present offsets are written; by default into the checkpoint folder.
    pub export: Option<PathBuf>,
    /// Do it, rather than show it.
    pub execute: bool,
}

/// What a reset does, or has done.
#[derive(Clone, Debug)]
pub struct Reset {
    /// The group's state and members.
    pub group: GroupState,
    /// What becomes of each partition.
    pub moves: Vec<Move>,
    /// Where the previous offsets were written, if the group had any and was moved.
    pub saved: Option<PathBuf>,
    /// Why it would be refused, where it was only shown.
    pub refused: Option<String>,
}

/// The topic exists, and the cluster answers.
///
/// # Errors
/// It does not, or refuses.
pub async fn open(config: &Config) -> Result<GroupOffsets, Failure> {
    let cluster = super::servers::cluster(&config.kafka);
    let patience = PATIENCE.min(config.startup_wait);
    let missing = MissingTopic::Fail(Duration::ZERO);
    wait_for_topic(&cluster, &config.source.topic, "source.topic", patience, missing).await?;
    GroupOffsets::new(cluster, &config.kafka.group_id, &config.source.topic)
}

/// Moves the group, or shows what that would do.
///
/// # Errors
/// The target does not fit the topic, the group has an active member, or a server does not answer.
pub async fn reset(config: &Config, request: &ResetRequest) -> Result<Reset, Failure> {
    let offsets = open(config).await?;
    let now = SystemClock::default().now();
    let topic = offsets.topic_state().await?;
    let goal = match &request.target {
        Target::Earliest => Goal::Earliest,
        Target::Latest => Goal::Latest,
        Target::Offset(next) => Goal::Offset(*next),
        Target::Shift(by) => Goal::Shift(*by),
        Target::At(at) => {
            let all: Vec<i32> = topic.partitions.iter().map(|state| state.partition).collect();
            let mut since = offsets.since(*at, &all).await?;
            since.retain(|partition, _| request.partitions.is_empty() || request.partitions.contains(partition));
            Goal::Each(since)
        }
        Target::File(file) => Goal::Each(read(file, &config.source.topic)?),
    };
    let moves = plan::plan(&topic.partitions, &request.partitions, &goal)
        .map_err(|problem| Failure::misconfigured(format!("{}: {problem}", config.source.topic)))?;
    let group = offsets.group_state().await?;
    let inactive = check_inactive(config, &group);
    let mut saved = None;
    if request.execute {
        inactive?;
        // Held until the group has been moved: no run on this folder starts meanwhile. One on another machine is a
        // member by then, and the broker refuses the commit.
        let _lock = lock(config)?;
        saved = save(config, request.export.as_deref(), &topic, now)?;
        offsets.commit(&plan::offsets(&moves)).await?;
        return Ok(Reset { group, moves, saved, refused: None });
    }
    Ok(Reset { group, moves, saved, refused: inactive.err().map(|failure| failure.message) })
}

/// The group's present offsets as CSV.
///
/// # Errors
/// A server does not answer.
pub async fn export(config: &Config) -> Result<String, Failure> {
    let present = present(&open(config).await?.topic_state().await?);
    if present.is_empty() {
        tracing::warn!(group = config.kafka.group_id, "the group has no offsets");
    }
    Ok(csv::write(&config.source.topic, &present))
}

fn read(file: &Path, topic: &str) -> Result<Offsets, Failure> {
    let named = |problem: String| Failure::misconfigured(format!("--from-file {}: {problem}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| named(error.to_string()))?;
    csv::read(topic, &text).map_err(named)
}

/// Only a group without active members can be moved.
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

/// The lock of the folder, which a running process holds.
fn lock(config: &Config) -> Result<Folder, Failure> {
    Folder::open(&config.checkpoint.dir, &config.kafka.group_id).map_err(|error| match error {
        CheckpointError::Locked(path) => Failure::new(
            Exit::Protected,
            format!("checkpoint folder {} is in use by another process: stop that one first", path.display()),
        ),
        other => JobError::from(other).into(),
    })
}

/// Writes the present offsets to a file. `None` where there are none.
fn save(
    config: &Config,
    export: Option<&Path>,
    topic: &TopicState,
    now: Timestamp,
) -> Result<Option<PathBuf>, Failure> {
    let offsets = present(topic);
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
    write_new(&file, &csv::write(&config.source.topic, &offsets))?;
    Ok(Some(file))
}

/// The group's present offsets, with a warning for those that it does not have.
fn present(topic: &TopicState) -> Offsets {
    let (offsets, without) = plan::present(&topic.partitions);
    for partition in without {
        tracing::warn!(
            partition,
            "the group has no offset in this partition: its oldest offset is written, where a start would read it"
        );
    }
    offsets
}

/// Writes a file that does not exist yet, durably.
///
/// # Errors
/// It exists, or the file system refuses.
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
