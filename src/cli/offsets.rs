//! `tripline offsets`: how far the group has come, by both layers of progress, and moving it by hand.
//!
//! - this file: the commands
//! - [`args`]: their arguments
//! - `kafka`: what the broker knows, and the commit; `look`: the checkpoint folder, read only
//! - `layers`: what the two layers say of each other; `plan`: what a reset does; `csv`; `report`; all of them pure

pub mod args;
mod csv;
mod kafka;
mod layers;
mod look;
mod plan;
mod report;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::args::{ExportArgs, OffsetsArgs, OffsetsCommand, ResetArgs, Target, ViewArgs};
use self::kafka::Kafka;
use self::layers::{Agreement, Checkpoint, Group, Partition};
use self::plan::Goal;
pub(super) use self::report::aligned;
use self::report::{Reset, View};
use super::failure::Failure;
use super::{Exit, Output};
use crate::checkpoint::{CheckpointError, Folder, Offsets};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config, OffsetReset};
use crate::job::JobError;
use crate::model::{NextOffset, Timestamp};
use crate::source::kafka::client_config;
use crate::telemetry;

/// How long a broker is waited for that is not there.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the coordinator holds a member for alive that has stopped without leaving, unless set otherwise.
const SESSION_TIMEOUT_MS: &str = "10000";

/// Shows, moves or writes down the group's offsets.
///
/// # Errors
/// A [`Failure`] that says how the process is to end.
pub async fn offsets(args: &OffsetsArgs) -> Result<(), Failure> {
    match (&args.command, &args.view) {
        (Some(OffsetsCommand::Reset(args)), _) => reset(args).await,
        (Some(OffsetsCommand::Export(args)), _) => export(args).await,
        (None, Some(args)) => view(args).await,
        (None, None) => Err(wrong("--config FILE is needed".to_owned())),
    }
}

/// The topic's partitions, and what the configuration's group has committed there.
pub(super) async fn committed(config: &Config) -> Result<(Vec<i32>, Offsets), Failure> {
    let partitions = Kafka::new(&config.kafka, &config.source.topic)?.partitions().await?;
    let committed = partitions.iter().filter_map(|found| Some((found.partition, found.group.as_ref()?.0))).collect();
    Ok((partitions.iter().map(|found| found.partition).collect(), committed))
}

/// What both layers say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// The group's active members.
    pub(super) members: Vec<String>,
    /// How the layers stand to each other: a name, and a sentence with what the next start does.
    pub(super) agreement: &'static str,
    pub(super) sentence: String,
    /// Where the next start cannot go on.
    pub(super) unreadable: Vec<String>,
    /// Records that are not read yet, and the age of the oldest one where that is known.
    pub(super) lag: i64,
    pub(super) seconds: Option<i64>,
    /// When the checkpoint's newest epoch was closed.
    pub(super) epoch_at: Option<Timestamp>,
}

/// Looks at both layers.
pub(super) async fn standing(config: &Config) -> Result<Standing, Failure> {
    let kafka = Kafka::new(&config.kafka, &config.source.topic)?;
    let Looked { partitions, checkpoint, group, agreement, next, ages, .. } = look_at(config, &kafka).await?;
    Ok(Standing {
        members: report::names(&group),
        agreement: agreement.name(),
        sentence: agreement.sentence(reset_name(config.kafka.auto_offset_reset)),
        unreadable: layers::unreadable(&next, &partitions),
        lag: partitions.iter().map(|partition| layers::lag(&next, partition)).sum(),
        seconds: ages.values().copied().flatten().max(),
        epoch_at: checkpoint.map(|checkpoint| checkpoint.at),
    })
}

/// Everything that there is to see of both layers.
struct Looked {
    partitions: Vec<Partition>,
    checkpoint: Option<Checkpoint>,
    group: Group,
    agreement: Agreement,
    /// Where the next start goes on.
    next: Offsets,
    /// The age of each partition's oldest unread record, where that is known.
    ages: BTreeMap<i32, Option<i64>>,
    /// As of when.
    now: Timestamp,
}

async fn look_at(config: &Config, kafka: &Kafka) -> Result<Looked, Failure> {
    let partitions = kafka.partitions().await?;
    // After the group's offsets, as a run writes the folder before it commits: else it could look older than it is.
    let checkpoint = look::look(&config.checkpoint.dir, &config.kafka.group_id).map_err(JobError::from)?;
    let group = kafka.group().await?;
    let agreement = Agreement::of(checkpoint.as_ref(), &partitions);
    let latest = config.kafka.auto_offset_reset == OffsetReset::Latest;
    let next = agreement.next(checkpoint.as_ref(), &partitions, latest);
    let timestamps = kafka.timestamps(layers::unread(&next, &partitions)).await?;
    let now = SystemClock::default().now();
    let ages = layers::seconds_since(&timestamps, now);
    Ok(Looked { partitions, checkpoint, group, agreement, next, ages, now })
}

