//! Settings: the built-in defaults, the user's file, the environment → one validated [`Config`].
//!
//! - `layers`: where values come from, and which layer wins
//! - `reader`: typed reading of one section; every problem is collected with its key and its origin
//! - `settings`: which keys there are, and what they may hold
//! - `sources`: the topics of changes
//! - `checks`: what names, addresses and URLs must look like
//!
//! Only [`Config`] travels through the program. Values are read by `reader` rather than by serde, because the
//! `config` crate's deserializer stops at the first error, does not know which file an unknown key stands in,
//! prints the value that it refuses (which may be a password) and takes `true`, `"on"` and `1.6` for integers.

mod checks;
mod layers;
mod reader;
mod settings;
mod sources;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, io};

use crate::change::debezium::{self, BinaryHandling, DecimalHandling, TimePrecision};
use crate::progress::StartAt;
use crate::rule::text::Pace;
use crate::rule::{Confirm, Evaluate, Time};
use crate::telemetry::Format;

pub(crate) use checks::group_id as check_group_id;
pub use checks::{connect_url as check_connect_url, postgres_url as check_url, redact_url, without_login};
pub use reader::Problem;

/// What names of environment variables start with: `TRIPLINE__SECTION__KEY`.
pub const ENVIRONMENT_PREFIX: &str = "TRIPLINE__";

/// Everything that can be set, validated. Its `Debug` output shows no password.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// How long unreachable servers are waited for at start.
    pub startup_wait: Duration,
    /// The Kafka cluster and the consumer group.
    pub kafka: Kafka,
    /// The first topic of changes and how its records are read.
    pub source: Source,
    /// All topics of changes with their tables; never empty. `[source]` alone is the only one.
    pub sources: Vec<Source>,
    /// The database that confirms.
    pub postgres: Postgres,
    /// Where and how often progress is stored.
    pub checkpoint: Checkpoint,
    /// How often memory is compared with the table, and at what cost.
    pub audit: Audit,
    /// Bounds on memory.
    pub limits: Limits,
    /// The rules as written, in the file's order; never empty, names unique.
    pub rules: Vec<RuleSettings>,
    /// Where alerts go.
    pub alerts: Alerts,
    /// The page, where it is on.
    pub web: Option<Web>,
    /// Kafka Connect, for `tripline doctor`.
    pub connect: Option<Connect>,
    /// The program's own log.
    pub log: Log,
}

/// Everything that can be set for the archive, validated. Its `Debug` output shows no password.
#[derive(Clone, Debug, PartialEq)]
pub struct ArchiveConfig {
    /// How long unreachable servers are waited for at start.
    pub startup_wait: Duration,
    /// The Kafka cluster; the group is that of `[archive]`.
    pub kafka: Kafka,
    /// How records are read; the topic is that of `[archive]`.
    pub source: Source,
    /// The database whose catalog says what the columns are, where one is given.
    pub postgres: Option<Postgres>,
    /// What is archived, and where.
    pub archive: Archive,
    /// The program's own log.
    pub log: Log,
}

/// `[archive]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// The topic of changes.
    pub topic: String,
    /// The consumer group.
    pub group_id: String,
    /// Where it starts that nothing is known of.
    pub starting_offsets: StartAt,
    /// The folder of progress.
    pub checkpoint_dir: PathBuf,
    /// The folder of the Parquet files.
    pub output_path: PathBuf,
    /// Records of an epoch at most.
    pub max_offsets_per_trigger: usize,
    /// The longest time between two epochs.
    pub trigger_interval: Duration,
    /// The column whose date names the folder of a row; `None`: the commit time of the change.
    pub partition_by: Option<String>,
    /// What happens when the group's offsets are gone and the checkpoint is there.
    pub when_group_is_missing: WhenGroupIsMissing,
}

