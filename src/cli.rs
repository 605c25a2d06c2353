//! The command line: arguments, one call of the application, and what is printed.
//!
//! - [`demo`], [`run`], [`archive`], [`reprocess`]: the jobs
//! - [`migrate`], [`alerts`], [`explain`]: the table of alerts
//! - [`completions`]: for shells, and man pages
//! - [`offsets`], [`doctor`], [`healthcheck`]: inspecting a run
//! - `terminal`: how all of them print
//! - `progress_bar`: a job's progress on standard error

pub mod alerts;
pub mod archive;
pub mod completions;
pub mod demo;
pub mod doctor;
pub mod explain;
pub mod healthcheck;
pub mod migrate;
pub mod offsets;
mod progress_bar;
pub mod reprocess;
pub mod run;
mod terminal;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use uuid::Uuid;

use crate::episode::Status;
use crate::model::{Timestamp, duration};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  unexpected failure
  2  command line or configuration wrong (unknown key, bad SQL, missing table or column)
  3  a server could not be reached
  4  a server refused (password, rights)
  5  stopped to protect data";

const EXAMPLES: &str = "\
Examples:
  tripline demo
  tripline run --config tripline.toml";

const RUN_EXAMPLES: &str = "\
Examples:
  tripline run --config tripline.toml
  TRIPLINE__POSTGRES__URL=postgres://… tripline run --config tripline.toml
  tripline run --config tripline.toml --until-end

Any setting but the rules can be given as an environment variable TRIPLINE__SECTION__KEY, which wins over the
file. RUST_LOG sets what is logged; NO_COLOR turns colours off.";

const REPROCESS_EXAMPLES: &str = "\
Examples:
  tripline reprocess --config tripline.toml --dry-run
  tripline reprocess --config tripline.toml
  tripline reprocess --config tripline.toml --to flink-monitor-group-v5 --output json

The next group of …-v3 is …-v4. It must be new: without a checkpoint folder, offsets or episodes. Its alerts go to the
configured sinks under new ids, but for their lines, which go to standard error. With --dry-run nothing is sent or kept.
At the end the open episodes are compared with those of the previous group, as Kafka has them.";

const MIGRATE_EXAMPLES: &str = "\
Examples:
  tripline migrate --config tripline.toml
  TRIPLINE__ALERTS__POSTGRES__URL=postgres://owner:…@host/db tripline migrate --config tripline.toml

docs/table.md has the rights that writers and readers need.";

const ALERTS_EXAMPLES: &str = "\
Examples:
  tripline alerts --config tripline.toml --status firing --since 24h
  tripline alerts --config tripline.toml --key 27956157 --output json
  tripline alerts --config tripline.toml --follow

The last column is the id that `tripline explain` takes.";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  tripline explain 1c0c2f6e-… --config tripline.toml
  tripline explain --from alert.json --config tripline.toml
  kcat -C -t tripline.alerts -e | tripline explain 1c0c2f6e-… --from - --config tripline.toml";

/// Threshold and fraud alerts over a Debezium change stream, each one confirmed by Postgres before it is raised
#[derive(Debug, Parser)]
#[command(name = "tripline", version, after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub struct Cli {
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a self-contained demo: temporary PostgreSQL, simulated purchases, live alerts (60 s)
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", demo::EXAMPLES))]
    Demo(demo::DemoArgs),

    /// Watch the change stream and raise alerts, until stopped by Ctrl-C or SIGTERM
    #[command(after_help = format!("{RUN_EXAMPLES}\n\n{EXIT_CODES}"))]
    Run(RunArgs),

    /// Read everything again as a new group, and compare the open episodes with those of the old one
    #[command(after_help = format!("{REPROCESS_EXAMPLES}\n\n{EXIT_CODES}"))]
    Reprocess(ReprocessArgs),

    /// Make the table tripline.alerts, or bring it up to date
    #[command(after_help = format!("{MIGRATE_EXAMPLES}\n\n{EXIT_CODES}"))]
    Migrate(MigrateArgs),

    /// List the group's alerts in the table, newest first, or follow them, oldest first, until stopped by Ctrl-C
    #[command(after_help = format!("{ALERTS_EXAMPLES}\n\n{EXIT_CODES}"))]
    Alerts(AlertsArgs),

    /// Explain why an alert fired: rows, totals, snapshot, latencies, and what has changed since
    #[command(after_help = format!("{EXPLAIN_EXAMPLES}\n\n{EXIT_CODES}"))]
    Explain(ExplainArgs),

    /// Write the changes of a topic to Parquet files by date, each of them once, until stopped by Ctrl-C or SIGTERM
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", archive::EXAMPLES))]
    Archive(archive::ArchiveArgs),

    /// Show or reset consumer-group and checkpoint offsets
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", offsets::args::EXAMPLES))]
    Offsets(offsets::args::OffsetsArgs),

    /// Check everything that a run needs, on every server, and suggest fixes
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(doctor::DoctorArgs),

    /// Exit with 0 if a run with this configuration is alive and makes progress here, else with 1
    #[command(after_help = healthcheck::NOTES)]
    Healthcheck(healthcheck::HealthcheckArgs),

    /// Print the completions of a shell
    #[command(after_help = completions::EXAMPLES)]
    Completions(completions::CompletionsArgs),

    /// Write the man pages into a folder
    #[command(after_help = completions::MAN_EXAMPLES)]
    Man(completions::ManArgs),
}

