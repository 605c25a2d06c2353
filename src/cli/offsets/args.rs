//! Arguments of `tripline offsets` and its commands.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::app::offsets::Target;
use crate::cli::{EXIT_CODES, Output};
use crate::model::{NextOffset, Timestamp, duration};

const NEXT_OFFSETS: &str = "\
All numbers are next offsets, as Kafka counts them: of the next record to be read, not of the last one that was.";

pub(crate) const EXAMPLES: &str = "\
Examples:
  tripline offsets --config tripline.toml
  tripline offsets export --config tripline.toml offsets.csv
  tripline offsets reset --config tripline.toml --by-duration 24h
  tripline offsets reset --config tripline.toml --by-duration 24h --execute

CHECKPOINT is what the newest epoch of the checkpoint folder says, GROUP what the consumer group has committed. LAG
counts the records from where the next start goes on to the end, LAG-SECONDS is the age of the oldest of them.
All numbers are next offsets, as Kafka counts them: of the next record to be read, not of the last one that was.";

const RESET_EXAMPLES: &str = "\
Examples:
  tripline offsets reset --config tripline.toml --to-earliest
  tripline offsets reset --config tripline.toml --to-datetime 2026-11-22T10:00:00Z --execute
  tripline offsets reset --config tripline.toml --shift-by -100 --partition 0 --execute
  tripline offsets reset --config tripline.toml --from-file before.csv --execute

What is moved by hand is an order: the next run begins a new lineage there, in all partitions. Alerts that still hold
are told again, under new ids. The group must have no active member: stop the run first. One that was stopped can count
as active until its session times out (10 s).";

/// Arguments of `tripline offsets`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct OffsetsArgs {
    /// The subcommand. `None`: show the offsets.
    #[command(subcommand)]
    pub command: Option<OffsetsCommand>,

    /// The arguments for showing.
    #[command(flatten)]
    pub view: Option<ViewArgs>,
}

/// The subcommands of `tripline offsets`.
#[derive(Debug, Subcommand)]
pub enum OffsetsCommand {
    /// Move the group to other offsets. Without --execute it only shows what it would do
    #[command(after_help = format!("{RESET_EXAMPLES}\n{NEXT_OFFSETS}\n\n{EXIT_CODES}"))]
    Reset(ResetArgs),

    /// Write the group's offsets as CSV, which `reset --from-file` and Kafka's own tool read
    #[command(after_help = format!(
        "Lines are topic,partition,offset. A partition without an offset, beside others that have one, is written with its\n\
         oldest offset, where the next start would read it.\n{NEXT_OFFSETS}\n\n{EXIT_CODES}"
    ))]
    Export(ExportArgs),
}

/// Arguments of `tripline offsets` alone.
#[derive(Debug, Args)]
pub struct ViewArgs {
    /// The configuration file (TOML)
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,

    /// A table for people, or one JSON object
    #[arg(long, short, default_value = "table")]
    pub output: Output,
}

/// Arguments of `tripline offsets reset`.
#[derive(Debug, Args)]
pub struct ResetArgs {
    /// The configuration file (TOML)
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,

    /// The new offsets.
    #[command(flatten)]
    pub target: TargetArgs,

    /// Only this topic. Can be given several times. By default all of them
    #[arg(long, value_name = "NAME", conflicts_with = "from_file")]
    pub topic: Vec<String>,

    /// Only this partition, of one topic. Can be given several times. By default all of them
    #[arg(long, value_name = "P", conflicts_with = "from_file", value_parser = clap::value_parser!(i32).range(0..))]
    pub partition: Vec<i32>,

    /// The file that gets the present offsets as CSV before they are moved. By default it is in the checkpoint folder
    #[arg(long, value_name = "FILE")]
    pub export: Option<PathBuf>,

    /// Do it
    #[arg(long)]
    pub execute: bool,

    /// A table for people, or one JSON object
    #[arg(long, short, default_value = "table")]
    pub output: Output,
}

/// The new offsets. Exactly one of these must be given.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct TargetArgs {
    /// To the oldest record that the topic still has
    #[arg(long)]
    pub to_earliest: bool,

    /// Past the newest record
    #[arg(long)]
    pub to_latest: bool,

    /// To this offset
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    pub to_offset: Option<i64>,

    /// To the first record not older than this instant, e.g. 2026-11-22T10:00:00Z. If there is none, to the end
    #[arg(long, value_name = "RFC3339", value_parser = datetime)]
    pub to_datetime: Option<Timestamp>,

    /// To the first record not older than this long before now, e.g. 90s, 15m, 24h, 7d or PT1H30M
    #[arg(long, value_name = "DURATION", value_parser = any_duration)]
    pub by_duration: Option<Micros>,

    /// Shift each offset by N records (negative: backwards)
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub shift_by: Option<i64>,

    /// To the offsets of a CSV file with lines topic,partition,offset, as `export` and Kafka's own tool write it.
    /// Partitions that are not in the file keep their offsets
    #[arg(long, value_name = "CSV")]
    pub from_file: Option<PathBuf>,
}