/// `[kafka]`
#[derive(Clone, PartialEq, Eq)]
pub struct Kafka {
    /// `host:port`, comma-separated.
    pub bootstrap_servers: String,
    /// The consumer group; also the name of its folder under [`Checkpoint::dir`].
    pub group_id: String,
    /// Where a group without any progress starts.
    pub auto_offset_reset: StartAt,
    /// What happens when the group's offsets are gone and the checkpoint is there.
    pub when_group_is_missing: WhenGroupIsMissing,
    /// How long a transaction of alerts may be open before the broker aborts it.
    pub transaction_timeout: Duration,
    /// Further librdkafka settings by their dotted names; values may be secrets.
    pub properties: BTreeMap<String, String>,
}

/// Names of the properties only: their values may be passwords.
impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let properties: BTreeMap<&str, &str> = self.properties.keys().map(|name| (name.as_str(), "***")).collect();
        f.debug_struct("Kafka")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("group_id", &self.group_id)
            .field("auto_offset_reset", &self.auto_offset_reset)
            .field("when_group_is_missing", &self.when_group_is_missing)
            .field("transaction_timeout", &self.transaction_timeout)
            .field("properties", &properties)
            .finish()
    }
}

/// What happens when the group's offsets are gone and the checkpoint is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenGroupIsMissing {
    /// They were deleted to have everything read again, unless they have expired.
    Reprocess,
    /// On from the checkpoint.
    Resume,
}

/// What happens to open episodes when their rule has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnRuleChange {
    /// They go on.
    Carry,
    /// They are forgotten, and what holds fires anew.
    Refire,
}

/// `[source]`
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// The topic of changes.
    pub topic: String,
    /// The table whose changes it has, as `schema.name`; `None`: the one that the topic is named after.
    pub table: Option<String>,
    /// How records are written, and what stands around a row.
    pub format: SourceFormat,
    /// Where the schemas of Avro are.
    pub schema_registry: Option<SchemaRegistry>,
    /// The connector's `decimal.handling.mode`.
    pub decimals: DecimalHandling,
    /// The connector's `time.precision.mode`.
    pub times: TimePrecision,
    /// The connector's `binary.handling.mode`.
    pub binary: BinaryHandling,
    /// The connector's `unavailable.value.placeholder`.
    pub unavailable_value_placeholder: String,
    /// Whether the converter keeps NULL in a column that has a default.
    pub connector_keeps_nulls: bool,
    /// What happens at a record that cannot be understood.
    pub on_bad_record: OnBadRecord,
    /// Where such records are copied to.
    pub dead_letter_topic: String,
}

impl Source {
    /// What the records do not say themselves.
    pub fn encodings(&self) -> debezium::Settings {
        debezium::Settings {
            decimals: self.decimals,
            times: self.times,
            binary: self.binary,
            shape: self.format.shape(),
        }
    }
}

/// `source.format`
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceFormat {
    /// Each record shows it.
    Auto,
    /// Debezium's envelope in JSON.
    Json,
    /// Rows in JSON, which ExtractNewRecordState has unwrapped.
    JsonUnwrapped,
    /// Debezium's envelope in Avro.
    Avro,
    /// Rows in Avro.
    AvroUnwrapped,
}

impl SourceFormat {
    /// What stands around a row.
    pub fn shape(self) -> debezium::Shape {
        match self {
            Self::Auto => debezium::Shape::Auto,
            Self::Json | Self::Avro => debezium::Shape::Envelope,
            Self::JsonUnwrapped | Self::AvroUnwrapped => debezium::Shape::Row,
        }
    }
}

/// `[source.schema_registry]`
#[derive(Clone, PartialEq, Eq)]
pub struct SchemaRegistry {
    /// `https://host:port/path`
    pub url: String,
    /// User and password.
    pub login: Option<(String, String)>,
    /// A file of certificates in PEM: the authorities that are trusted, and no others.
    pub ca: Option<PathBuf>,
}

/// Without the password.
impl fmt::Debug for SchemaRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.login.as_ref().map(|(user, _)| user);
        f.debug_struct("SchemaRegistry").field("url", &self.url).field("user", &user).field("ca", &self.ca).finish()
    }
}