/// Arguments of `tripline run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The configuration file (TOML)
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,

    /// Stop where the topic ended at the start, and print what was done as one line of JSON
    #[arg(long)]
    pub until_end: bool,
}

/// Arguments of `tripline reprocess`.
#[derive(Debug, Args)]
pub struct ReprocessArgs {
    /// The configuration file (TOML). Its `kafka.group_id` is the group to compare with
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,

    /// The new group. By default the one that follows: …-v4 after …-v3
    #[arg(long, value_name = "GROUP", value_parser = group)]
    pub to: Option<String>,

    /// Only compare: send no alert, commit nothing, keep nothing. Postgres is asked all the same
    #[arg(long)]
    pub dry_run: bool,

    /// The former name of `--dry-run`
    #[arg(long, hide = true)]
    pub shadow: bool,

    /// A table for people, or one JSON object
    #[arg(long, short, default_value = "table")]
    pub output: Output,
}

/// Arguments of `tripline migrate`.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// The configuration file (TOML)
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,

    /// The database's URL, for a role that may make the table. By default alerts.postgres.url, else postgres.url. Other
    /// users can see a command line, so a password is better given in the environment
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
}

/// Arguments of `tripline alerts`.
#[derive(Debug, Args)]
pub struct AlertsArgs {
    /// The configuration file (TOML)
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,

    /// Also alerts of other consumer groups, e.g. of the group before a change of kafka.group_id
    #[arg(long)]
    pub all_groups: bool,

    /// Only alerts of this rule
    #[arg(long, value_name = "NAME")]
    pub rule: Option<String>,

    /// Only alerts of this status
    #[arg(long, value_name = "firing|resolved", value_parser = status)]
    pub status: Option<Status>,

    /// Only alerts of this key, e.g. a user's id
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true)]
    pub key: Option<String>,

    /// Only alerts of this severity
    #[arg(long, value_name = "SEVERITY")]
    pub severity: Option<String>,

    /// Only alerts since then: a duration such as 90s, 15m, 24h, 7d, 2w, or an instant such as 2026-11-22T10:00:00Z
    #[arg(long, value_name = "DURATION|RFC3339", value_parser = since)]
    pub since: Option<Since>,

    /// The greatest number of alerts. With --follow, the number to begin with
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub limit: u32,

    /// Go on with new alerts as they come
    #[arg(long, short)]
    pub follow: bool,

    /// A table for people, or one JSON record per line
    #[arg(long, short, default_value = "table")]
    pub output: Output,
}

/// Arguments of `tripline explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The alert's id
    #[arg(value_name = "ID", required_unless_present = "from")]
    pub id: Option<Uuid>,

    /// The configuration file (TOML)
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,

    /// Take the alert from a file of JSON records, or `-` for standard input, rather than from the table
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,

    /// Text for people, or one JSON object
    #[arg(long, short, default_value = "text")]
    pub output: Explanation,
}

/// How lists are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Aligned columns.
    Table,
    /// JSON.
    Json,
}

/// How an explanation is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Explanation {
    /// For people.
    Text,
    /// One object.
    Json,
}