/// A duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Micros(pub i64);

impl TargetArgs {
    /// Returns the target that was given. Clap ensures that there is one.
    pub(super) fn target(&self, now: Timestamp) -> Target {
        let ago = |Micros(micros): Micros| Target::At(Timestamp(now.0.saturating_sub(micros)));
        None.or_else(|| self.to_offset.map(|next| Target::Offset(NextOffset(next))))
            .or_else(|| self.to_datetime.map(Target::At))
            .or_else(|| self.by_duration.map(ago))
            .or_else(|| self.shift_by.map(Target::Shift))
            .or_else(|| self.from_file.clone().map(Target::File))
            .unwrap_or(if self.to_latest { Target::Latest } else { Target::Earliest })
    }
}

/// Arguments of `tripline offsets export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The file to write. By default standard output
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// The configuration file (TOML)
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,
}

fn datetime(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| "write an instant with its zone, such as 2026-11-22T10:00:00Z".to_owned())
}

fn any_duration(text: &str) -> Result<Micros, String> {
    let micros = duration::parse(text).or_else(|| duration::parse_iso(text));
    micros.map(Micros).ok_or_else(|| "write a duration such as 90s, 15m, 24h, 7d, 2w, PT1H30M or P7D".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use clap::error::ErrorKind;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(args: &[&str]) -> Result<OffsetsArgs, ErrorKind> {
        match Cli::try_parse_from(["tripline", "offsets"].iter().chain(args)) {
            Ok(Cli { command: Command::Offsets(offsets) }) => Ok(offsets),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.kind()),
        }
    }

    #[test]
    fn shown_without_a_command() {
        let shown = parse(&["--config", "a.toml", "--output", "json"]).unwrap();
        assert!(shown.command.is_none());
        let view = shown.view.unwrap();
        assert_eq!((view.config.to_str(), view.output), (Some("a.toml"), Output::Json));
        for wrong in [&[][..], &["--output", "json"]] {
            assert_eq!(parse(wrong).map(drop), Err(ErrorKind::MissingRequiredArgument), "{wrong:?}");
        }
        assert_eq!(parse(&["-c", "a.toml", "export", "-c", "a.toml"]).map(drop), Err(ErrorKind::ArgumentConflict));
    }

    #[test]
    fn exactly_one_target() {
        let reset = |args: &[&str]| parse(&[&["reset", "-c", "a.toml"], args].concat());
        let check = |args: &[&str], want: Target| {
            let Some(OffsetsCommand::Reset(reset)) = reset(args).unwrap().command else { panic!("{args:?}") };
            assert_eq!(reset.target.target(Timestamp(100_000_000)), want, "{args:?}");
            assert!(!reset.execute);
        };
        check(&["--to-earliest"], Target::Earliest);
        check(&["--to-latest"], Target::Latest);
        check(&["--to-offset", "5"], Target::Offset(NextOffset(5)));
        check(&["--to-datetime", "1970-01-01T00:00:05Z"], Target::At(Timestamp(5_000_000)));
        check(&["--by-duration", "90s"], Target::At(Timestamp(10_000_000)));
        check(&["--by-duration", "PT1M"], Target::At(Timestamp(40_000_000)));
        check(&["--shift-by", "-3"], Target::Shift(-3));
        check(&["--shift-by=3", "--partition", "0", "--partition", "2"], Target::Shift(3));
        check(&["--from-file", "b.csv"], Target::File("b.csv".into()));
        for (wrong, kind) in [
            (&[][..], ErrorKind::MissingRequiredArgument),
            (&["--to-earliest", "--to-latest"], ErrorKind::ArgumentConflict),
            (&["--from-file", "b.csv", "--partition", "0"], ErrorKind::ArgumentConflict),
            (&["--to-offset", "-1"], ErrorKind::UnknownArgument),
            (&["--to-offset=-1"], ErrorKind::ValueValidation),
            (&["--to-datetime", "2026-11-22T10:00:00"], ErrorKind::ValueValidation),
            (&["--by-duration", "soon"], ErrorKind::ValueValidation),
        ] {
            assert_eq!(reset(wrong).map(drop), Err(kind), "{wrong:?}");
        }
    }

    #[test]
    fn durations() {
        let check = |text: &str, seconds: Option<i64>| {
            let want = seconds.map(|seconds| Micros(seconds * 1_000_000));
            assert_eq!(any_duration(text).ok(), want, "{text}");
        };
        check("90s", Some(90));
        check("2w", Some(1_209_600));
        check("PT1H30M", Some(5_400));
        check("P7D", Some(604_800));
        check("P1DT2H3M4S", Some(93_784));
        check("pt45s", Some(45));
        check("PT0S", Some(0));
        for text in
            ["", "P", "PT", "P1DT", "1H", "P1H", "PT1D", "PT1M1H", "PT-1H", "PT1.5S", "P1Y", "P1W", "PT1HX", "T1H"]
        {
            check(text, None);
        }
    }
}