/// What happens at a record that cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnBadRecord {
    /// It is copied to the dead-letter topic, and the stream goes on.
    DeadLetter,
    /// The program stops at it.
    Stop,
}

/// `[postgres]`
#[derive(Clone, PartialEq, Eq)]
pub struct Postgres {
    /// `postgres://user:password@host:port/database?…`; a secret, print it by [`redact_url`] only.
    pub url: String,
    /// The longest that one confirming statement may run.
    pub statement_timeout: Duration,
    /// Connections at once, at most.
    pub max_connections: u32,
    /// Keys asked for in one statement, at most.
    pub keys_per_statement: usize,
    /// How often the whole rule is run, to find keys that the stream missed; `None`: never.
    pub sweep_interval: Option<Duration>,
    /// The time zone of rules that name none; `None`: that of a plain session of the role in the database.
    pub time_zone: Option<String>,
}

/// The URL without its password.
impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres")
            .field("url", &redact_url(&self.url))
            .field("statement_timeout", &self.statement_timeout)
            .field("max_connections", &self.max_connections)
            .field("keys_per_statement", &self.keys_per_statement)
            .field("sweep_interval", &self.sweep_interval)
            .field("time_zone", &self.time_zone)
            .finish()
    }
}

/// `[checkpoint]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The folder that holds one folder per group; relative to the working directory.
    pub dir: PathBuf,
    /// The longest time between two epochs.
    pub trigger_interval: Duration,
    /// Time between two stored copies of the state.
    pub state_interval: Duration,
    /// What happens to open episodes when their rule has changed.
    pub on_rule_change: OnRuleChange,
    /// The topic that keeps a copy of every open episode.
    pub episodes_topic: String,
}

/// `[audit]`: memory is compared with the table, key by key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audit {
    /// How long a cycle over all keys takes, unless the bound on its cost makes it longer.
    pub period: Duration,
    /// Statement seconds per second at most, in millionths: one budget for audit, sweep and repairs.
    pub max_database_share: u32,
}

/// `[limits]`: at a bound reading pauses, and nothing is dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Rows held over all rules; `None`: no bound.
    pub max_rows: Option<usize>,
    /// The process's resident memory in MiB; `None`: no bound.
    pub max_rss_mb: Option<usize>,
}

/// One `[[rules]]` entry: its SQL is not yet parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSettings {
    /// Unique; 1 to 64 of `A-Z a-z 0-9 . _ -`.
    pub name: String,
    /// Free text of at most 64 characters, by custom `info`, `warning` or `critical`.
    pub severity: String,
    /// The template of an alert's message, if one is given.
    pub message: Option<String>,
    /// The query.
    pub sql: String,
    /// What NOW() is in it.
    pub time: Time,
    /// Whether Postgres is asked before an alert.
    pub confirm: Confirm,
    /// The time zone of its session; `None`: that of `[postgres]`.
    pub time_zone: Option<String>,
    /// Who evaluates it.
    pub evaluate: Evaluate,
    /// The outputs that are its key, where Postgres evaluates it; empty: the columns of GROUP BY.
    pub key: Vec<String>,
    /// When Postgres is asked, where it evaluates the rule.
    pub pace: Pace,
}

/// `[alerts.…]`: each sink is on when its section is present; the log alone when none is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alerts {
    /// Alert lines on standard output.
    pub log: bool,
    /// Alert records in Kafka.
    pub kafka: Option<KafkaAlerts>,
    /// Alerts as rows of the table `tripline.alerts`.
    pub postgres: Option<PostgresAlerts>,
}

/// `[alerts.kafka]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaAlerts {
    /// The topic of alerts.
    pub topic: String,
}

/// `[alerts.postgres]`
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresAlerts {
    /// The database of the table, by default that of [`Postgres::url`]; a secret, print it by [`redact_url`] only.
    pub url: String,
    /// Whether the table's migrations run at start.
    pub migrate: bool,
}

