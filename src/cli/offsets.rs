//! `tripline offsets`: shows and resets the offsets of the group and the checkpoint.
//!
//! - this file: the commands
//! - [`args`]: their arguments
//! - `report`: the output, pure

pub mod args;
mod report;

use std::path::Path;

use self::args::{ExportArgs, OffsetsArgs, OffsetsCommand, ResetArgs, ViewArgs};
use self::report::{ResetReport, ViewReport};
use super::Output;
use super::terminal::{note, print};
use crate::app::offsets::{self, ResetRequest};
use crate::app::{self, progress};
use crate::clock::{Clock, SystemClock};
use crate::failure::Failure;
use crate::progress::topics::partition_of;

/// Shows, moves or exports the group's offsets.
///
/// # Errors
/// A [`Failure`] that says how the process is to end.
pub async fn offsets(args: &OffsetsArgs) -> Result<(), Failure> {
    match (&args.command, &args.view) {
        (Some(OffsetsCommand::Reset(args)), _) => reset(args).await,
        (Some(OffsetsCommand::Export(args)), _) => export(args).await,
        (None, Some(args)) => view(args).await,
        (None, None) => Err(Failure::misconfigured("--config FILE is needed")),
    }
}

async fn view(args: &ViewArgs) -> Result<(), Failure> {
    let config = app::load(&args.config)?;
    offsets::open(&config).await?;
    let view = progress::view(&config).await?;
    if let Some((lane, _)) = view.ages.iter().find(|(_, age)| age.is_none()) {
        let (topic, partition) = (view.policy.topics.name(*lane), partition_of(*lane));
        tracing::warn!(topic, partition, "the oldest unread record could not be read in time: its age is not known");
    }
    let report = ViewReport(&view);
    print(&match args.output {
        Output::Table => report.table(),
        Output::Json => vec![report.json().to_string()],
    })
}

async fn reset(args: &ResetArgs) -> Result<(), Failure> {
    let config = app::load(&args.config)?;
    let request = ResetRequest {
        target: args.target.target(SystemClock::default().now()),
        topics: args.topic.clone(),
        partitions: args.partition.clone(),
        export: args.export.clone(),
        execute: args.execute,
    };
    let done = offsets::reset(&config, &request).await?;
    if let Some(refused) = &done.refused {
        tracing::warn!("with --execute this would be refused now: {refused}");
    }
    let undo = done.saved.as_ref().map(|file| undo(&args.config, file));
    let report =
        ResetReport { group_id: &config.kafka.group_id, reset: &done, executed: args.execute, undo: undo.as_deref() };
    print(&match args.output {
        Output::Table => report.table(),
        Output::Json => vec![report.json().to_string()],
    })?;
    let partly = done.moves.iter().any(|one| !one.chosen);
    note(&format!(
        "The next run of group {} begins a new lineage there{}: keys that are still over their threshold are alerted again, with new ids.",
        config.kafka.group_id,
        if partly { ", also in the partitions that keep their offsets" } else { "" },
    ));
    match (&done.saved, undo, args.execute) {
        (_, _, false) => note("Nothing was changed. Add --execute to do it."),
        (Some(file), Some(undo), true) => note(&format!(
            "Done. The previous offsets are saved in {}; this puts them back, as a new lineage:\n  {undo}",
            file.display()
        )),
        (_, _, true) => note(
            "Done. The group had no offsets before, so none were saved; to undo it, delete the group with kafka-consumer-groups --delete.",
        ),
    }
    Ok(())
}

async fn export(args: &ExportArgs) -> Result<(), Failure> {
    let config = app::load(&args.config)?;
    let text = offsets::export(&config).await?;
    match &args.file {
        Some(file) => offsets::write_new(file, &text),
        None => print(&text.lines().map(str::to_owned).collect::<Vec<_>>()),
    }
}

/// The command that restores the offsets.
fn undo(config: &Path, file: &Path) -> String {
    let [config, file] = [config, file].map(|path| quoted(&path.display().to_string()));
    format!("tripline offsets reset --config {config} --from-file {file} --execute")
}

/// Quotes a word for a shell command.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%:,=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
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