fn reset_name(reset: OffsetReset) -> &'static str {
    match reset {
        OffsetReset::Earliest => "earliest",
        OffsetReset::Latest => "latest",
        OffsetReset::Time(_) => "a time",
    }
}

/// By partition: its number, its oldest offset, its end, and what the group has committed.
pub(super) async fn partitions(
    kafka: &config::Kafka,
    topic: &str,
) -> Result<Vec<(i32, NextOffset, NextOffset, Option<NextOffset>)>, Failure> {
    let found = Kafka::new(kafka, topic)?.partitions().await?;
    let row = |found: Partition| (found.partition, found.oldest, found.end, found.group.map(|(next, _)| next));
    Ok(found.into_iter().map(row).collect())
}

fn wrong(message: String) -> Failure {
    Failure::new(Exit::Misconfigured, message)
}

/// The configuration, and a cluster that answers and has the topic.
async fn open(file: &Path) -> Result<(Config, Kafka), Failure> {
    let config = config::load(file, config::process_environment()).map_err(|error| wrong(error.to_string()))?;
    telemetry::init(&config.log.level, config.log.format).map_err(wrong)?;
    let client = client_config(&config.kafka.bootstrap_servers, &config.kafka.properties);
    super::run::find_topic(
        &config.kafka,
        &config.source.topic,
        "source.topic",
        &client,
        PATIENCE.min(config.startup_wait),
        true,
    )
    .await?;
    let kafka = Kafka::new(&config.kafka, &config.source.topic)?;
    Ok((config, kafka))
}

async fn view(args: &ViewArgs) -> Result<(), Failure> {
    let (config, kafka) = open(&args.config).await?;
    let Looked { partitions, checkpoint, group, agreement, next, ages, now } = look_at(&config, &kafka).await?;
    if let Some((partition, _)) = ages.iter().find(|(_, age)| age.is_none()) {
        tracing::warn!(partition, "the oldest unread record could not be read in time: its age is not known");
    }
    let view = View {
        group_id: &config.kafka.group_id,
        topic: &config.source.topic,
        folder: &folder(&config).display().to_string(),
        reset: reset_name(config.kafka.auto_offset_reset),
        group: &group,
        checkpoint: checkpoint.as_ref(),
        partitions: &partitions,
        agreement: &agreement,
        next: &next,
        ages: &ages,
        now,
    };
    print(&match args.output {
        Output::Table => view.table(),
        Output::Json => vec![view.json().to_string()],
    })
}

fn folder(config: &Config) -> PathBuf {
    config.checkpoint.dir.join(&config.kafka.group_id)
}

async fn reset(args: &ResetArgs) -> Result<(), Failure> {
    let (config, kafka) = open(&args.config).await?;
    let now = SystemClock::default().now();
    let partitions = kafka.partitions().await?;
    let goal = match args.target.target(now) {
        Target::Earliest => Goal::Earliest,
        Target::Latest => Goal::Latest,
        Target::Offset(next) => Goal::Offset(next),
        Target::Shift(by) => Goal::Shift(by),
        Target::At(at) => Goal::Each(since(&kafka, at, &partitions, &args.partition).await?),
        Target::File(file) => Goal::Each(read(&file, &config.source.topic)?),
    };
    let topic = &config.source.topic;
    let plan =
        plan::plan(&partitions, &args.partition, &goal).map_err(|problem| wrong(format!("{topic}: {problem}")))?;
    let group = kafka.group().await?;
    let active = check_inactive(&config, &group);
    let mut kept = None;
    if args.execute {
        active?;
        // Held until the group has been moved: no run on this folder starts meanwhile. One on another machine is a
        // member by then, and the broker refuses the commit.
        let _lock = lock(&config)?;
        kept = keep(args, &config, &partitions, now)?;
        kafka.commit(&plan::offsets(&plan)).await?;
    } else if let Err(failure) = active {
        tracing::warn!("with --execute this would be refused now: {}", failure.message);
    }
    let shown = Reset {
        group_id: &config.kafka.group_id,
        topic,
        group: &group,
        plan: &plan,
        executed: args.execute,
        kept: kept.as_ref().map(|(file, undo)| (file.as_str(), undo.as_str())),
    };
    print(&match args.output {
        Output::Table => shown.table(),
        Output::Json => vec![shown.json().to_string()],
    })?;
    let partly = plan.iter().any(|one| !one.chosen);
    tell(&format!(
        "The next run of group {} begins a new lineage there{}: alerts that still hold are told again, under new ids.",
        config.kafka.group_id,
        if partly { ", in the partitions that stay as well" } else { "" },
    ));
    match (&kept, args.execute) {
        (_, false) => tell("Nothing was changed; --execute does it."),
        (Some((file, undo)), true) => {
            tell(&format!(
                "Done. The offsets of before are in {file}; this puts them back, as a new lineage:\n  {undo}"
            ));
        }
        (None, true) => tell(
            "Done. The group had no offsets before, so none were written down; to undo it, delete the group with kafka-consumer-groups --delete.",
        ),
    }
    Ok(())
}