/// The URL without its password.
impl fmt::Debug for PostgresAlerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresAlerts").field("url", &redact_url(&self.url)).field("migrate", &self.migrate).finish()
    }
}

/// `[web]`: the page, health and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Web {
    /// Where it listens: on the loopback, unless others are allowed.
    pub listen: SocketAddr,
    /// Further names by which it is reached.
    pub hosts: Vec<String>,
}

/// `[connect]`
#[derive(Clone, PartialEq, Eq)]
pub struct Connect {
    /// `http://user:password@host:port`; a secret, print it by [`without_login`] only.
    pub url: String,
}

/// The URL without its login.
impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect").field("url", &without_login(&self.url)).finish()
    }
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A level, or a filter such as `info,tripline::source=debug`; known to parse.
    pub level: String,
    /// How lines look.
    pub format: Format,
}

impl Config {
    /// Where the table of alerts is, or would be: `alerts.postgres.url`, else `postgres.url`; and the setting's name.
    pub fn table_url(&self) -> (&str, &'static str) {
        match &self.alerts.postgres {
            Some(table) if table.url != self.postgres.url => (&table.url, "alerts.postgres.url"),
            _ => (&self.postgres.url, "postgres.url"),
        }
    }
}

/// Why there is no configuration. The text says what is wrong, where, and what to do; it shows no secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is missing or may not be read.
    #[error("cannot read the configuration file {}: {source}; give the path of a readable file with --config", path.display())]
    Read {
        /// As given.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{}: {detail}", path.display())]
    Syntax {
        /// As given.
        path: PathBuf,
        /// Line and column, counted from 1, where known; and what is wrong there.
        detail: String,
    },
    /// Keys or values are wrong: everything that was found, one per line.
    #[error("{}", lines(.0))]
    Invalid(Vec<Problem>),
    /// The layers could not be laid over one another.
    #[error("the configuration cannot be put together: {0}")]
    Merge(#[from] ::config::ConfigError),
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

/// Reads the settings of `tripline archive` like [`load`]: `[archive]` is required, and neither `kafka.group_id`,
/// `source.topic`, `postgres.url` nor rules are. What the file holds for the other jobs is checked as well.
///
/// # Errors
///
/// As for [`load`].
pub fn load_archive(
    path: &Path,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<ArchiveConfig, ConfigError> {
    read(path, env, settings::read_archive)
}

/// Reads the built-in defaults, then the file at `path`, then those variables of `env` whose names start with
/// [`ENVIRONMENT_PREFIX`]; later ones win. Other variables are ignored. [`process_environment`] gives the
/// process's own.
///
/// # Errors
///
/// [`ConfigError`]: the file cannot be read or is not TOML; or keys are unknown, missing, of the wrong type or
/// out of range, all of them reported together.
pub fn load(path: &Path, env: impl IntoIterator<Item = (String, String)>) -> Result<Config, ConfigError> {
    read(path, env, settings::read)
}

fn read<T>(
    path: &Path,
    env: impl IntoIterator<Item = (String, String)>,
    settings: impl Fn(reader::Table, &reader::Report) -> Option<T>,
) -> Result<T, ConfigError> {
    let report = reader::Report::new(path.display().to_string());
    let layers = [layers::defaults()?, layers::file(path)?, layers::environment(env, &report)];
    let merged = layers::merge(layers, &report)?;
    let config = settings(merged, &report);
    match (config, report.into_problems()) {
        (Some(config), problems) if problems.is_empty() => Ok(config),
        (_, problems) => Err(ConfigError::Invalid(problems)),
    }
}

/// The process's variables that start with [`ENVIRONMENT_PREFIX`]. Unlike [`std::env::vars`] it does not panic
/// at variables that are not Unicode; what is not becomes U+FFFD.
pub fn process_environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX))
        .collect()
}