/// A point in time on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// This many microseconds ago.
    Ago(i64),
    /// This instant.
    At(Timestamp),
}

impl Since {
    /// The instant, given the present one.
    pub fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Ago(micros) => Timestamp(now.0.saturating_sub(micros)),
            Self::At(at) => at,
        }
    }
}

fn since(text: &str) -> Result<Since, String> {
    let at = Timestamp::parse(text).map(Since::At);
    at.or_else(|| duration::parse(text).map(Since::Ago)).ok_or_else(|| {
        "write a duration such as 90s, 15m, 24h, 7d, 2w, or an instant such as 2026-11-22T10:00:00Z".to_owned()
    })
}

fn group(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("a group has a name".to_owned());
    }
    crate::config::check_group_id(text).map(|()| text.to_owned())
}

fn status(text: &str) -> Result<Status, String> {
    match text {
        "firing" => Ok(Status::Firing),
        "resolved" => Ok(Status::Resolved),
        _ => Err("it is firing or resolved".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::{Cli, Command, Parser, Since, Timestamp, since};
    use crate::failure::Exit;

    #[test]
    fn definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_takes_a_file() {
        let parsed =
            Cli::try_parse_from(["tripline", "run", "--config", "a.toml", "--until-end"]).map(|cli| cli.command);
        assert!(
            matches!(&parsed, Ok(Command::Run(run)) if run.config.as_os_str() == "a.toml" && run.until_end),
            "{parsed:?}"
        );
    }

    #[test]
    fn a_group_to_reprocess_as_is_checked() {
        let parse = |to: &str| Cli::try_parse_from(["tripline", "reprocess", "-c", "a.toml", "--to", to]);
        assert!(matches!(
            parse("g-v4").map(|cli| cli.command),
            Ok(Command::Reprocess(args)) if args.to.as_deref() == Some("g-v4") && !args.dry_run
        ));
        assert_eq!(parse("../g").map(drop).map_err(|e| e.kind()), Err(clap::error::ErrorKind::ValueValidation));
        assert_eq!(parse("").map(drop).map_err(|e| e.kind()), Err(clap::error::ErrorKind::ValueValidation));
    }

    #[test]
    fn points_in_time() {
        let check = |text: &str, want: Option<Since>| assert_eq!(since(text).ok(), want, "{text}");
        check("90s", Some(Since::Ago(90_000_000)));
        check("15m", Some(Since::Ago(900_000_000)));
        check("7d", Some(Since::Ago(604_800_000_000)));
        check("1970-01-01T00:00:01Z", Some(Since::At(Timestamp(1_000_000))));
        check("1970-01-01T01:00:01+01:00", Some(Since::At(Timestamp(1_000_000))));
        for text in ["", "s", "-5m", "5", "5y", "1.5h", "yesterday", "99999999999w"] {
            check(text, None);
        }
        assert_eq!(Since::Ago(5).at(Timestamp(7)), Timestamp(2));
    }

    #[test]
    fn an_alert_is_explained_by_id_or_from_a_file() {
        let parse = |args: &[&str]| {
            let all = ["tripline", "explain", "--config", "a.toml"].iter().chain(args);
            Cli::try_parse_from(all).map(drop).map_err(|error| error.kind())
        };
        assert_eq!(parse(&["1c0c0000-0000-5000-8000-000000000000"]), Ok(()));
        assert_eq!(parse(&["--from", "-"]), Ok(()));
        assert_eq!(parse(&[]), Err(clap::error::ErrorKind::MissingRequiredArgument));
        assert_eq!(parse(&["5"]), Err(clap::error::ErrorKind::ValueValidation));
    }

    #[test]
    fn a_wrong_command_line_ends_like_a_wrong_configuration() {
        let error = Cli::try_parse_from(["tripline", "run"]).map(|_| ()).map_err(|error| error.exit_code());
        assert_eq!(error, Err(i32::from(Exit::Misconfigured.code())));
    }

    #[test]
    fn every_exit_code_is_in_the_help() {
        let help = Cli::command().render_help().to_string();
        for exit in [Exit::Done, Exit::Failed, Exit::Misconfigured, Exit::Unreachable, Exit::Refused, Exit::Protected] {
            assert!(help.contains(&format!("\n  {}  ", exit.code())), "{exit:?} in {help}");
        }
    }
}