/// Offsets of an instant, in the chosen partitions that there are.
async fn since(kafka: &Kafka, at: Timestamp, partitions: &[Partition], chosen: &[i32]) -> Result<Offsets, Failure> {
    let mut offsets = kafka.since(at, partitions).await?;
    offsets.retain(|partition, _| chosen.is_empty() || chosen.contains(partition));
    Ok(offsets)
}

fn read(file: &Path, topic: &str) -> Result<Offsets, Failure> {
    let named = |problem: String| wrong(format!("--from-file {}: {problem}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| named(error.to_string()))?;
    csv::read(topic, &text).map_err(named)
}

/// Only a group without active members can be moved.
fn check_inactive(config: &Config, group: &Group) -> Result<(), Failure> {
    let names = report::names(group);
    if names.is_empty() {
        return Ok(());
    }
    let timeout = config.kafka.properties.get("session.timeout.ms").map_or(SESSION_TIMEOUT_MS, String::as_str);
    Err(Failure::new(
        Exit::Protected,
        format!(
            "group {} has an active member: {}; stop it first. One that was stopped counts as active until its session times out ({timeout} ms)",
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

/// Writes the present offsets down; the file, and the command that puts them back. `None` where there are none.
fn keep(
    args: &ResetArgs,
    config: &Config,
    partitions: &[Partition],
    now: Timestamp,
) -> Result<Option<(String, String)>, Failure> {
    let offsets = present(partitions);
    if offsets.is_empty() {
        return Ok(None);
    }
    let file = args.export.clone().unwrap_or_else(|| {
        let compact: String = now.rfc3339().chars().filter(|c| !matches!(c, '-' | ':')).collect();
        folder(config).join(format!("reset-{compact}.csv"))
    });
    write(&file, &csv::write(&config.source.topic, &offsets))?;
    let [config, name] = [&args.config, &file].map(|path| quoted(&path.display().to_string()));
    let undo = format!("tripline offsets reset --config {config} --from-file {name} --execute");
    Ok(Some((file.display().to_string(), undo)))
}

/// The group's present offsets, with a word on those that it does not have.
fn present(partitions: &[Partition]) -> Offsets {
    let (offsets, without) = plan::present(partitions);
    for partition in without {
        tracing::warn!(
            partition,
            "the group has no offset there: its oldest one is written, where a start would read it"
        );
    }
    offsets
}

async fn export(args: &ExportArgs) -> Result<(), Failure> {
    let (config, kafka) = open(&args.config).await?;
    let offsets = present(&kafka.partitions().await?);
    if offsets.is_empty() {
        tracing::warn!(group = config.kafka.group_id, servers = kafka.servers(), "the group has no offsets");
    }
    let text = csv::write(&config.source.topic, &offsets);
    match &args.file {
        Some(file) => write(file, &text),
        None => print(&text.lines().map(str::to_owned).collect::<Vec<_>>()),
    }
}

/// Writes a file that is not there yet, durably.
fn write(file: &Path, text: &str) -> Result<(), Failure> {
    let written = || -> io::Result<()> {
        let mut out = OpenOptions::new().write(true).create_new(true).open(file)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()
    };
    written().map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => wrong(format!("{} is there already: choose another name", file.display())),
        _ => Failure::new(Exit::Failed, format!("cannot write {}: {error}", file.display())),
    })
}

/// A word of a shell command.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%:,=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Data, to standard output.
pub(super) fn print(lines: &[String]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = lines.iter().try_for_each(|line| writeln!(out, "{line}")).and_then(|()| out.flush());
    match written {
        // Whoever read has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| Failure::new(Exit::Failed, format!("standard output: {error}"))),
    }
}

/// A word to people, to standard error: the log's level does not silence it.
pub(super) fn tell(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_for_a_shell() {
        let check = |word: &str, want: &str| assert_eq!(quoted(word), want);
        check("checkpoints/g/reset-20261122T100000Z.csv", "checkpoints/g/reset-20261122T100000Z.csv");
        check("my file", "'my file'");
        check("it's", r"'it'\''s'");
        check("", "''");
    }
}
